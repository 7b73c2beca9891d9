"""Noise schedules: agreement with outside references, and what each of them promises."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffusion_text.diffusion.schedules import (
    ALPHA_BAR_FLOOR,
    CosineSchedule,
    LearnedSchedule,
    LinearSchedule,
    LogSNRLinearSchedule,
    SqrtSchedule,
    TanSchedule,
)

GOLDENS = json.loads((Path(__file__).parents[1] / "golden" / "schedules.json").read_text())
EVERYWHERE = st.floats(0, 1)
UNCLAMPED = st.floats(0, 0.9998)  # later, the sqrt schedule is flat at the floor


def alpha_bar(schedule, t):
    return schedule.alpha_sigma(torch.as_tensor(t, dtype=torch.float64))[0] ** 2


def grid(num_steps):
    """Times of the discrete steps 1 … num_steps."""
    return torch.arange(1, num_steps + 1, dtype=torch.float64) / num_steps


@pytest.mark.parametrize("golden", GOLDENS["sqrt"], ids=lambda golden: str(golden["step"]))
def test_sqrt_is_that_of_the_reference_code(golden):
    ours = alpha_bar(SqrtSchedule(), golden["step"] / golden["num_steps"]).item()
    assert ours == pytest.approx(golden["alpha_bar"], abs=1e-12)


def test_sqrt_is_not_the_formula_as_printed():
    assert abs(alpha_bar(SqrtSchedule(), 0.25) / (1 - math.sqrt(0.25 + 1e-4)) - 1) > 0.009


def test_linear_is_the_product_of_its_betas():
    expected = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    assert_close(alpha_bar(LinearSchedule(), grid(1000)), torch.from_numpy(expected), rtol=1e-12, atol=0)


def test_linear_is_that_of_diffusers():
    theirs = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear").alphas_cumprod
    assert_close(alpha_bar(LinearSchedule(), grid(1000)), theirs.double(), rtol=1e-5, atol=0)  # theirs is float32


@pytest.mark.parametrize("num_steps", [100, 1000])
def test_cosine_is_that_of_diffusers_where_it_caps_no_beta(num_steps):
    theirs = DDPMScheduler(num_steps, beta_schedule="squaredcos_cap_v2")
    uncapped = theirs.betas < 0.9989
    assert uncapped[:-1].all()
    assert not uncapped[-1]
    ours = alpha_bar(CosineSchedule(), grid(num_steps))
    assert_close(ours[:-1], theirs.alphas_cumprod[:-1].double(), rtol=1e-4, atol=0)  # theirs is float32


def test_linear_interpolates_log_alpha_bar():
    at, middle, after = alpha_bar(LinearSchedule(num_steps=10), [0.3, 0.35, 0.4])
    assert middle.item() == pytest.approx(math.sqrt(at * after), rel=1e-12)


@given(t=EVERYWHERE)
def test_log_snr_linear_is_linear(t):
    log_snr = LogSNRLinearSchedule(8.0, -4.0).log_snr(torch.tensor(t, dtype=torch.float64))
    assert log_snr.item() == pytest.approx(8 - 12 * t, abs=1e-9)


@given(t=EVERYWHERE, d=st.floats(0.1, 100))
def test_tan_is_a_cosine_with_a_constant_taken_from_its_log_snr(t, d):
    t = torch.tensor(0.01 + 0.98 * t, dtype=torch.float64)
    shift = CosineSchedule(s=0.0).log_snr(t) - TanSchedule(d).log_snr(t)
    assert shift.item() == pytest.approx(2 * math.log(d), abs=1e-6)


def test_a_learned_schedule_goes_where_the_loss_falls():
    """The loss of a Gumbel distribution's tail falls alike in equal times when the schedule has its parameters."""
    location, scale = -2.0, 0.8
    schedule = LearnedSchedule(decay=0.9)
    for _ in range(300):
        t = torch.rand(256)
        tail = (schedule.log_snr(t) - location) / scale
        schedule.observe(t, 3.0 * torch.exp(-tail.exp()))
    assert float(schedule.location) == pytest.approx(location, abs=0.15)
    assert float(schedule.scale) == pytest.approx(scale, abs=0.15)
    losses = 3.0 * torch.exp(-((schedule.log_snr(torch.tensor([0.25, 0.5, 0.75])) - location) / scale).exp())
    assert_close(losses, torch.tensor([0.75, 1.5, 2.25]), atol=0.2, rtol=0)


def test_a_learned_schedule_falls_from_data_to_noise():
    """In fewer steps at little noise than the others, whose samplers need them: a token is known by then."""
    schedule = LearnedSchedule(location=-1.0, scale=0.7)
    start, end = alpha_bar(schedule, [0.0, 1.0]).tolist()
    assert (start, end) == (1.0, pytest.approx(ALPHA_BAR_FLOOR))
    times = torch.linspace(0, 0.9998, 10_001, dtype=torch.float64)
    assert (alpha_bar(schedule, times).diff() < 0).all()
    assert_close(schedule.time_at(alpha_bar(schedule, times).sqrt()), times, rtol=0, atol=1e-9)


def test_a_learned_schedule_is_as_it_was_until_it_has_seen_something():
    schedule = LearnedSchedule(location=1.0, scale=2.0)
    schedule.observe(torch.tensor([0.5]), torch.tensor([1.0]))
    assert (float(schedule.location), float(schedule.scale)) == (1.0, 2.0)
    assert float(schedule.log_snr(torch.tensor(math.exp(-1)))) == pytest.approx(1.0, abs=1e-5)


def test_starts_at_data_and_ends_at_noise(schedule):
    start, end = alpha_bar(schedule, [0.0, 1.0]).tolist()
    assert 0.9999 < start <= 1
    assert ALPHA_BAR_FLOOR * 0.999 < end < 1e-4


@given(a=EVERYWHERE, b=EVERYWHERE)
def test_never_rises(schedule, a, b):
    early, late = alpha_bar(schedule, sorted([a, b]))
    assert 1 >= early >= late > 0


def test_falls_strictly_up_to_its_floor(schedule):
    assert (alpha_bar(schedule, torch.linspace(0, 0.9998, 10_001)).diff() < 0).all()


@given(t=EVERYWHERE)
def test_variance_is_preserved(schedule, t):
    alpha, sigma = schedule.alpha_sigma(torch.tensor(t, dtype=torch.float64))
    assert (alpha**2 + sigma**2).item() == pytest.approx(1, abs=1e-15)


@given(t=EVERYWHERE)
def test_log_snr_follows_from_alpha_and_sigma(schedule, t):
    t = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t)
    assert_close(schedule.log_snr(t), 2 * (alpha / sigma).log(), rtol=1e-12, atol=1e-9)


@given(t=UNCLAMPED)
def test_time_at_inverts_alpha(schedule, t):
    alpha = schedule.alpha_sigma(torch.tensor(t, dtype=torch.float64))[0]
    assert schedule.time_at(alpha).item() == pytest.approx(t, abs=1e-9)


@given(t=st.floats(0, 1, width=32))
def test_float32_loses_nothing_but_the_last_rounding(schedule, t):
    single, double = torch.tensor(t), torch.tensor(t, dtype=torch.float64)
    for ours, exact in [
        *zip(schedule.alpha_sigma(single), schedule.alpha_sigma(double), strict=True),
        (schedule.log_snr(single), schedule.log_snr(double)),
    ]:
        assert ours.dtype == torch.float32
        assert_close(ours.double(), exact, rtol=2.0**-24, atol=1e-45)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_times_come_in_any_shape(schedule, shape):
    t = torch.rand(shape, dtype=torch.float64)
    one_by_one = [schedule.alpha_sigma(time)[0].item() for time in t.flatten()]
    assert_close(schedule.alpha_sigma(t)[0], torch.tensor(one_by_one, dtype=torch.float64).reshape(shape))
    assert schedule.log_snr(t).shape == schedule.time_at(t).shape == shape


@pytest.mark.parametrize(
    ("schedule_class", "arguments"),
    [
        (LinearSchedule, {"beta_start": 0.0}),
        (LinearSchedule, {"beta_start": 0.03}),
        (LinearSchedule, {"beta_end": 1.0}),
        (LinearSchedule, {"beta_end": math.nan}),
        (LinearSchedule, {"num_steps": 0}),
        (CosineSchedule, {"s": -0.1}),
        (TanSchedule, {"d": 0.0}),
        (CosineSchedule, {"s": 1.0}),
        (SqrtSchedule, {"s": -0.1}),
        (SqrtSchedule, {"s": 1.0}),
        (LogSNRLinearSchedule, {"log_snr_max": -10.0}),
        (LogSNRLinearSchedule, {"log_snr_min": math.nan}),
    ],
)
def test_bad_parameters_are_refused(schedule_class, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        schedule_class(**arguments)
