"""One step for two of DDIM, for any estimates and for the exact ones of Gaussian data."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffusion_text.diffusion.distillation import share_of_first
from diffusion_text.diffusion.samplers import DDIMSampler, levels, towards
from diffusion_text.diffusion.time_sampling import LogitNormalTimes

DATA_STD = 0.5


@given(start=st.floats(0.05, 1), first=st.floats(0.01, 1), second=st.floats(0.01, 1), seed=st.integers(0, 2**32 - 1))
def test_a_step_by_the_mean_ends_where_two_do(schedule, start, first, second, seed):
    x_t, earlier, later = torch.randn(3, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    times = torch.tensor([start, start * (1 - first), start * (1 - first) * (1 - second)], dtype=torch.float64)
    now, middle, after = (levels(schedule, time, x_t) for time in times)
    share = share_of_first(now, middle, after)
    assert 0 <= share <= 1
    two = towards(towards(x_t, earlier, now, middle), later, middle, after)
    assert_close(towards(x_t, torch.lerp(later, earlier, share), now, after), two, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("end", [0.0, 0.3])
def test_where_the_first_step_ends_there_is_no_second(schedule, end):
    now, there = (levels(schedule, torch.tensor(time), torch.zeros(())) for time in (0.8, end))
    assert share_of_first(now, there, there) == 1
    assert share_of_first(now, now, there) == 0


@pytest.mark.parametrize("times", [(1.0, 0.6, 0.3), (0.5, 0.2, 0.0)])
def test_exact_estimates_of_gaussian_data_come_to_two_steps_in_closed_form(schedule, times):
    """x_0 ~ N(0, s²): E[x_0 | x_t] = alpha·s²·x_t / (alpha²·s² + sigma²), and a step of DDIM, in ᾱ as Song et al. 2021
    have it, multiplies x_t by a number.
    """

    def exact(bar):
        return math.sqrt(bar) * DATA_STD**2 / (bar * DATA_STD**2 + 1 - bar)

    def step(bar_t, bar_s):
        return math.sqrt(bar_s) * exact(bar_t) + math.sqrt(1 - bar_s) * (
            (1 - math.sqrt(bar_t) * exact(bar_t)) / math.sqrt(1 - bar_t)
        )

    x_t = torch.ones(1, 1, 1, dtype=torch.float64)
    at = [levels(schedule, torch.tensor(time, dtype=torch.float64), x_t) for time in times]
    bar_t, bar_m, bar_s = (float(alpha) ** 2 for alpha, _ in at)
    mean = torch.lerp(exact(bar_m) * step(bar_t, bar_m) * x_t, exact(bar_t) * x_t, share_of_first(*at))
    assert_close(towards(x_t, mean, at[0], at[2]), x_t * step(bar_t, bar_m) * step(bar_m, bar_s), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spacing", ["angle", "training", "log_snr", "time"])
def test_few_steps_visit_some_of_the_times_of_many(schedule, spacing):
    few, many = (DDIMSampler(n, spacing=spacing).times(schedule, drawn=LogitNormalTimes()) for n in (4, 64))
    assert_close(few, many[::16], rtol=1e-9, atol=1e-9)
