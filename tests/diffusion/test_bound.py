"""The bound, where everything is known in closed form.

For data x_0 ~ N(0, s²) and the exact denoiser, prior + diffusion is the mutual information of x_0 and x_t at t_0,
½·log(1 + SNR·s²) an element (Guo, Shamai & Verdú 2005, eq. 1 and 6).
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from diffusion_text.diffusion.bound import diffusion_loss, even, mean_per, prior_kl, real_sum, uneven
from diffusion_text.diffusion.gaussian import per_text
from diffusion_text.diffusion.schedules import CosineSchedule

DIM, T_0, DRAWS = 4, 1e-3, 8


def gaussian_data(std, texts=256):
    """Texts of 5 to 20 tokens, each element from N(0, std²), with something else where there is no text."""
    mask = torch.arange(20) < torch.randint(5, 21, (texts, 1))
    x_0 = std * torch.randn(texts, 20, DIM, dtype=torch.float64)
    return x_0.masked_fill(~mask.unsqueeze(-1), 100.0), mask


def levels(schedule, t):
    return (per_text(level) for level in schedule.alpha_sigma(t))


def denoiser(schedule, std):
    """E[x_0 | x_t] for data of this standard deviation."""

    def predict_x0(x_t, t):
        alpha, sigma = levels(schedule, t)
        return alpha * std**2 * x_t / (alpha**2 * std**2 + sigma**2)

    return predict_x0


def diffusion(x_0, mask, predict_x0, schedule, t_0=T_0, draws=DRAWS):
    return diffusion_loss(x_0, mask, predict_x0, schedule, t_0, draws, torch.Generator().manual_seed(0))


def test_prior_is_the_divergence_from_noise(schedule):
    x_0, mask = gaussian_data(1.5)
    alpha, sigma = schedule.alpha_sigma(torch.ones((), dtype=torch.float64))
    expected = kl_divergence(Normal(alpha * x_0, sigma), Normal(0.0, 1.0))
    assert_close(prior_kl(x_0, mask, schedule), real_sum(expected, mask), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("std", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("t_0", [1e-3, 0.1])
def test_with_the_exact_denoiser_it_is_the_mutual_information(schedule, std, t_0):
    x_0, mask = gaussian_data(std)
    nats = prior_kl(x_0, mask, schedule) + diffusion(x_0, mask, denoiser(schedule, std), schedule, t_0)
    mean, error = mean_per(nats, mask.sum(1) * DIM)
    snr = schedule.log_snr(torch.tensor(t_0, dtype=torch.float64)).exp()
    information = 0.5 * math.log1p(snr * std**2)
    assert abs(mean - information) < 4 * error
    assert error < 0.05 * information


@pytest.mark.parametrize("wrong_std", [0.5, 2.0])
def test_a_wrong_denoiser_has_a_larger_bound(schedule, wrong_std):
    x_0, mask = gaussian_data(1.0)
    right, wrong = (diffusion(x_0, mask, denoiser(schedule, std), schedule) for std in (1.0, wrong_std))
    mean, error = mean_per(wrong - right, mask.sum(1))
    assert mean > 4 * error


@pytest.mark.parametrize("kind", ["x_0", "epsilon"])
def test_errors_of_one_size_are_integrated_over_all_levels(schedule, kind):
    """An error of 1 in x_0 gives ½·(SNR(t_0) − SNR(1)) an element, one in the noise the same of log SNR."""
    x_0 = torch.randn(5000, 1, 2, dtype=torch.float64)
    mask = torch.ones(5000, 1, dtype=torch.bool)

    def predict_x0(x_t, t):
        alpha, sigma = levels(schedule, t)
        return x_0 + (1 if kind == "x_0" else sigma / alpha)

    log_snr = schedule.log_snr(torch.tensor([1.0, T_0], dtype=torch.float64))
    first, last = log_snr.exp() if kind == "x_0" else log_snr
    nats = diffusion(x_0, mask, predict_x0, schedule, draws=2)
    assert nats.mean().item() == pytest.approx((last - first).item(), rel=0.01)


def test_in_float32_an_error_in_epsilon_is_what_it_is_in_float64(schedule):
    """Close to t = 1 float32 tells few times apart, and an error is divided by alpha."""

    def predict_x0(x_t, t):
        alpha, sigma = levels(schedule, t)
        return (x_t - sigma * x_t / 2) / alpha

    x_0, mask = gaussian_data(1.0, texts=2000)
    double, single = (mean_per(diffusion(x, mask, predict_x0, schedule), mask.sum(1)) for x in (x_0, x_0.float()))
    assert abs(single.value - double.value) < 4 * math.hypot(single.standard_error, double.standard_error)


def test_padding_does_not_count(schedule):
    x_0, mask = gaussian_data(1.0)
    others = x_0.where(mask.unsqueeze(-1), -3.0)
    predict_x0 = denoiser(schedule, 1.0)
    assert_close(prior_kl(x_0, mask, schedule), prior_kl(others, mask, schedule))
    assert_close(diffusion(x_0, mask, predict_x0, schedule), diffusion(others, mask, predict_x0, schedule))


@given(u=st.floats(-3, 40).filter(bool))
def test_levels_are_spread_by_a_function_and_its_inverse(u):
    u = torch.tensor(u, dtype=torch.float64, requires_grad=True)
    log_snr, slope = uneven(u)
    assert_close(even(log_snr), u, rtol=0, atol=1e-9)
    assert_close(torch.autograd.grad(log_snr, u)[0], slope.detach())


def test_the_seed_decides():
    x_0, mask = gaussian_data(1.0)
    first, again = (diffusion(x_0, mask, denoiser(CosineSchedule(), 1.0), CosineSchedule()) for _ in range(2))
    assert torch.equal(first, again)


def test_the_standard_error_is_the_spread_over_corpora():
    """Texts of unequal length whose nats a token differ more than chance, as texts do."""
    means = []
    for _ in range(400):
        counts = torch.randint(5, 50, (40,))
        nats = counts * (2 + torch.randn(40)) + counts**0.5 * torch.randn(40)
        means.append(mean_per(nats, counts))
    values, errors = torch.tensor(means).unbind(1)
    assert values.mean() == pytest.approx(2, abs=0.05)
    assert values.std() == pytest.approx(errors.mean().item(), rel=0.12)
