"""What a denoiser knows about data beyond a reference predictor, in nats: a figure that needs no schedule.

(1) information = ½·∫ (E‖x_0 − x̂_reference‖² − E‖x_0 − x̂_0‖²) dSNR
                                         Guo, Shamai & Verdú 2005, eq. 6; Kong et al. 2023, eq. 9
(2) with dSNR = SNR d log SNR, over log SNR from LOG_SNR_MIN to LOG_SNR_MAX, in NUM_BINS even bins; a text is looked at
    once in each, at levels whose `offsets` in [0, 1) are even over its bin and over the texts
(3) found, lost: the bins in which (1) is positive, and those in which it is not
(4) skill = 1 − E‖x_0 − x̂_0‖² / E‖x_0 − x̂_reference‖² in a bin; overall of the integrals in (1)

For exact denoisers (1) is the gain in log-likelihood over the reference's distribution of the data. Levels are those of
x_t / alpha = x_0 + noise / √SNR: a schedule does no more than tell at which t they lie.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from diffusion_text.diffusion.bound import real_sum
from diffusion_text.diffusion.gaussian import corrupt, per_text
from diffusion_text.diffusion.schedules import NoiseSchedule
from diffusion_text.shapes import Latents, Mask, Times

LOG_SNR_MIN, LOG_SNR_MAX, NUM_BINS = -9.0, 9.0, 10  # embeddings of width 128 are told at −5, latents of a BART up to 9
BIN_WIDTH = (LOG_SNR_MAX - LOG_SNR_MIN) / NUM_BINS
MIDDLES = [LOG_SNR_MIN + BIN_WIDTH * (number + 0.5) for number in range(NUM_BINS)]
PerBin = Float[Tensor, "batch bins"]


class Errors(NamedTuple):
    """SNR·‖x_0 − x̂_0‖²·(bin width)/2 of each text in each bin, the integrand of (1): the network's, the reference's."""

    model: PerBin
    reference: PerBin


def integrand(
    x_0: Latents,
    mask: Mask,
    predict_x0: Callable[[Latents, Times], tuple[Latents, Latents]],
    schedule: NoiseSchedule,
    offsets: Float[Tensor, "batch"],
    noise: Callable[[int], Latents],
    earliest: float = 0.0,
) -> Errors:
    """Squared errors of what `predict_x0(x_t, t)` estimates, by network and reference, in the unit of (1), of x_0 with
    each bin's `noise`.

    No time before `earliest` is asked for: the levels below lie there.
    """
    log_snrs = LOG_SNR_MIN + BIN_WIDTH * (torch.arange(NUM_BINS)[:, None] + offsets)
    times = schedule.time_at(log_snrs.sigmoid().sqrt()).clamp(min=earliest).to(x_0)  # rounded: the rest is for these
    errors = []
    for number, t in enumerate(times):
        alpha, sigma = map(per_text, schedule.alpha_sigma(t))
        x_t = corrupt(x_0, noise(number), alpha, sigma)
        weight = schedule.log_snr(t).exp() * BIN_WIDTH / 2
        errors.append([weight * real_sum((x_0 - x) ** 2, mask) for x in predict_x0(x_t, t)])
    return Errors(*(torch.stack(each, dim=1) for each in zip(*errors, strict=True)))
