"""The forward process and its posterior, against Ho et al., diffusers and plain Gaussian conditioning."""

import jaxtyping
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffusion_text.diffusion.gaussian import corrupt, noise_from, per_text, posterior
from diffusion_text.diffusion.schedules import LinearSchedule

SEEDS = st.integers(0, 2**32 - 1)


def draw(seed, count, shape=(3, 4, 2), dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(count)]


def levels_at(schedule, *times):
    """alpha and sigma, in float64, at one time or one for each text."""
    return [per_text(level) for level in schedule.alpha_sigma(torch.tensor(times, dtype=torch.float64))]


@st.composite
def later_and_earlier(draw_from):
    """Two times t > s, apart by at least a thousandth."""
    t = draw_from(st.floats(0.001, 1))
    return t, draw_from(st.floats(0, t - 0.001))


def test_corrupt_by_hand():
    x_0, noise = torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[10.0, 5.0]]])
    x_t = corrupt(x_0, noise, per_text(torch.tensor(0.6)), per_text(torch.tensor(0.8)))
    assert_close(x_t, torch.tensor([[[8.6, 2.8]]]))


def test_each_text_has_its_own_level():
    x_0, noise = draw(0, 2)
    x_t = corrupt(x_0, noise, per_text(torch.tensor([1.0, 0.0, 0.5])), per_text(torch.tensor([0.0, 1.0, 0.5])))
    assert_close(x_t, torch.stack([x_0[0], noise[1], (x_0[2] + noise[2]) / 2]))


def test_a_wrong_shape_is_an_error_in_tests():
    x_0, noise = draw(0, 2)
    with pytest.raises(jaxtyping.TypeCheckError):
        corrupt(x_0, noise[:, :3], per_text(torch.ones(3)), per_text(torch.ones(3)))


@given(t=st.floats(1e-3, 1), seed=SEEDS)
def test_noise_from_inverts_corrupt(schedule, t, seed):
    x_0, noise = draw(seed, 2)
    alpha, sigma = levels_at(schedule, t, t / 2, 1e-3)
    assert_close(noise_from(corrupt(x_0, noise, alpha, sigma), x_0, alpha, sigma), noise, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_noise_none_is_found(dtype):
    x_0, error = draw(0, 2, dtype=dtype)
    one, zero = per_text(torch.ones(1, dtype=dtype)), per_text(torch.zeros(1, dtype=dtype))
    assert (noise_from(x_0 + error, x_0, one, zero) == 0).all()


@pytest.mark.parametrize("step", [2, 3, 10, 105, 500, 999, 1000])
def test_posterior_of_one_step_is_that_of_ho_et_al(step):
    """Ho et al. 2020, eq. 7."""
    betas = np.linspace(1e-4, 0.02, 1000)
    alpha_bars = np.cumprod(1 - betas)
    beta, bar, bar_before = betas[step - 1], alpha_bars[step - 1], alpha_bars[step - 2]
    x_t, x_0 = draw(step, 2)
    expected_mean = np.sqrt(bar_before) * beta / (1 - bar) * x_0
    expected_mean = expected_mean + np.sqrt(1 - beta) * (1 - bar_before) / (1 - bar) * x_t

    schedule = LinearSchedule()
    mean, std = posterior(x_t, x_0, *levels_at(schedule, step / 1000), *levels_at(schedule, (step - 1) / 1000))
    assert_close(mean, expected_mean, rtol=1e-9, atol=1e-9)
    assert std.item() == pytest.approx(np.sqrt((1 - bar_before) / (1 - bar) * beta), rel=1e-9)


@pytest.mark.parametrize("num_steps", [1000, 50, 7])
def test_posterior_at_any_stride_is_that_of_diffusers(num_steps):
    scheduler = DDPMScheduler(1000, variance_type="fixed_small", prediction_type="sample", clip_sample=False)
    scheduler.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    scheduler.set_timesteps(num_steps)
    schedule = LinearSchedule()
    for index in scheduler.timesteps[:: max(1, num_steps // 7)].tolist():
        earlier = index - 1000 // num_steps
        if earlier < 0:
            continue
        x_t, x_0 = draw(index, 2)
        generator = torch.Generator().manual_seed(index)
        theirs = scheduler.step(x_0, index, x_t, generator=generator).prev_sample

        mean, std = posterior(
            x_t,
            x_0,
            *levels_at(schedule, (index + 1) / 1000),
            *levels_at(schedule, (earlier + 1) / 1000),
        )
        noise = torch.randn(x_t.shape, generator=generator.manual_seed(index), dtype=x_t.dtype)
        assert_close(mean + std * noise, theirs, rtol=0, atol=1e-9)


@given(times=later_and_earlier(), seed=SEEDS)
def test_posterior_is_the_conditional_of_the_joint(schedule, times, seed):
    """x_s and x_t, given x_0, are jointly Gaussian: condition one on the other by their 2 × 2 covariance."""
    t, s = times
    (alpha_t, sigma_t), (alpha_s, sigma_s) = levels_at(schedule, t), levels_at(schedule, s)
    x_t, x_0 = draw(seed, 2)
    # x_s = alpha_s·x_0 + sigma_s·e_1, then x_t = kept·x_s + added·e_2, whose variance given x_0 is sigma_t².
    kept = (alpha_t / alpha_s).item()
    added = np.sqrt(max(0.0, sigma_t.item() ** 2 - (kept * sigma_s.item()) ** 2))
    mixing = np.array([[sigma_s.item(), 0.0], [kept * sigma_s.item(), added]])
    covariance = mixing @ mixing.T
    gain = covariance[0, 1] / covariance[1, 1]
    variance = covariance[0, 0] - gain * covariance[1, 0]

    mean, std = posterior(x_t, x_0, alpha_t, sigma_t, alpha_s, sigma_s)
    assert_close(mean, alpha_s * x_0 + gain * (x_t - alpha_t * x_0), rtol=1e-9, atol=1e-9)
    assert std.item() ** 2 == pytest.approx(variance, rel=1e-6, abs=1e-9)


@given(times=later_and_earlier())
def test_posterior_over_x_t_gives_back_the_marginal(schedule, times):
    """∫ q(x_s | x_t, x_0) q(x_t | x_0) dx_t = q(x_s | x_0)."""
    t, s = times
    (alpha_t, sigma_t), (alpha_s, sigma_s) = levels_at(schedule, t), levels_at(schedule, s)
    one, zero = torch.ones(1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.float64)
    by_x_t, std = posterior(one, zero, alpha_t, sigma_t, alpha_s, sigma_s)
    by_x_0, _ = posterior(zero, one, alpha_t, sigma_t, alpha_s, sigma_s)
    assert_close(by_x_t * alpha_t + by_x_0, alpha_s)
    assert_close(by_x_t**2 * sigma_t**2 + std**2, sigma_s**2)


def test_posterior_at_data_is_x_0(schedule):
    x_t, x_0 = draw(0, 2)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    mean, std = posterior(x_t, x_0, *levels_at(schedule, 0.3), one, 0 * one)
    assert_close(mean, x_0)
    assert std.item() == 0


def test_posterior_in_float32_is_that_in_float64(schedule):
    """Over the shortest strides in use: a thousandth of the time."""
    x_t, x_0 = draw(0, 2)
    for step in (2, 100, 500, 900, 999):
        levels = [*levels_at(schedule, step / 1000), *levels_at(schedule, (step - 1) / 1000)]
        mean, std = posterior(x_t, x_0, *levels)
        mean_32, std_32 = posterior(x_t.float(), x_0.float(), *(level.float() for level in levels))
        assert_close(mean_32.double(), mean, rtol=0, atol=1e-5)
        assert std_32.item() == pytest.approx(std.item(), rel=1e-3)
