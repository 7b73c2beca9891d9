"""SimpleUNet1D: the first denoiser of the latent line, an encoder-decoder without skip connections."""

import torch.nn.functional as F
from torch import nn

from diffusion_text.denoisers.base import Denoiser, TimeEmbedding
from diffusion_text.denoisers.textunet import GROUPS, MaskedGroupNorm, grow, halve
from diffusion_text.values import WIDEST, even, or_null, whole


class SimpleUNet1D(Denoiser):
    """Convolutions at lengths L, L/2, L/4 and back, `width` channels throughout (a third of dim, as published).

    Nothing passes around the bottom: what L/4 positions cannot hold is lost.
    """

    def __init__(self, dim: int, width: int | None = None, time_dim: int = 256, estimates: int = 0):
        super().__init__()
        if estimates:
            raise ValueError(
                "model=simple_unet reads x_t alone: set route.self_conditioning=0 and route.reads_reference=false"
            )
        chosen = or_null(whole, width, "model.width", least=4, most=WIDEST)
        time_dim = even(time_dim, "model.time_dim", WIDEST)
        self.output_width = width = chosen or max(GROUPS, round(dim / 3 / GROUPS) * GROUPS)
        self.time, self.time_to_features = TimeEmbedding(time_dim), nn.Linear(time_dim, width)
        self.enter = nn.Conv1d(dim, width, 3, padding=1)
        self.shrink_1 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.shrink_2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.bottom = nn.Conv1d(width, width, 3, padding=1)
        self.grow_2 = nn.Conv1d(width, width, 3, padding=1)
        self.grow_1 = nn.Conv1d(width, width, 3, padding=1)
        self.norms = nn.ModuleList(MaskedGroupNorm(width) for _ in range(6))
        self.leave = nn.Conv1d(width, dim, 3, padding=1)

    def forward(self, x_t, t, mask, estimates=None):
        time = self.time_to_features(F.silu(self.time(t))).unsqueeze(-1)
        masks = [mask.unsqueeze(1)]
        masks += [halve(masks[0]), halve(halve(masks[0]))]
        h = self.enter(x_t.transpose(1, 2) * masks[0]) + time
        for convolution, norm, before in (
            (self.shrink_1, self.norms[0], masks[0]),
            (self.shrink_2, self.norms[1], masks[1]),
            (self.bottom, self.norms[2], masks[2]),
        ):
            h = convolution(F.silu(norm(h, before)) * before) + time
        for convolution, norm, before, after in (
            (self.grow_2, self.norms[3], masks[2], masks[1]),
            (self.grow_1, self.norms[4], masks[1], masks[0]),
        ):
            h = F.silu(norm(h, before)) * before
            h = convolution(grow(h, after.to(h)) * after) + time
        h = self.leave(F.silu(self.norms[5](h, masks[0])) * masks[0])
        return (h * masks[0]).transpose(1, 2)
