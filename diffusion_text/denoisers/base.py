"""What every denoiser is, and how each is told the time and the position."""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusion_text.shapes import Latents, Mask, Times


class Denoiser(nn.Module, ABC):
    """A network from a noisy latent to a prediction of the same shape.

    `self_conditioning` tells whether it reads `x_0_previous`, its own earlier estimate (Chen et al. 2023);
    the output is a linear function of `output_width` features a position, which bounds its rank.
    """

    self_conditioning: bool = False
    output_width: int

    @abstractmethod
    def forward(self, x_t: Latents, t: Times, mask: Mask, x_0_previous: Latents | None = None) -> Latents: ...

    def with_estimate(self, x_t: Latents, x_0_previous: Latents | None) -> Float[Tensor, "batch length channels"]:
        """x_t and, under self-conditioning, the earlier estimate beside it: 0 where there is none yet."""
        if not self.self_conditioning:
            return x_t
        return torch.cat([x_t, torch.zeros_like(x_t) if x_0_previous is None else x_0_previous], dim=-1)


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
