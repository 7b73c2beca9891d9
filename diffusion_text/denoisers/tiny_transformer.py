"""The Diffusion-LM line's first denoiser: torch's encoder with a projection of t added to its input, and no more.

At dim = 256 it has 3 layers, 4 heads and 3.9 M parameters. What it cannot learn as published, and what repairs it:

1. Word order: it sees no positions, so it is equivariant to permutations, and from noise that is i.i.d. over positions
   every order of a sample's tokens is as likely as any other. `positions` repairs this.
2. Magnitude: its output is a raw LayerNorm. Up to one learned scale and shift a channel, each position's has mean 0 and
   norm √dim at every t: where unsure it cannot shrink towards the mean, as the squared error asks. `head`, a linear
   layer, repairs this by ignoring some of the norm's channels; the rank stays dim − 1 of dim.
"""

import math

import torch
from torch import nn

from diffusion_text.denoisers.attention import Attention, Hidden, Positions, Prefix, Rotation
from diffusion_text.denoisers.base import Denoiser
from diffusion_text.shapes import Context, Mask
from diffusion_text.values import DEEPEST, WIDEST, flag, number, whole


class TinyTransformer(Denoiser):
    """`depth` post-norm layers as wide as the latent; the defaults are the published network.

    `positions`: none, learned (up to `max_length`), sinusoidal or rotary. Only self-conditioning adds an input layer.
    """

    takes_context = True

    def __init__(
        self,
        dim: int,
        depth: int = 3,
        heads: int = 4,
        feed_forward: int = 2048,
        dropout: float = 0.1,
        positions: str = "none",
        max_length: int = 1024,
        head: bool = False,
        estimates: int = 0,
        told: int = 0,
    ):
        super().__init__()
        heads, depth = whole(heads, "model.heads", 1), whole(depth, "model.depth", 1, DEEPEST)
        feed_forward = whole(feed_forward, "model.feed_forward", 1, 4 * WIDEST)
        dropout, head = number(dropout, "model.dropout", least=0, below=1), flag(head, "model.head")
        factor = {"rotary": 2 * heads, "sinusoidal": math.lcm(2, heads)}.get(positions, heads)
        if dim % factor:
            both = f"model.positions={positions} and model.heads={heads}"
            raise ValueError(f"{both} need a text_space.dim that {factor} divides, not {dim}")
        self.estimates, self.output_width = estimates, dim
        self.enter = nn.Linear((1 + estimates) * dim, dim) if estimates else nn.Identity()
        self.time = nn.Linear(1, dim)
        self.positions = Positions(positions, dim, heads, max_length)
        self.prefix = Prefix(told, dim) if told else None
        self.layers = nn.ModuleList(Layer(dim, heads, feed_forward, dropout) for _ in range(depth))
        self.head = nn.Linear(dim, dim) if head else nn.Identity()

    def forward(self, x_t, t, mask, estimates=None, context: Context | None = None):
        h, seen = self.enter(self.with_estimates(x_t, estimates)) + self.time(t.to(x_t)[:, None, None]), mask
        at = torch.arange(mask.shape[1], device=h.device, dtype=torch.float32)
        if self.prefix is not None and context is not None:
            h, seen, at = self.prefix(h, mask, at, context)
        h, rotation = self.positions(h, at)
        for layer in self.layers:
            h = layer(h, seen, rotation)
        return self.head(h[:, -mask.shape[1] :]) * mask.unsqueeze(-1)


class Layer(nn.Module):
    """torch's `nn.TransformerEncoderLayer` at its defaults, initial values included, with room for a rotation."""

    def __init__(self, dim: int, heads: int, feed_forward: int, dropout: float):
        super().__init__()
        self.attention = Attention(dim, heads, dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, feed_forward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feed_forward, dim)
        )
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.attention.query_key_value.weight)
        nn.init.zeros_(self.attention.query_key_value.bias)
        nn.init.zeros_(self.attention.join.bias)

    def forward(self, h: Hidden, mask: Mask, rotation: Rotation | None) -> Hidden:
        h = self.norm_1(h + self.dropout(self.attention(h, mask, rotation)))
        return self.norm_2(h + self.dropout(self.feed_forward(h)))
