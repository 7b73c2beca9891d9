"""A bidirectional transformer with adaptive layer norm; the denoiser of choice for both routes.

Time conditions every block: shift, scale and gate from the time embedding (adaLN-Zero, Peebles & Xie 2023, §3.2; the
gates start above 0, so that the first gradient already reaches every parameter). Positions are rotary by
default (Su et al. 2021). Self-conditioning is concatenated to the input (Chen et al. 2023).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusion_text.denoisers.attention import Attention, Cache, Hidden, Positions, Prefix, Rotation, Seen
from diffusion_text.denoisers.base import Denoiser, TimeEmbedding
from diffusion_text.shapes import Context
from diffusion_text.values import DEEPEST, LONGEST, WIDEST, flag, listed, number, whole

OfTime = Float[Tensor, "batch width"]


class Transformer(Denoiser):
    """`depth` blocks of `width` channels and `heads` heads over `(batch, length, dim)`.

    `positions`: rotary, learned (up to `max_length`), sinusoidal or none. `local_heads`: the offset that each head
    starts out looking at, for as many as there are; uniform ones take hundreds of steps to find their neighbours, and
    learn nothing until then. `gates`: where the blocks' gates start. `causal`: no position sees a later one.
    """

    takes_context = True

    def __init__(
        self,
        dim: int,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        positions: str = "rotary",
        max_length: int = 1024,
        dropout: float = 0.0,
        local_heads: Sequence[int] | None = None,
        gates: float = 0.1,
        qk_norm: bool = False,
        causal: bool = False,
        estimates: int = 0,
        told: int = 0,
    ):
        super().__init__()
        width, heads = whole(width, "model.width", 2, WIDEST), whole(heads, "model.heads", 1)
        depth, dropout = whole(depth, "model.depth", 1, DEEPEST), number(dropout, "model.dropout", least=0, below=1)
        if width % (2 * heads):
            raise ValueError(f"model.width={width} is not a multiple of 2 × model.heads={heads}")
        self.causal, gates = flag(causal, "model.causal"), number(gates, "model.gates")
        offsets = [] if local_heads is None else listed(local_heads, "model.local_heads", whole, least=-LONGEST)
        if offsets and positions != "rotary":
            raise ValueError("model.local_heads looks by rotary positions: use model.positions=rotary, or null")
        if causal and any(offset > 0 for offset in offsets):
            raise ValueError("model.local_heads of a causal model look back: use offsets of 0 and less")
        attention = {"local_heads": offsets, "qk_norm": flag(qk_norm, "model.qk_norm"), "causal": causal}
        self.estimates, self.output_width = estimates, min(width, dim)
        self.finds_neighbours = positions == "rotary" and not offsets  # its heads have to, by themselves
        self.time = TimeEmbedding(width)
        self.enter = nn.Linear(dim * (1 + estimates), width)
        self.positions = Positions(positions, width, heads, max_length)
        self.prefix = Prefix(told, width, causal) if told else None
        self.blocks = nn.ModuleList(Block(width, heads, dropout, gates, **attention) for _ in range(depth))
        self.modulate = nn.Linear(width, 2 * width)
        self.leave = nn.Linear(width, dim)
        for parameter in self.leave.parameters():
            nn.init.normal_(parameter, std=1e-3)  # start close to the linear path alone

    def forward(self, x_t, t, mask, estimates=None, context: Context | None = None, caches: list[Cache] | None = None):
        """`caches`, one a block, hold the positions before these of a causal model."""
        seen, length = len(caches[0]) if caches else 0, x_t.shape[1]
        first = seen - context.where.shape[1] if seen and context is not None else seen
        h = self.enter(self.with_estimates(x_t, estimates))
        at = torch.arange(first, first + length, device=h.device, dtype=torch.float32)
        if self.prefix is not None and context is not None:
            if seen:
                mask = torch.cat([context.where, mask], 1)
            else:
                h, mask, at = self.prefix(h, mask, at, context)
        h, rotation = self.positions(h, at)
        time = F.silu(self.time(t))
        layers: Sequence[Cache | None] = caches or [None] * len(self.blocks)
        for block, cache in zip(self.blocks, layers, strict=True):
            h = block(h, time, mask, rotation, cache)
        shift, scale = self.modulate(time).unsqueeze(1).chunk(2, dim=-1)
        h = normalise(h[:, -length:])
        return self.leave(h * (1 + scale) + shift) * mask[:, -length:].unsqueeze(-1)


class Block(nn.Module):
    """Attention and a feed-forward layer, each modulated and gated by the time."""

    def __init__(self, width: int, heads: int, dropout: float, gates: float, **attention: Any):
        super().__init__()
        self.dropout = dropout
        self.modulate = nn.Linear(width, 6 * width)
        self.attention = Attention(width, heads, **attention)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        with torch.no_grad():
            self.modulate.bias.unflatten(0, (6, width))[[2, 5]] = gates

    def forward(self, h: Hidden, time: OfTime, mask: Seen, rotation: Rotation | None, cache: Cache | None) -> Hidden:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulate(time).unsqueeze(1).chunk(6, dim=-1)
        attended = self.attention(normalise(h) * (1 + scale_1) + shift_1, mask, rotation, cache)
        h = h + gate_1 * F.dropout(attended, self.dropout, self.training)
        fed = self.feed_forward(normalise(h) * (1 + scale_2) + shift_2)
        return h + gate_2 * F.dropout(fed, self.dropout, self.training)


def normalise(h: Hidden) -> Hidden:
    """Layer norm without parameters of its own; the time supplies shift and scale."""
    return F.layer_norm(h, h.shape[-1:])
