"""diffusers' UNet1DModel, as the latent line tried it: 68 M parameters at dim = 768, with attention."""

import torch.nn.functional as F

from diffusion_text.denoisers.base import Denoiser

LEVELS = 3
HEAD_WIDTH = 32  # diffusers' attention blocks make heads of 32 channels


class DiffusersUNet1D(Denoiser):
    """Channels dim/3, 2·dim/3, 2·dim/3; attention at the two inner levels; time concatenated to the first.

    diffusers' blocks know no mask: padding is zeroed at both ends, but normalisation and attention see it.
    """

    def __init__(self, dim: int, estimates: int = 0):
        super().__init__()
        if estimates:
            raise ValueError(
                "model=diffusers_unet reads x_t alone: set route.self_conditioning=0 and route.reads_reference=false"
            )
        try:
            from diffusers import UNet1DModel
        except ImportError as error:
            raise ValueError('model=diffusers_unet needs diffusers: pip install -e ".[diffusers]"') from error
        outer = max(HEAD_WIDTH, round(dim / 3 / 8) * 8)
        inner = max(HEAD_WIDTH, round(dim * 2 / 3 / HEAD_WIDTH) * HEAD_WIDTH)
        self.output_width = outer
        self.unet = UNet1DModel(
            in_channels=dim,
            out_channels=dim,
            block_out_channels=(outer, inner, inner),
            time_embedding_type="positional",
            extra_in_channels=outer,  # the time embedding's width
            down_block_types=("DownBlock1DNoSkip", "AttnDownBlock1D", "AttnDownBlock1D"),
            up_block_types=("AttnUpBlock1D", "AttnUpBlock1D", "UpBlock1DNoSkip"),
        )

    def forward(self, x_t, t, mask, estimates=None):
        x = (x_t * mask.unsqueeze(-1)).transpose(1, 2)
        length = x.shape[-1]
        shortfall = max(
            -length % 2**LEVELS, 4 * 2**LEVELS - length
        )  # its resampling needs a few positions at the bottom
        output = self.unet(F.pad(x, (0, shortfall)), 1000 * t).sample[..., :length]
        return output.transpose(1, 2) * mask.unsqueeze(-1)
