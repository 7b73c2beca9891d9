"""Attention over the real positions, and four ways to tell it where each position is.

(1) A head whose queries start at R(o·θ)·b and whose keys start at b, whatever the text says, looks at position i + o
    from position i: their product is b·R((j − i − o)·θ)·b, greatest at j = i + o. b is the same in each of the fastest
    pairs of channels, 0 in the others. R turns as rotary positions do (Su et al. 2021, eq. 15).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diffusion_text.denoisers.base import sinusoidal
from diffusion_text.shapes import Context
from diffusion_text.values import LONGEST, one_of, whole

Hidden = Float[Tensor, "batch length width"]
Seen = Bool[Tensor, "batch seen"]  # the positions of h, after those of a cache
Places = Float[Tensor, "*texts length"]  # the same of all texts, or of each
Rotation = Float[Tensor, "*texts length half"]
Longer = Float[Tensor, "batch longer width"]  # h, and what is told before it
PerHead = Float[Tensor, "batch heads length channels"]
AllPerHead = Float[Tensor, "batch heads seen channels"]


FASTEST = 7 / 16  # of the pairs of channels: those that tell neighbours apart
PEAK = 11.1  # score of the offset that a head starts at; at zero input it gets 0.57 of the weight among 64 positions


class Cache:
    """Keys and values of the positions that a causal layer has seen."""

    def __init__(self) -> None:
        self.seen: tuple[AllPerHead, AllPerHead] | None = None

    def longer(self, key: PerHead, value: PerHead) -> tuple[AllPerHead, AllPerHead]:
        """Keys and values of all positions up to and with these."""
        if self.seen is not None:
            key, value = (torch.cat([old, new], 2) for old, new in zip(self.seen, (key, value), strict=True))
        self.seen = key, value
        return key, value

    def __len__(self) -> int:
        return 0 if self.seen is None else self.seen[0].shape[2]


class Attention(nn.Module):
    """Every position looks at every real one, or at no later one if `causal`; `dropout` acts on the attention weights.

    The first heads start out looking at the offsets of `local_heads`, as (1) has it. `qk_norm` keeps queries and keys
    at unit RMS, with a learned scale a channel (Henry et al. 2020).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        local_heads: Sequence[int] = (),
        qk_norm: bool = False,
        causal: bool = False,
    ):
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.query_key_value, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.RMSNorm(width // heads) for _ in range(2)) if qk_norm else None
        if local_heads:
            self.look_at(local_heads)

    @torch.no_grad()
    def look_at(self, offsets: Sequence[int]) -> None:
        """Equation (1), by the biases of queries and keys."""
        query, key, _ = self.query_key_value.bias.view(3, self.heads, -1)
        start = torch.zeros(key.shape[1])
        pairs = round(FASTEST * len(start) / 2)
        start[:pairs] = (PEAK * len(start) ** 0.5 / pairs) ** 0.5
        angles = rotary_angles(torch.tensor(offsets, dtype=start.dtype), len(start))
        turned = rotate(start.expand(1, 1, len(offsets), -1), angles)[0, 0]
        for head, looking in enumerate(turned[: self.heads]):
            query[head], key[head] = looking, start

    def forward(self, h: Hidden, mask: Seen, rotation: Rotation | None, cache: Cache | None = None) -> Hidden:
        query, key, value = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in self.query_key_value(h).chunk(3, dim=-1)
        )
        if self.norms is not None:
            query, key = (norm(x) for norm, x in zip(self.norms, (query, key), strict=True))
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if cache is not None:
            key, value = cache.longer(key, value)
        seen = mask[:, None, None, :]
        if self.causal:
            seen = seen & torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=h.device).tril(
                key.shape[2] - query.shape[2]
            )
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, seen, dropout)
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

    def forward(self, h: Hidden, at: Places) -> tuple[Hidden, Rotation | None]:
        """For vectors at these positions, which a table has from 0 on."""
        if self.learned is not None:
            h = h + F.embedding(at.round().long().clamp(min=0), self.learned) * (at >= 0)[..., None]
        elif self.kind == "sinusoidal":
            h = h + sinusoidal(at.flatten(), h.shape[-1]).unflatten(0, at.shape).to(h)
        return h, rotary_angles(at, self.head_width) if self.kind == "rotary" else None


class Prefix(nn.Module):
    """Puts what is told of a text in front of it, where its positions tell where it stands; or beside it, unless what
    is told must not be seen before a position is reached (`causal`).
    """

    def __init__(self, told: int, width: int, causal: bool = False):
        super().__init__()
        self.enter, self.causal = nn.Linear(told, width), causal

    def forward(
        self, h: Hidden, mask: Seen, at: Places, context: Context
    ) -> tuple[Longer, Bool[Tensor, "batch longer"], Float[Tensor, "*of_each longer"]]:
        """The text, its mask and its positions, with those of the context before each, or its vectors added."""
        vectors = self.enter(context.vectors)
        if context.beside and not self.causal:
            return h + vectors * context.where.unsqueeze(2), mask, at
        at = at.expand(*context.at.shape[:-1], -1)
        return torch.cat([vectors, h], 1), torch.cat([context.where, mask], 1), torch.cat([context.at, at], -1)


def rotary_angles(positions: Places, head_width: int) -> Rotation:
    """The angle by which each pair of channels turns at each position (Su et al. 2021)."""
    frequencies = 10_000 ** -(torch.arange(0, head_width, 2, device=positions.device) / head_width)
    return positions[..., None] * frequencies


def rotate(x: PerHead, angles: Rotation) -> PerHead:
    """Turn pairs of channels by their angles, in each head alike."""
    angles = angles if angles.ndim == 2 else angles.unsqueeze(1)
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
