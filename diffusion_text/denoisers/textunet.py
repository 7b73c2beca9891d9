"""TextUNet1D: a convolutional encoder-decoder over positions with skip connections.

At dim = 768 and width = narrow: channels 768 → 256 → 384 → 512 → 384 → 256 → 768, length L → L/2 → L/4, a 256-wide
time embedding at every level, GroupNorm, SiLU, no attention, 8 M parameters. Other dims keep the proportions.

The last convolution maps dim/3 channels to dim: a text's output of L·dim numbers is a linear function of L·dim/3. As an
estimate of isotropic noise, its cosine similarity and magnitude ratio are both at most √(1/3) = 0.577.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diffusion_text.denoisers.base import Denoiser, TimeEmbedding, sinusoidal
from diffusion_text.values import DEEPEST, WIDEST, even, flag, one_of, whole

GROUPS = 8
Features = Float[Tensor, "batch channels positions"]
NewFeatures = Float[Tensor, "batch new_channels positions"]
PositionMask = Bool[Tensor, "batch 1 positions"]


class TextUNet1D(Denoiser):
    """A UNet over `(batch, length, dim)` of any length; padding neither enters nor leaves.

    `width` narrow is the original 1 : 3 bottleneck, full makes no layer narrower than the latent. `positions` none or
    sinusoidal. `magnitude_scale` multiplies the output by a learned number.
    """

    def __init__(
        self,
        dim: int,
        width: str = "narrow",
        blocks: int = 1,
        time_dim: int = 256,
        positions: str = "none",
        magnitude_scale: bool = False,
        estimates: int = 0,
    ):
        super().__init__()
        full = dim if one_of(width, "model.width", ("narrow", "full")) == "full" else dim / 3
        self.positions = one_of(positions, "model.positions", ("none", "sinusoidal"))
        self.estimates, blocks = estimates, whole(blocks, "model.blocks", 1, DEEPEST)
        first, middle, last = (max(GROUPS, round(full * ratio / GROUPS) * GROUPS) for ratio in (1, 1.5, 2))
        self.output_width = first

        self.time = TimeEmbedding(time_dim := even(time_dim, "model.time_dim", WIDEST))
        self.enter = nn.Conv1d(dim * (1 + estimates), first, 3, padding=1)
        self.down_1 = Level(first, first, time_dim, blocks)
        self.shrink_1 = nn.Conv1d(first, first, 3, stride=2, padding=1)
        self.down_2 = Level(first, middle, time_dim, blocks)
        self.shrink_2 = nn.Conv1d(middle, middle, 3, stride=2, padding=1)
        self.bottom = Level(middle, last, time_dim, blocks)
        self.up_2 = Level(last + middle, middle, time_dim, blocks)
        self.up_1 = Level(middle + first, first, time_dim, blocks)
        self.leave_norm = MaskedGroupNorm(first)
        self.leave = nn.Conv1d(first, dim, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.normal_(parameter, std=1e-3)  # start close to the linear path alone
        self.scale = nn.Parameter(torch.ones(())) if flag(magnitude_scale, "model.magnitude_scale") else None

    def forward(self, x_t, t, mask, estimates=None):
        x_t = self.with_estimates(x_t, estimates)
        time = self.time(t)
        mask_1 = mask.unsqueeze(1)
        mask_2 = halve(mask_1)
        mask_3 = halve(mask_2)

        h = self.enter(x_t.transpose(1, 2) * mask_1)
        if self.positions == "sinusoidal":
            positions = torch.arange(h.shape[-1], device=h.device, dtype=torch.float32)
            h = h + sinusoidal(positions, h.shape[1]).T.to(h)
        h_1 = self.down_1(h, time, mask_1)
        h_2 = self.down_2(self.shrink_1(h_1 * mask_1), time, mask_2)
        h = self.bottom(self.shrink_2(h_2 * mask_2), time, mask_3)
        h = self.up_2(torch.cat([grow(h * mask_3, h_2), h_2], dim=1), time, mask_2)
        h = self.up_1(torch.cat([grow(h * mask_2, h_1), h_1], dim=1), time, mask_1)
        h = self.leave(F.silu(self.leave_norm(h, mask_1)) * mask_1)
        if self.scale is not None:
            h = h * self.scale
        return (h * mask_1).transpose(1, 2)


class Level(nn.Module):
    """Residual blocks at one resolution."""

    def __init__(self, channels_in: int, channels_out: int, time_dim: int, blocks: int):
        super().__init__()
        widths = [channels_in] + [channels_out] * blocks
        self.blocks = nn.ModuleList(ResidualBlock(before, after, time_dim) for before, after in pairwise(widths))

    def forward(self, h: Features, time: Float[Tensor, "batch time_dim"], mask: PositionMask) -> NewFeatures:
        for block in self.blocks:
            h = block(h, time, mask)
        return h


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice, with the time added between."""

    def __init__(self, channels_in: int, channels_out: int, time_dim: int):
        super().__init__()
        self.norm_1 = MaskedGroupNorm(channels_in)
        self.convolution_1 = nn.Conv1d(channels_in, channels_out, 3, padding=1)
        self.time = nn.Linear(time_dim, channels_out)
        self.norm_2 = MaskedGroupNorm(channels_out)
        self.convolution_2 = nn.Conv1d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv1d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, h: Features, time: Float[Tensor, "batch time_dim"], mask: PositionMask) -> NewFeatures:
        residual = self.convolution_1(F.silu(self.norm_1(h, mask)) * mask)
        residual = residual + self.time(F.silu(time)).unsqueeze(-1)
        residual = self.convolution_2(F.silu(self.norm_2(residual, mask)) * mask)
        return self.shortcut(h) + residual


class MaskedGroupNorm(nn.Module):
    """Group normalisation whose statistics come from real positions only (Wu & He 2018).

    At least four channels share a group: a group of one would take away what the time adds to its channel.
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.groups, self.eps = min(GROUPS, channels // 4), eps
        if channels % self.groups:
            raise ValueError(f"model.width={channels} is not a multiple of {self.groups}")

    def forward(self, h: Features, mask: PositionMask) -> Features:
        grouped = h.float().unflatten(1, (self.groups, -1))
        real = mask.unsqueeze(1).float()
        count = (real.sum((2, 3), keepdim=True) * grouped.shape[2]).clamp(min=1)
        mean = (grouped * real).sum((2, 3), keepdim=True) / count
        centred = (grouped - mean) * real
        variance = centred.square().sum((2, 3), keepdim=True) / count
        normal = (centred * (variance + self.eps).rsqrt()).flatten(1, 2).to(h.dtype)
        return normal * self.weight[:, None] + self.bias[:, None]


def halve(mask: PositionMask) -> Bool[Tensor, "batch 1 half"]:
    """The mask at half the length: a pair is real when one of its positions is."""
    return F.max_pool1d(mask.float(), 2, ceil_mode=True).bool()


def grow(h: Features, like: Float[Tensor, "batch other_channels longer"]) -> Float[Tensor, "batch channels longer"]:
    """Stretch to another feature map's length by repeating positions."""
    return F.interpolate(h, size=like.shape[-1], mode="nearest")
