"""Samplers against an exact denoiser.

For data x_0 ~ N(0, s²) everything is known: E[x_0 | x_t] = alpha·s²·x_t / (alpha²·s² + sigma²), x_t has the variance
alpha²·s² + sigma², and as that denoiser is linear, so is each step of a sampler: a recursion over one number says what
spread a solver of finitely many steps must have. The recursion here is written in ᾱ, straight from the papers:

    ddpm   Ho et al. 2020, eq. 7           ddim   Song et al. 2021, eq. 12 and 16
    dpm_solver   Lu et al. 2022b, algorithm 2, whose recursion is over two numbers
    heun   the trapezoid rule for Lu et al. 2022b, eq. 8, whose step is two of DDIM's
"""

import json
import math
from itertools import pairwise
from pathlib import Path

import jaxtyping
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal
from torch.testing import assert_close

from diffusion_text.diffusion.gaussian import noise_from, per_text, posterior
from diffusion_text.diffusion.predictions import EpsilonPrediction, VPrediction, X0Prediction
from diffusion_text.diffusion.samplers import (
    DDIMSampler,
    DDPMSampler,
    DPMSolverSampler,
    GaussianSampler,
    HeunSampler,
    draw_like,
    levels,
)
from diffusion_text.diffusion.schedules import CosineSchedule, LinearSchedule, SqrtSchedule
from diffusion_text.diffusion.time_sampling import LogitNormalTimes

GOLDENS = json.loads((Path(__file__).parents[1] / "golden" / "samplers.json").read_text())
DATA_STD = 0.5
PREDICTIONS = {"epsilon": EpsilonPrediction(), "x0": X0Prediction(), "v": VPrediction()}
SHAPE = (16, 16, 16)
SAMPLING_ERROR = 1 / math.sqrt(2 * math.prod(SHAPE))  # relative standard error of an estimated standard deviation

SAMPLERS = {
    "ddpm": DDPMSampler,
    "ddim": DDIMSampler,
    "ddim_eta_1": lambda *args: DDIMSampler(*args, eta=1.0),
    "ddim_eta_2": lambda *args: DDIMSampler(*args, eta=2.0),
    "dpm_solver": DPMSolverSampler,
    "heun": HeunSampler,
}
DETERMINISTIC = ("ddim", "dpm_solver", "heun")
each_sampler = pytest.mark.parametrize("sampler_name", SAMPLERS)


# What the papers say a step does to the spread of x_t.


def share_of_x_t(bar_t, data_std):
    """E[x_0 | x_t] / x_t."""
    return math.sqrt(bar_t) * data_std**2 / (bar_t * data_std**2 + 1 - bar_t)


def ddpm_step(bar_t, bar_s, share):
    """What multiplies x_t, and the standard deviation of what is added: Ho et al., eq. 7."""
    beta = 1 - bar_t / bar_s
    of_x_0 = math.sqrt(bar_s) * beta / (1 - bar_t)
    of_x_t = math.sqrt(1 - beta) * (1 - bar_s) / (1 - bar_t)
    return of_x_0 * share + of_x_t, math.sqrt(max(0.0, (1 - bar_s) / (1 - bar_t) * beta))


def ddim_step(bar_t, bar_s, share, eta):
    """The same for DDIM: Song et al., eq. 12 with eq. 16, and no more noise than x_s has."""
    std = eta * math.sqrt((1 - bar_s) / (1 - bar_t)) * math.sqrt(1 - bar_t / bar_s)
    std = min(std, math.sqrt(1 - bar_s))
    predicted_noise = (1 - math.sqrt(bar_t) * share) / math.sqrt(1 - bar_t)
    direction = math.sqrt(max(0.0, 1 - bar_s - std**2)) * predicted_noise
    return math.sqrt(bar_s) * share + direction, std


PAPERS = {
    "ddpm": ddpm_step,
    "ddim": lambda *levels: ddim_step(*levels, eta=0.0),
    "ddim_eta_1": lambda *levels: ddim_step(*levels, eta=1.0),
    "ddim_eta_2": lambda *levels: ddim_step(*levels, eta=2.0),
    "dpm_solver": lambda *levels: ddim_step(*levels, eta=0.0),  # where there is no step before
}


def heun_spread(alpha_bars, data_std):
    """x_s = (sigma_s / sigma_t)·x + alpha_s·(1 − e^(−h))·(data at both ends, halved), h that of log(alpha / sigma)."""
    x = 1.0
    for bar_t, bar_s in pairwise(alpha_bars[:-1]):
        end = ddim_step(bar_t, bar_s, share_of_x_t(bar_t, data_std), eta=0.0)[0] * x
        data = (share_of_x_t(bar_t, data_std) * x + share_of_x_t(bar_s, data_std) * end) / 2
        shrink = math.sqrt((1 - bar_s) / (1 - bar_t))
        x = shrink * x + (math.sqrt(bar_s) - math.sqrt(bar_t) * shrink) * data
    return ddim_step(*alpha_bars[-2:], share_of_x_t(alpha_bars[-2], data_std), eta=0.0)[0] * x


def spread_by_the_papers(sampler_name, alpha_bars, data_std=DATA_STD):
    """The standard deviation at the end of a run over these ᾱ, started from unit noise."""
    if sampler_name == "dpm_solver":
        return dpm_solver_spread(alpha_bars, data_std)
    if sampler_name == "heun":
        return heun_spread(alpha_bars, data_std)
    variance = 1.0
    for bar_t, bar_s in pairwise(alpha_bars):
        factor, added = PAPERS[sampler_name](bar_t, bar_s, share_of_x_t(bar_t, data_std))
        variance = factor**2 * variance + added**2
    return math.sqrt(variance)


def dpm_solver_spread(alpha_bars, data_std):
    """Where Lu et al.'s algorithm 2 takes 1; the step to the data is of first order, whose limit exists at ᾱ = 1."""
    x, before = 1.0, None
    for bar_t, bar_s in pairwise(alpha_bars[:-1]):
        data, now = share_of_x_t(bar_t, data_std) * x, math.log(bar_t / (1 - bar_t)) / 2
        h = math.log(bar_s / (1 - bar_s)) / 2 - now
        r = math.inf if before is None else (now - before[0]) / h
        mixed = data if before is None else (1 + 1 / (2 * r)) * data - 1 / (2 * r) * before[1]
        x = math.sqrt((1 - bar_s) / (1 - bar_t)) * x - math.sqrt(bar_s) * math.expm1(-h) * mixed
        before = now, data
    return ddim_step(*alpha_bars[-2:], share_of_x_t(alpha_bars[-2], data_std), eta=0.0)[0] * x


def alpha_bars_of(sampler, schedule):
    return (schedule.alpha_sigma(sampler.times(schedule))[0] ** 2).tolist()


# What a sampler does.


def exact_predictor(schedule, data_std):
    """E[x_0 | x_t], a third of the batch each by way of what an exact epsilon, x0 and v network would output."""

    def predict_x0(x_t, t, x_0_previous):
        alpha, sigma = (per_text(level) for level in schedule.alpha_sigma(t))
        variance = alpha**2 * data_std**2 + sigma**2
        x_0, noise = alpha * data_std**2 / variance * x_t, sigma / variance * x_t
        thirds = zip(*(tensor.chunk(3) for tensor in (x_0, noise, x_t, alpha, sigma)), strict=True)
        answers = []
        for prediction, (x_0_i, noise_i, x_t_i, alpha_i, sigma_i) in zip(PREDICTIONS.values(), thirds, strict=True):
            output = prediction.target(x_0_i, noise_i, alpha_i, sigma_i)
            answers.append(prediction.to_x0(output, x_t_i, alpha_i, sigma_i))
        return torch.cat(answers)

    return predict_x0


def spreads(sampler, schedule, data_std=DATA_STD):
    """Standard deviations that a run shows: `(time, prediction's name, std)` for ten times or so down to 0.

    It starts from noise whose mean square is exactly 1.
    """
    x_t = torch.randn(len(PREDICTIONS), *SHAPE, generator=torch.Generator().manual_seed(0))
    x_t = (x_t / x_t.square().mean((1, 2, 3), keepdim=True).sqrt()).flatten(0, 1)
    run = sampler.reverse(x_t, exact_predictor(schedule, data_std), schedule, torch.Generator().manual_seed(1))
    shown = []
    for number, step in enumerate(run, start=1):
        if number % max(1, sampler.num_steps // 10) == 0 or number == sampler.num_steps:
            for name, third in zip(PREDICTIONS, step.x_s.chunk(3), strict=True):
                shown.append((step.s.item(), name, third.square().mean().sqrt().item()))
    return shown


def marginal_std(schedule, t, data_std=DATA_STD):
    """The standard deviation of x_t."""
    alpha, sigma = schedule.alpha_sigma(t)
    return math.sqrt(alpha**2 * data_std**2 + sigma**2)


def violations(sampler, schedule, data_std=DATA_STD):
    """The oracle: where a sampler's spread is not the analytic marginal's; empty for a right sampler.

    Both families are of first order: the relative error at the end is near 1.5 / steps for DDIM, and below 4.5 / steps
    with all of DDPM's noise; four standard errors of the estimate are added where noise is.
    """
    solver = isinstance(sampler, (DPMSolverSampler, HeunSampler))
    deterministic = solver or (isinstance(sampler, DDIMSampler) and sampler.eta == 0)
    tolerance = 2 / sampler.num_steps if deterministic else 4.5 / sampler.num_steps + 4 * SAMPLING_ERROR
    wrong = []
    for t, name, std in spreads(sampler, schedule, data_std):
        right = marginal_std(schedule, torch.tensor(t, dtype=torch.float64), data_std)
        if not abs(std / right - 1) <= tolerance:
            wrong.append(f"{name} at t = {t:.4f}: std {std:.4f}, where {right:.4f} is right")
    return wrong


@pytest.mark.parametrize("sampler_name", ["ddpm", "ddim", "ddim_eta_1", "dpm_solver", "heun"])
@pytest.mark.parametrize("num_steps", [10, 50, 1000])
def test_spread_is_the_marginals(sampler_name, num_steps, schedule, monkeypatch):
    """Every prediction, and all along the way. Shapes are those of few steps, where they are checked."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", num_steps > 50)
    assert violations(SAMPLERS[sampler_name](num_steps), schedule) == []


@each_sampler
@pytest.mark.parametrize("spacing", ["angle", "log_snr", "time"])
def test_spread_is_that_of_the_papers_steps(sampler_name, spacing, schedule):
    """Without any tolerance for discretisation."""
    sampler = SAMPLERS[sampler_name](25, 8.0, spacing)
    expected = spread_by_the_papers(sampler_name, alpha_bars_of(sampler, schedule))
    tolerance = 1e-4 if sampler_name in DETERMINISTIC else 4 * SAMPLING_ERROR
    for t, _, std in spreads(sampler, schedule):
        if t == 0:
            assert std == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("num_steps", GOLDENS["final_std"]["num_steps"])
@pytest.mark.parametrize("sampler_name", ["ddim", "ddpm"])
def test_spread_is_what_was_seen_elsewhere(sampler_name, num_steps):
    golden = GOLDENS["final_std"]
    seen = golden[sampler_name][golden["num_steps"].index(num_steps)]
    bars = alpha_bars_of(SAMPLERS[sampler_name](num_steps), CosineSchedule())
    assert spread_by_the_papers(sampler_name, bars, golden["data_std"]) == pytest.approx(seen, abs=0.0025)


@pytest.mark.parametrize("sampler_name", PAPERS)
@given(t=st.floats(0.01, 1), stride=st.floats(0.01, 1), share=st.floats(-1, 1), seed=st.integers(0, 2**32 - 1))
def test_a_step_is_that_of_the_papers(sampler_name, schedule, t, stride, share, seed):
    s = t * (1 - stride)
    x_t = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    t, s = torch.tensor([t, s], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed + 1)
    x_s = SAMPLERS[sampler_name](1).step(x_t, t, s, lambda x, time: share * x, schedule, generator)

    bar_t, bar_s = (schedule.alpha_sigma(time)[0].item() ** 2 for time in (t, s))
    factor, std = PAPERS[sampler_name](bar_t, bar_s, share)
    noise = torch.randn(x_t.shape, dtype=x_t.dtype, generator=generator.manual_seed(seed + 1))
    assert_close(x_s, factor * x_t + std * noise, rtol=1e-6, atol=1e-6)


def diffusers_scheduler(scheduler_class, num_steps, **arguments):
    scheduler = scheduler_class(1000, prediction_type="sample", **arguments)
    scheduler.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    scheduler.set_timesteps(num_steps)
    return scheduler


@pytest.mark.parametrize("num_steps", [1000, 50, 8])
@pytest.mark.parametrize(
    ("sampler", "scheduler_class", "scheduler_arguments", "step_arguments"),
    [
        (DDPMSampler(), DDPMScheduler, {"variance_type": "fixed_small"}, {}),
        (DDIMSampler(), DDIMScheduler, {}, {"eta": 0.0}),
        (DDIMSampler(eta=0.6), DDIMScheduler, {}, {"eta": 0.6}),
        (DDIMSampler(eta=1.0), DDIMScheduler, {}, {"eta": 1.0}),
    ],
    ids=["ddpm", "ddim", "ddim_eta_0.6", "ddim_eta_1"],
)
def test_a_step_is_that_of_diffusers(sampler, scheduler_class, scheduler_arguments, step_arguments, num_steps):
    scheduler = diffusers_scheduler(scheduler_class, num_steps, clip_sample=False, **scheduler_arguments)
    indices = scheduler.timesteps[:: num_steps // 8].tolist()
    for index in [*indices, 0]:  # the last one leads to the data
        x_t, x_0 = torch.randn(2, 1, 4, 3, dtype=torch.float64).unbind()
        generator = torch.Generator().manual_seed(index)
        theirs = scheduler.step(x_0, index, x_t, generator=generator, **step_arguments).prev_sample

        t, s = (torch.tensor((i + 1) / 1000, dtype=torch.float64) for i in (index, index - 1000 // num_steps))
        x_s = sampler.step(
            x_t, t, s.clamp(min=0), lambda x, time, x_0=x_0: x_0, LinearSchedule(), generator.manual_seed(index)
        )
        assert_close(x_s, theirs, rtol=0, atol=1e-7)


def at(times, sampler_class):
    """A sampler without bounds that visits these times."""

    class At(sampler_class):
        def times(self, schedule, start=1.0, drawn=None):
            return times

    return At(len(times) - 1, None)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers'
@pytest.mark.parametrize("num_steps", [8, 20, 50])
def test_a_run_of_the_solver_is_that_of_diffusers(num_steps):
    scheduler = diffusers_scheduler(
        DPMSolverMultistepScheduler, num_steps, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero"
    )
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    theirs = [x]
    for index in scheduler.timesteps:
        theirs.append(scheduler.step((theirs[-1] / 2).tanh(), index, theirs[-1]).prev_sample)

    times = torch.tensor([*((index + 1) / 1000 for index in scheduler.timesteps.tolist()), 0.0], dtype=torch.float64)
    assert_close(LinearSchedule().alpha_sigma(times[:-1])[0] ** 2, scheduler.alphas_cumprod[scheduler.timesteps])
    run = at(times, DPMSolverSampler).reverse(x, lambda x, *_: (x / 2).tanh(), LinearSchedule(), torch.Generator())
    for step, expected in zip(run, theirs[1:], strict=True):
        assert_close(step.x_s, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("solver", [DPMSolverSampler, HeunSampler])
def test_a_solver_is_of_second_order(solver, schedule):
    """Twice the steps leave a quarter of the error where DDIM's leave half of it."""

    def error(sampler_class, num_steps):
        angles = torch.linspace(math.acos(0.1), math.acos(0.995), num_steps + 1, dtype=torch.float64)
        times = schedule.time_at(angles.cos())
        first, last = marginal_std(schedule, times[0]), marginal_std(schedule, times[-1])
        x = torch.full((len(PREDICTIONS), 1, 1), first, dtype=torch.float64)
        predict_x0 = exact_predictor(schedule, DATA_STD)
        *_, end = at(times, sampler_class).reverse(x, predict_x0, schedule, torch.Generator())
        return abs(end.x_s.mean().item() - last)

    assert error(DDIMSampler, 40) / error(DDIMSampler, 80) == pytest.approx(2, abs=0.3)
    assert error(solver, 40) / error(solver, 80) == pytest.approx(4, abs=0.8)
    assert error(solver, 40) < error(DDIMSampler, 40) / 5


def test_ddim_with_all_noise_is_ddpm(schedule):
    x = torch.randn(4, 3, 2, dtype=torch.float64)
    ends = [
        list(sampler.reverse(x, lambda x, t, _: x / 3, schedule, torch.Generator().manual_seed(0)))[-1].x_s
        for sampler in (DDPMSampler(20), DDIMSampler(20, eta=1.0))
    ]
    assert_close(*ends, rtol=0, atol=1e-7)


# Samplers known to be wrong: the oracle has to see it.


class AdjacentPosterior(GaussianSampler):
    """The embedding route's origin: coefficients of the step to t − 1/2000, whatever the stride."""

    def step(self, x_t, t, s, predict_x0, schedule, generator, earlier=None):
        before = (t - 1 / 2000).clamp(min=0)
        mean, std = posterior(x_t, predict_x0(x_t, t), *levels(schedule, t, x_t), *levels(schedule, before, x_t))
        return mean + std * draw_like(x_t, generator)


class AdjacentPosteriorOnTheOriginsGrid(AdjacentPosterior):
    """Visits indices linspace(1999, 0, steps) of 2,000, each of which is a step's number less one."""

    def times(self, schedule, start=1.0, drawn=None):
        return origins_grid(self.num_steps)


class RightPosteriorOnTheOriginsGrid(DDPMSampler):
    def times(self, schedule, start=1.0, drawn=None):
        return origins_grid(self.num_steps)


class CurrentAlpha(DDIMSampler):
    """The latent route's origin: DDIM that puts x_s together with the levels of t."""

    def step(self, x_t, t, s, predict_x0, schedule, generator, earlier=None):
        x_0 = predict_x0(x_t, t)
        alpha, sigma = levels(schedule, t, x_t)
        return alpha * x_0 + sigma * noise_from(x_t, x_0, alpha, sigma)


class TenPercentWide(DDIMSampler):
    """Right until the last step."""

    def step(self, x_t, t, s, predict_x0, schedule, generator, earlier=None):
        x_s = super().step(x_t, t, s, predict_x0, schedule, generator, earlier)
        return x_s if s > 0 else 1.1 * x_s


class TenPercentNarrow(DDPMSampler):
    """Right until the last step."""

    def step(self, x_t, t, s, predict_x0, schedule, generator, earlier=None):
        x_s = super().step(x_t, t, s, predict_x0, schedule, generator, earlier)
        return x_s if s > 0 else 0.9 * x_s


def origins_grid(num_steps):
    indices = torch.linspace(1999, 0, num_steps, dtype=torch.float64).round()
    return torch.cat([(indices + 1) / 2000, torch.zeros(1, dtype=torch.float64)])


@pytest.mark.parametrize("wrong", [AdjacentPosterior(20), AdjacentPosterior(20, spacing="time"), CurrentAlpha(20)])
def test_the_origins_wrong_samplers_are_caught(wrong, schedule):
    at_the_end = [violation for violation in violations(wrong, schedule) if "at t = 0.0000" in violation]
    assert len(at_the_end) == len(PREDICTIONS)


@pytest.mark.parametrize("wrong", [TenPercentWide(250), TenPercentNarrow(250)])
def test_ten_percent_is_caught(wrong, schedule):
    assert len(violations(wrong, schedule)) == len(PREDICTIONS)


def test_adjacent_coefficients_fail_as_they_did():
    golden = GOLDENS["adjacent_step_posterior"]
    time = (golden["step"] + 1) / golden["grid_steps"]

    def spreads_there(sampler):
        shown = spreads(sampler, SqrtSchedule(), golden["data_std"])
        return pytest.approx([std for t, _, std in shown if abs(t - time) < 1e-9], rel=4 * SAMPLING_ERROR)

    marginal = marginal_std(SqrtSchedule(), torch.tensor(time, dtype=torch.float64), golden["data_std"])
    assert marginal == pytest.approx(golden["right_std"], abs=0.0005)
    assert [golden["right_std"]] * 3 == spreads_there(RightPosteriorOnTheOriginsGrid(golden["num_steps"]))
    assert [golden["std"]] * 3 == spreads_there(AdjacentPosteriorOnTheOriginsGrid(golden["num_steps"]))


# Predictors that are wrong, as all are.


def finish(sampler, schedule, predict_x0, seed=0):
    """The sample that a seed leads to, always from the same noise."""
    x = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(7))
    return list(sampler.reverse(x, predict_x0, schedule, torch.Generator().manual_seed(seed)))[-1].x_s


def epsilon_network(schedule, outputs):
    def predict_x0(x_t, t, x_0_previous):
        alpha, sigma = (per_text(level) for level in schedule.alpha_sigma(t))
        return EpsilonPrediction().to_x0(outputs(x_t), x_t, alpha, sigma)

    return predict_x0


@each_sampler
@pytest.mark.parametrize("spacing", ["angle", "time"])
def test_an_untrained_epsilon_network_stays_finite(sampler_name, spacing, schedule):
    sampler = SAMPLERS[sampler_name](50, 3.0, spacing)
    x_s = finish(sampler, schedule, epsilon_network(schedule, torch.randn_like))
    assert x_s.abs().max() < 3.1  # within the bound; log_snr_linear leaves a little noise on top


@each_sampler
def test_without_clip_a_slight_error_in_epsilon_blows_up(sampler_name):
    """One per cent too short an answer, and like a network's never larger than noise is."""
    schedule = CosineSchedule()
    predict_x0 = epsilon_network(schedule, lambda x_t: 0.99 * x_t.clamp(-4, 4))
    assert finish(SAMPLERS[sampler_name](50, None), schedule, predict_x0).norm() > 1e3
    assert finish(SAMPLERS[sampler_name](50, 8.0), schedule, predict_x0).norm() < 1e2


@each_sampler
def test_clip_bounds_every_x_0(sampler_name, schedule):
    def far_off(x_t, t, x_0_previous):
        return 100 * x_t

    x = torch.randn(4, 6, 5)
    for step in SAMPLERS[sampler_name](10, 2.5).reverse(x, far_off, schedule, torch.Generator()):
        assert step.x_0.abs().max() <= 2.5


# The reverse loop.


@each_sampler
def test_a_seed_fixes_the_sample(sampler_name, schedule):
    def draw(seed):
        return finish(SAMPLERS[sampler_name](10), schedule, lambda x, t, _: x / 3, seed)

    assert draw(1).equal(draw(1))
    assert draw(1).equal(draw(2)) == (sampler_name in DETERMINISTIC)  # they draw nothing


@pytest.mark.parametrize("num_steps", [1, 7])
def test_heuns_steps_take_two_evaluations_and_the_last_one(num_steps, schedule):
    seen, sampler = [], HeunSampler(num_steps)

    def predict_x0(x_t, t, x_0_previous):
        seen.append((x_t, t[0].item()))
        return x_t / 3

    steps = list(sampler.reverse(torch.randn(4, 6, 5), predict_x0, schedule, torch.Generator()))
    assert len(seen) == sampler.nfe == 2 * num_steps - 1
    times = [time for step in steps for time in (step.t.item(), step.s.item())][:-1]
    assert [time for _, time in seen] == pytest.approx(times, abs=1e-6)
    sampler.spend(8)
    assert sampler.nfe == 7, "as many as eight are enough for"


@pytest.mark.parametrize("sampler_name", PAPERS)
@pytest.mark.parametrize("num_steps", [1, 7])
def test_each_step_takes_one_evaluation_and_hands_on(sampler_name, num_steps, schedule):
    calls = []

    def predict_x0(x_t, t, x_0_previous):
        assert t.shape == (4,)
        calls.append((x_t, t, x_0_previous))
        return x_t / 3

    sampler = SAMPLERS[sampler_name](num_steps)
    x = torch.randn(4, 6, 5)
    steps = list(sampler.reverse(x, predict_x0, schedule, torch.Generator()))
    assert len(calls) == len(steps) == sampler.nfe == num_steps
    assert steps[0].x_t is x
    assert calls[0][2] is None
    for step, (x_t, t, _) in zip(steps, calls, strict=True):
        assert x_t is step.x_t
        assert_close(t, step.t.float().expand(4))
    for (before, after), (_, _, x_0_previous) in zip(pairwise(steps), calls[1:], strict=True):
        assert after.x_t is before.x_s
        assert after.t == before.s
        assert x_0_previous is before.x_0


@given(
    num_steps=st.integers(1, 300),
    spacing=st.sampled_from(["angle", "training", "log_snr", "time"]),
    start=st.one_of(st.just(1.0), st.floats(0.05, 1)),
)
def test_times_fall_from_the_start_to_0(schedule, num_steps, spacing, start):
    times = DDIMSampler(num_steps, spacing=spacing).times(schedule, start, LogitNormalTimes())
    assert times.shape == (num_steps + 1,)
    assert times.dtype == torch.float64
    assert times[0] == start
    assert times[-1] == 0
    assert (times.diff() < 0).all()


def test_even_spacing_is_even(schedule):
    by_time = DDIMSampler(20, spacing="time").times(schedule)
    assert_close(by_time, torch.linspace(1, 0, 21, dtype=torch.float64))
    angles = schedule.alpha_sigma(DDIMSampler(20, spacing="angle").times(schedule))[0].arccos()
    assert_close(angles.diff(), angles.diff().mean().expand(20), rtol=1e-6, atol=0)
    log_snr = schedule.log_snr(DDIMSampler(20, spacing="log_snr").times(schedule))[1:-1]
    assert_close(log_snr.diff(), log_snr.diff().mean().expand(18), rtol=1e-6, atol=0)
    assert log_snr.abs().max() < 10


@pytest.mark.parametrize("start", [1.0, 0.5])
def test_spacing_as_in_training_takes_steps_of_as_many_draws_each(start):
    times = DDIMSampler(20, spacing="training").times(CosineSchedule(), start, LogitNormalTimes(0.5, 1.2))
    drawn_below = Normal(0.5, 1.2).cdf(times.clamp(1e-12, 1 - 1e-12).logit())
    assert_close(drawn_below.diff(), (-drawn_below[0] / 20).expand(20), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampler_class", [DDPMSampler, DDIMSampler])
@pytest.mark.parametrize(
    "arguments",
    [
        {"num_steps": 0},
        {"clip": 0.0},
        {"clip": -1.0},
        {"spacing": "even"},
        {"snap": -0.1},
        {"snap": 1.1},
        {"score_temperature": 0.0},
    ],
    ids=str,
)
def test_bad_parameters_are_refused(sampler_class, arguments):
    [[name, value]] = arguments.items()
    with pytest.raises(ValueError, match=rf"^sampler\.{name}={value} is "):
        sampler_class(**arguments)


@pytest.mark.parametrize("eta", [-0.1, math.inf, math.nan])
def test_an_eta_out_of_range_is_refused(eta):
    with pytest.raises(ValueError, match="eta"):
        DDIMSampler(eta=eta)
