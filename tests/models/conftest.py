import pytest
import torch

from diffusion_text.denoisers.textunet import TextUNet1D
from diffusion_text.diffusion.losses import MSELoss, UniformWeighting
from diffusion_text.diffusion.predictions import VPrediction
from diffusion_text.diffusion.schedules import CosineSchedule
from diffusion_text.diffusion.time_sampling import UniformTimes
from diffusion_text.models.latent_diffusion import LatentDiffusion
from diffusion_text.text_spaces.bart import BartSpace


@pytest.fixture
def make_model(bart_directory):
    """A function that builds a latent diffusion over the 16-wide BART, with any part replaced."""

    def make(**changes):
        torch.manual_seed(0)
        parts = {
            "denoiser": TextUNet1D(16, width="full", time_dim=16),
            "text_space": BartSpace.from_pretrained(bart_directory),
            "schedule": CosineSchedule(),
            "prediction": VPrediction(),
            "loss": MSELoss(),
            "weighting": UniformWeighting(),
            "time_sampling": UniformTimes(),
            "max_length": 12,
        }
        model = LatentDiffusion(**parts | changes)
        mix = torch.randn(16, 16, dtype=torch.float64)
        counts = torch.zeros(13, dtype=torch.long)
        counts[[5, 9]] = torch.tensor([300, 100])
        model.set_statistics(torch.randn(16), mix @ mix.T / 16 + 0.1 * torch.eye(16), counts)
        return model.eval()

    return make


@pytest.fixture
def batch():
    """Raw latents of three texts of 8, 5 and 2 tokens."""
    mask = torch.arange(8) < torch.tensor([8, 5, 2])[:, None]
    latents = torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(1)) * mask[..., None]
    return {"tokens": mask.long() * 7, "mask": mask, "latents": latents, "latent_mask": mask}
