"""What every denoiser is, and how each is told the time and the position."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusion_text.shapes import Latents, Mask, Times

Estimates = Float[Tensor, "batch length estimated"]


class Denoiser(nn.Module, ABC):
    """A network from a noisy latent to a prediction of the same shape.

    Beside x_t it reads so many `estimates` of x_0, such as its own earlier one (Chen et al. 2023), side by side;
    the output is a linear function of `output_width` features a position, which bounds its rank. One that
    `takes_context` is built for vectors of `told` channels, and its `forward` reads a `context` of such.
    """

    estimates: int = 0
    takes_context: ClassVar[bool] = False
    output_width: int

    @abstractmethod
    def forward(self, x_t: Latents, t: Times, mask: Mask, estimates: Estimates | None = None) -> Latents: ...

    def with_estimates(self, x_t: Latents, estimates: Estimates | None) -> Float[Tensor, "batch length channels"]:
        """x_t and the estimates beside it: 0 where there are none yet."""
        if not self.estimates:
            return x_t
        if estimates is None:
            estimates = x_t.new_zeros(*x_t.shape[:2], self.estimates * x_t.shape[2])
        return torch.cat([x_t, estimates], dim=-1)


def sinusoidal(positions: Float[Tensor, "count"], dim: int) -> Float[Tensor, "count dim"]:
    """Sines and cosines of `positions` at `dim`/2 wavelengths from 2π to 20,000π (Vaswani et al. 2017, §3.5)."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(dim // 2, device=positions.device) / (dim // 2))
    angles = positions[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class TimeEmbedding(nn.Module):
    """t in [0, 1] to a vector: sinusoidal features of 1000·t, then two layers."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.hidden, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, t: Times) -> Float[Tensor, "batch width"]:
        features = sinusoidal(1000 * t, self.dim).to(self.hidden.weight.dtype)
        return self.out(F.silu(self.hidden(features)))
