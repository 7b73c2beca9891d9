"""Every prediction leads back to x_0, as in diffusers."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffusion_text.diffusion.gaussian import corrupt, per_text
from diffusion_text.diffusion.predictions import EpsilonPrediction, LogitsPrediction, VPrediction, X0Prediction
from diffusion_text.diffusion.schedules import CosineSchedule, LinearSchedule

GOLDENS = json.loads((Path(__file__).parents[1] / "golden" / "schedules.json").read_text())
ANGLES = st.floats(0, math.pi / 2 - 1e-3)  # arctan(sigma / alpha): 0 is data, π/2 is noise
DIFFUSERS_NAMES = {EpsilonPrediction: "epsilon", X0Prediction: "sample", VPrediction: "v_prediction"}


def draw(seed, count):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((2, 4, 3), generator=generator, dtype=torch.float64) for _ in range(count)]


def diffusers_scheduler(**arguments):
    """Theirs, on the linear schedule, with its table in float64."""
    scheduler = DDPMScheduler(1000, **arguments)
    scheduler.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    return scheduler


def levels_on_linear(index):
    """alpha and sigma at what diffusers counts as timestep `index`."""
    levels = LinearSchedule().alpha_sigma(torch.tensor([(index + 1) / 1000], dtype=torch.float64))
    return [per_text(level) for level in levels]


def levels_at_angle(angle):
    angle = torch.tensor([angle], dtype=torch.float64)
    return per_text(angle.cos()), per_text(angle.sin())


@given(angle=ANGLES, seed=st.integers(0, 2**32 - 1))
def test_target_leads_back_to_x_0(prediction, angle, seed):
    x_0, noise = draw(seed, 2)
    alpha, sigma = levels_at_angle(angle)
    target = prediction.target(x_0, noise, alpha, sigma)
    assert_close(prediction.to_x0(target, corrupt(x_0, noise, alpha, sigma), alpha, sigma), x_0, rtol=0, atol=1e-11)


@given(angle=ANGLES, error=st.floats(-10, 10), seed=st.integers(0, 2**32 - 1))
def test_x0_per_output_is_how_far_an_error_carries(prediction, angle, error, seed):
    output, x_t = draw(seed, 2)
    alpha, sigma = levels_at_angle(angle)
    moved = prediction.to_x0(output + error, x_t, alpha, sigma) - prediction.to_x0(output, x_t, alpha, sigma)
    expected = abs(error) * prediction.x0_per_output(alpha, sigma)
    assert_close(moved.abs(), expected.expand_as(moved), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("prediction_class", "closed_form"),
    [
        (EpsilonPrediction, lambda alpha, sigma: sigma / alpha),
        (X0Prediction, lambda alpha, sigma: torch.ones_like(alpha)),
        (VPrediction, lambda alpha, sigma: sigma),
    ],
)
def test_x0_per_output_in_closed_form(prediction_class, closed_form):
    alpha = per_text(torch.tensor([1.0, 0.8, 0.6, 0.01], dtype=torch.float64))
    sigma = (1 - alpha**2).sqrt()
    assert_close(prediction_class().x0_per_output(alpha, sigma), closed_form(alpha, sigma))


def test_epsilon_multiplies_errors_as_the_origin_saw():
    golden = GOLDENS["cosine"][0]
    t = torch.tensor([golden["step"] / golden["num_steps"]], dtype=torch.float64)
    alpha, sigma = (per_text(level) for level in CosineSchedule().alpha_sigma(t))
    assert (alpha**2).item() == pytest.approx(golden["alpha_bar"], abs=0.5e-7)
    carried = EpsilonPrediction().x0_per_output(alpha, sigma).item()
    assert carried == pytest.approx(golden["error_in_x0_per_error_in_epsilon"], abs=0.5)


@pytest.mark.parametrize("index", [0, 10, 500, 999])
def test_v_target_is_that_of_diffusers(index):
    x_0, noise = draw(index, 2)
    alpha, sigma = levels_on_linear(index)
    theirs = diffusers_scheduler().get_velocity(x_0, noise, torch.tensor([index, index]))
    assert_close(VPrediction().target(x_0, noise, alpha, sigma), theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("index", [0, 10, 500, 999])
def test_x_0_is_that_of_diffusers(prediction, index):
    output, x_t = draw(index, 2)
    alpha, sigma = levels_on_linear(index)
    scheduler = diffusers_scheduler(prediction_type=DIFFUSERS_NAMES[type(prediction)], clip_sample=False)
    theirs = scheduler.step(output, index, x_t).pred_original_sample
    assert_close(prediction.to_x0(output, x_t, alpha, sigma), theirs, rtol=1e-9, atol=1e-9)


# ---- logits


def reading(table):
    prediction = LogitsPrediction()
    prediction.embedding = SimpleNamespace(table=table)
    return prediction


def test_x_0_of_logits_is_the_expected_embedding():
    """Tokens drawn with the probabilities that the logits stand for have this mean embedding."""
    table, logits = torch.randn(7, 3, dtype=torch.float64), torch.randn(2, 4, 7, dtype=torch.float64)
    levels = levels_at_angle(0.5)
    drawn = torch.distributions.Categorical(logits=logits).sample((20_000,))
    x_0 = reading(table).to_x0(logits, torch.zeros(2, 4, 3, dtype=torch.float64), *levels)
    assert_close(x_0, table[drawn].mean(0), rtol=0, atol=5 * table.std().item() / 20_000**0.5)


def test_logits_that_are_sure_of_a_token_give_its_embedding():
    table, tokens = torch.randn(7, 3), torch.tensor([[4, 0], [6, 2]])
    logits = 100 * torch.nn.functional.one_hot(tokens, 7).float()
    alpha, sigma = (level.float() for level in levels_at_angle(1.5))
    assert_close(reading(table).to_x0(logits, torch.randn(2, 2, 3), alpha, sigma), table[tokens])
