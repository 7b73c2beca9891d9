"""A bound on −log p(w) of the tokens w that x_0 embeds, given how many there are; continuous time, nats a text.

(1) −log p(w) ≤ prior + diffusion + reconstruction                                    Kingma et al. 2021, eq. 11
(2) prior = KL(q(x_1 | x_0) ‖ N(0, I)) = ½·Σ (ᾱ·(x_0² − 1) − log(1 − ᾱ)) with ᾱ at t = 1
(3) diffusion = ½·∫ ‖x_0 − x̂_0(x_t, t)‖² dSNR from SNR(1) to SNR(t_0)                 Kingma et al. 2021, eq. 18
(4) reconstruction = E[−log p(w | x_t)] at t = t_0
(5) log SNR in (3) is drawn as c + u above c and as c + 2·tan(u/2) below it, u uniform, with c = −log E‖x_0‖² over
    positions: below c a token has told less than ½ nat, but a poor network's error need not fall as fast as the SNR
(6) mean = Σ nats / Σ counts, with the standard error √n·std(nats − mean·counts) / Σ counts over n texts
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffusion_text.diffusion.gaussian import corrupt, per_text
from diffusion_text.diffusion.samplers import draw_like
from diffusion_text.diffusion.schedules import NoiseSchedule
from diffusion_text.shapes import Latents, Mask, PerText, Times


class Mean(NamedTuple):
    """An estimate and its standard error."""

    value: float
    standard_error: float


def prior_kl(x_0: Latents, mask: Mask, schedule: NoiseSchedule) -> PerText:
    """Equation (2), summed over real positions."""
    alpha_bar = float(schedule.alpha_sigma(torch.ones((), dtype=torch.float64))[0]) ** 2
    return real_sum(alpha_bar * (x_0**2 - 1) - math.log1p(-alpha_bar), mask) / 2


def diffusion_loss(
    x_0: Latents,
    mask: Mask,
    predict_x0: Callable[[Latents, Times], Latents],
    schedule: NoiseSchedule,
    t_0: float,
    draws: int,
    generator: torch.Generator,
) -> PerText:
    """Equation (3), summed over real positions, from `draws` times a text: even over its draws and over the texts."""
    centre = -math.log(real_sum(x_0**2, mask).sum() / mask.sum())
    first, last = even(schedule.log_snr(torch.tensor([1.0, t_0], dtype=torch.float64)) - centre)
    texts = torch.arange(len(x_0), dtype=torch.float64) / len(x_0)
    offsets = (texts + torch.rand((), generator=generator, dtype=torch.float64)) % 1
    total = torch.zeros_like(x_0[:, 0, 0])
    for draw in range(draws):
        log_snr, slope = uneven(torch.lerp(first, last, (draw + offsets) / draws))
        t = schedule.time_at((centre + log_snr).sigmoid().sqrt()).to(x_0)  # rounded: what follows is for this t
        x_t = corrupt(x_0, draw_like(x_0, generator), *map(per_text, schedule.alpha_sigma(t)))
        error = real_sum((x_0 - predict_x0(x_t, t)) ** 2, mask)
        total += slope.to(x_0) * schedule.log_snr(t).exp() * error
    return float(last - first) / 2 * total / draws


def even(log_snr: Float[Tensor, "*levels"]) -> Float[Tensor, "*levels"]:
    """u of equation (5), for log SNR less c."""
    return log_snr.clamp(min=0) + 2 * (log_snr.clamp(max=0) / 2).atan()


def uneven(u: Float[Tensor, "*levels"]) -> tuple[Float[Tensor, "*levels"], Float[Tensor, "*levels"]]:
    """The inverse of `even`, and its derivative."""
    tail = (u.clamp(max=0) / 2).tan()
    return u.clamp(min=0) + 2 * tail, 1 + tail**2


def real_sum(values: Latents, mask: Mask) -> PerText:
    """Sum over the real tokens' elements of each text."""
    return values.masked_fill(~mask.unsqueeze(-1), 0).sum((1, 2))


def mean_per(nats: PerText, counts: Int[Tensor, "batch"]) -> Mean:
    """Equation (6): the mean over what is counted, tokens or characters, of sums over texts; two texts or more."""
    value = float(nats.sum() / counts.sum())
    return Mean(value, float((nats - value * counts).std() * len(nats) ** 0.5 / counts.sum()))
