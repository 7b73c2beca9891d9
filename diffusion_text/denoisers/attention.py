"""Attention over the real positions, and four ways to tell it where each position is."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusion_text.denoisers.base import sinusoidal
from diffusion_text.shapes import Mask
from diffusion_text.values import LONGEST, one_of, whole

Hidden = Float[Tensor, "batch length width"]
Rotation = Float[Tensor, "length half"]
PerHead = Float[Tensor, "batch heads length channels"]


class Attention(nn.Module):
    """Every position looks at every real one; `dropout` acts on the attention weights."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_key_value, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, h: Hidden, mask: Mask, rotation: Rotation | None) -> Hidden:
        query, key, value = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in self.query_key_value(h).chunk(3, dim=-1)
        )
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, mask[:, None, None, :], dropout)
        return self.join(attended.transpose(1, 2).flatten(2))


class Positions(nn.Module):
    """Adds a table to the input (learned, up to `max_length`, or sinusoidal), or gives attention its rotation (rotary).

    With none the network is equivariant to permutations of the positions: it cannot learn word order.
    """

    def __init__(self, kind: str, width: int, heads: int, max_length: int):
        super().__init__()
        self.kind = one_of(kind, "model.positions", ("rotary", "learned", "sinusoidal", "none"))
        self.head_width, max_length = width // heads, whole(max_length, "model.max_length", 1, LONGEST)
        self.learned = nn.Parameter(torch.randn(max_length, width) * 0.02) if kind == "learned" else None

    def forward(self, h: Hidden) -> tuple[Hidden, Rotation | None]:
        index = torch.arange(h.shape[1], device=h.device, dtype=torch.float32)
        if self.learned is not None:
            h = h + self.learned[: h.shape[1]]
        elif self.kind == "sinusoidal":
            h = h + sinusoidal(index, h.shape[-1]).to(h)
        return h, rotary_angles(index, self.head_width) if self.kind == "rotary" else None


def rotary_angles(positions: Float[Tensor, "length"], head_width: int) -> Rotation:
    """The angle by which each pair of channels turns at each position (Su et al. 2021)."""
    frequencies = 10_000 ** -(torch.arange(0, head_width, 2, device=positions.device) / head_width)
    return positions[:, None] * frequencies


def rotate(x: PerHead, angles: Rotation) -> PerHead:
    """Turn pairs of channels by their angles."""
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
