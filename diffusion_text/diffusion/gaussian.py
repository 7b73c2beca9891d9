"""The Gaussian forward process and what follows from it.

(1) x_t = alpha·x_0 + sigma·noise
(2) noise = (x_t − alpha·x_0) / sigma
(3) q(x_s | x_t, x_0) = N(mean, std²) for s < t, with alpha_ts = alpha_t / alpha_s and
    var_ts = sigma_t² − alpha_ts²·sigma_s²:
        mean = alpha_ts·sigma_s²/sigma_t²·x_t + alpha_s·var_ts/sigma_t²·x_0
        std² = var_ts·sigma_s²/sigma_t²                          Kingma et al. 2021, eq. 25–27
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from diffusion_text.shapes import Latents, Mask, Times

Level = Float[Tensor, "#batch 1 1"]


class Noisy(NamedTuple):
    """A batch part-way into noise."""

    x_0: Latents
    noise: Latents
    x_t: Latents
    t: Times
    alpha: Level
    sigma: Level
    mask: Mask


def per_text(levels: Float[Tensor, "*batch"]) -> Level:
    """Shape one number a text (or a single number) so that it multiplies latents."""
    return levels.reshape(-1, 1, 1)


def corrupt(x_0: Latents, noise: Latents, alpha: Level, sigma: Level) -> Latents:
    """Equation (1)."""
    return alpha * x_0 + sigma * noise


def noise_from(x_t: Latents, x_0: Latents, alpha: Level, sigma: Level) -> Latents:
    """Equation (2). At sigma = 0 no noise can be told: the answer is 0 there."""
    return torch.where(sigma > 0, (x_t - alpha * x_0) / sigma.clamp(min=torch.finfo(x_t.dtype).tiny), 0.0)


def posterior(
    x_t: Latents, x_0: Latents, alpha_t: Level, sigma_t: Level, alpha_s: Level, sigma_s: Level
) -> tuple[Latents, Level]:
    """Mean and standard deviation of x_s given x_t and x_0, over any stride t → s: equation (3)."""
    alpha_ts = alpha_t / alpha_s
    var_ts = (sigma_t**2 - alpha_ts**2 * sigma_s**2).clamp(min=0)
    mean = (alpha_ts * sigma_s**2 * x_t + alpha_s * var_ts * x_0) / sigma_t**2
    return mean, (var_ts * sigma_s**2).sqrt() / sigma_t
