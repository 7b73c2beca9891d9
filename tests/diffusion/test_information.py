"""Information where it is known in closed form, under every schedule and prediction.

For Gaussian data and exact estimates, ½·∫ mmse dSNR from SNR a to b is ½·log det((1 + b·Σ)/(1 + a·Σ)) (Guo, Shamai &
Verdú 2005): beyond the best estimate from each position alone, a sequence tells its total correlation.
"""

import math

import torch
from torch.testing import assert_close

from diffusion_text.diffusion.gaussian import noise_from, per_text
from diffusion_text.diffusion.information import LOG_SNR_MAX, LOG_SNR_MIN, NUM_BINS, integrand
from diffusion_text.diffusion.samplers import draw_like
from diffusion_text.diffusion.schedules import SqrtSchedule
from diffusion_text.metrics.information import Information

LENGTH, DIM, TEXTS, RHO = 12, 3, 2000, 0.9


def covariance(rho):
    """Of a stationary AR(1) sequence of unit variance `(LENGTH, LENGTH)`."""
    index = torch.arange(LENGTH, dtype=torch.float64)
    return rho ** (index - index[:, None]).abs()


def sequences(rho, texts=TEXTS):
    """Texts whose channels are AR(1) sequences, independent of each other."""
    factor = torch.linalg.cholesky(covariance(rho))
    return factor @ torch.randn(texts, LENGTH, DIM, dtype=torch.float64), torch.ones(texts, LENGTH, dtype=torch.bool)


def wiener(matrix, x_t, alpha, sigma):
    """E[x_0 | x_t] of Gaussian sequences with this covariance over positions."""
    total = alpha**2 * matrix + sigma**2 * torch.eye(LENGTH, dtype=torch.float64)
    return alpha * (matrix @ torch.linalg.solve(total, x_t))


def told(rho):
    """What the sequence tells beyond each position alone, in nats a position, between the levels that are looked at."""

    def nats(matrix):
        ends = [torch.logdet(torch.eye(LENGTH) + math.exp(end) * matrix) for end in (LOG_SNR_MIN, LOG_SNR_MAX)]
        return float(ends[1] - ends[0]) / 2 * DIM / LENGTH

    return nats(torch.eye(LENGTH, dtype=torch.float64)) - nats(covariance(rho))


def measured(schedule, matrix, prediction=None, rho=RHO, scale=1.0):
    """The figures of the Wiener filter for `matrix`, as a network with this prediction puts it out, times `scale`."""
    x_0, mask = sequences(rho)

    def estimates(x_t, t):
        alpha, sigma = map(per_text, schedule.alpha_sigma(t))
        x = scale * wiener(matrix, x_t, alpha, sigma)
        if prediction is not None:
            noise = noise_from(x_t, x, alpha, sigma)
            x = prediction.to_x0(prediction.target(x, noise, alpha, sigma), x_t, alpha, sigma)
        return x, alpha * x_t  # each position of unit variance by itself

    metric = Information()
    for part, real in zip(x_0.split(500), mask.split(500), strict=True):
        metric.update(integrand(part, real, estimates, schedule, *drawn(part)), real.sum(1))
    return metric.compute()


def drawn(x_0):
    """Offsets that are even over the texts, and noise of each bin."""
    generator = torch.Generator().manual_seed(0)
    even = torch.arange(len(x_0), dtype=torch.float64) / len(x_0)
    offsets = (even + torch.rand((), generator=generator, dtype=torch.float64)) % 1
    return offsets, lambda number: draw_like(x_0, generator)


def test_a_sequence_tells_its_total_correlation_under_every_schedule_and_prediction(schedule, prediction):
    figures = measured(schedule, covariance(RHO), prediction)
    assert figures["information_error"] < 0.02 * told(RHO)
    assert abs(figures["information"] - told(RHO)) < 4 * figures["information_error"]
    assert_close(told(RHO), -(LENGTH - 1) / LENGTH / 2 * math.log(1 - RHO**2) * DIM, rtol=0.01, atol=0)


def test_what_is_independent_tells_nothing_beyond_the_linear_predictor(schedule):
    figures = measured(schedule, torch.eye(LENGTH, dtype=torch.float64), rho=0.0)
    assert_close(figures["information"], torch.tensor(0.0), rtol=0, atol=1e-5)
    assert_close(figures["skill_bins"], torch.zeros(NUM_BINS), rtol=0, atol=1e-5)


def test_its_parts_are_what_is_found_and_what_is_lost():
    figures = measured(SqrtSchedule(), covariance(RHO), scale=0.98)
    assert figures["information_lost"] > 1  # 2 % of x_0 is much where there is little noise
    assert_close(figures["information"], figures["information_found"] - figures["information_lost"])
    assert_close(figures["information"], figures["information_bins"].sum())
    assert figures["skill_bins"][-1] < 0 < figures["skill_bins"][0]
    assert figures["skill"] < 0


def test_the_standard_error_is_that_of_the_mean_over_texts():
    """Repeated on fresh texts, the figure scatters as its error says: a chi-square of 40 repetitions."""
    schedule = SqrtSchedule()
    figures = []
    for seed in range(40):
        torch.manual_seed(seed)
        figures.append(measured(schedule, covariance(RHO)))
    values, errors = (torch.stack([f[name] for f in figures]) for name in ("information", "information_error"))
    assert 0.7 < values.std() / errors.mean() < 1.3


def test_padding_does_not_count():
    x_0, mask = sequences(RHO, 64)
    mask[:, 8:] = False
    schedule = SqrtSchedule()

    def estimates(x_t, t):
        return torch.where(mask.unsqueeze(-1), x_t, 100.0), torch.where(mask.unsqueeze(-1), x_t, -100.0)

    errors = integrand(x_0, mask, estimates, schedule, *drawn(x_0))
    assert torch.equal(errors.model, errors.reference)


def test_no_time_before_the_earliest_is_asked_for():
    x_0, mask = sequences(RHO, 8)
    asked = []

    def estimates(x_t, t):
        asked.append(t)
        return x_t, x_t

    integrand(x_0, mask, estimates, SqrtSchedule(), *drawn(x_0), earliest=0.01)
    assert torch.stack(asked).min() == 0.01
