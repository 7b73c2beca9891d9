"""A bidirectional transformer with adaptive layer norm; the denoiser of choice for both routes.

Time conditions every block: shift, scale and gate from the time embedding (adaLN-Zero, Peebles & Xie 2023, §3.2; the
gates start at 0.1 rather than 0, so that the first gradient already reaches every parameter). Positions are rotary by
default (Su et al. 2021). Self-conditioning is concatenated to the input (Chen et al. 2023).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diffusion_text.denoisers.base import Denoiser, TimeEmbedding, sinusoidal

Hidden = Float[Tensor, "batch length width"]
Condition = Float[Tensor, "batch width"]
Rotation = Float[Tensor, "length half"]
GATE_START = 0.1


class Transformer(Denoiser):
    """`depth` blocks of `width` channels and `heads` heads over `(batch, length, dim)`.

    `positions`: rotary, learned (up to `max_length`), sinusoidal, or none, which makes the network equivariant to
    permutations of the positions: it cannot learn word order.
    """

    def __init__(
        self,
        dim: int,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        positions: str = "rotary",
        max_length: int = 1024,
        dropout: float = 0.0,
        self_conditioning: bool = False,
    ):
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width={width} is not a multiple of 2 × heads={heads}")
        if positions not in ("rotary", "learned", "sinusoidal", "none"):
            raise ValueError(f"positions must be rotary, learned, sinusoidal or none, not {positions}")
        self.self_conditioning, self.positions = self_conditioning, positions
        self.output_width = min(width, dim)
        self.time = TimeEmbedding(width)
        self.enter = nn.Linear(dim * (2 if self_conditioning else 1), width)
        self.learned = nn.Parameter(torch.randn(max_length, width) * 0.02) if positions == "learned" else None
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.modulate = nn.Linear(width, 2 * width)
        self.leave = nn.Linear(width, dim)
        self.head_width = width // heads
        for parameter in self.leave.parameters():
            nn.init.normal_(parameter, std=1e-3)  # start close to the linear path alone

    def forward(self, x_t, t, mask, x_0_previous=None):
        if self.self_conditioning:
            previous = torch.zeros_like(x_t) if x_0_previous is None else x_0_previous
            x_t = torch.cat([x_t, previous], dim=-1)
        h = self.enter(x_t)
        index = torch.arange(h.shape[1], device=h.device, dtype=torch.float32)
        if self.learned is not None:
            h = h + self.learned[: h.shape[1]]
        elif self.positions == "sinusoidal":
            h = h + sinusoidal(index, h.shape[-1]).to(h)
        rotation = rotary_angles(index, self.head_width) if self.positions == "rotary" else None
        time = F.silu(self.time(t))
        for block in self.blocks:
            h = block(h, time, mask, rotation)
        shift, scale = self.modulate(time).unsqueeze(1).chunk(2, dim=-1)
        return self.leave(normalise(h) * (1 + scale) + shift) * mask.unsqueeze(-1)


class Block(nn.Module):
    """Attention and a feed-forward layer, each modulated and gated by the time."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.modulate = nn.Linear(width, 6 * width)
        self.query_key_value, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        with torch.no_grad():
            self.modulate.bias.unflatten(0, (6, width))[[2, 5]] = GATE_START

    def forward(
        self, h: Hidden, time: Condition, mask: Bool[Tensor, "batch length"], rotation: Rotation | None
    ) -> Hidden:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulate(time).unsqueeze(1).chunk(6, dim=-1)
        attended = self.attend(normalise(h) * (1 + scale_1) + shift_1, mask, rotation)
        h = h + gate_1 * F.dropout(attended, self.dropout, self.training)
        fed = self.feed_forward(normalise(h) * (1 + scale_2) + shift_2)
        return h + gate_2 * F.dropout(fed, self.dropout, self.training)

    def attend(self, h: Hidden, mask: Bool[Tensor, "batch length"], rotation: Rotation | None) -> Hidden:
        """Every position looks at every real one."""
        query, key, value = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in self.query_key_value(h).chunk(3, dim=-1)
        )
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        return self.join(attended.transpose(1, 2).flatten(2))


def normalise(h: Hidden) -> Hidden:
    """Layer norm without parameters of its own; the time supplies shift and scale."""
    return F.layer_norm(h, h.shape[-1:])


def rotary_angles(positions: Float[Tensor, "length"], head_width: int) -> Rotation:
    """The angle by which each pair of channels turns at each position."""
    frequencies = 10_000 ** -(torch.arange(0, head_width, 2, device=positions.device) / head_width)
    return positions[:, None] * frequencies


def rotate(
    x: Float[Tensor, "batch heads length channels"], angles: Rotation
) -> Float[Tensor, "batch heads length channels"]:
    """Turn pairs of channels by their angles."""
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
