"""Losses and weightings: padding counts for nothing, and the numbers are those of closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffusion_text.diffusion.gaussian import corrupt, per_text
from diffusion_text.diffusion.losses import (
    CosineMagnitudeLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    MinSNRWeighting,
    MSELoss,
    UniformWeighting,
    cosine_and_magnitude,
    mean_over_real,
)
from diffusion_text.diffusion.predictions import EpsilonPrediction, VPrediction, X0Prediction

COMPARISONS = {
    "mse": MSELoss(),
    "l1": L1Loss(),
    "huber": HuberLoss(0.5),
    "cosine_magnitude": CosineMagnitudeLoss(),
    "cosine_and_magnitude": lambda *latents: torch.stack(cosine_and_magnitude(*latents), dim=1),
}
each_comparison = pytest.mark.parametrize("compare", COMPARISONS.values(), ids=COMPARISONS.keys())

MASK = torch.tensor([[True] * 5, [True, True, True, False, False], [True, False, False, False, False]])
ANGLES = (0.01, 0.3, math.atan(1 / math.sqrt(5)), 0.8, 1.5)  # the middle one has an SNR of exactly 5


def two_latents(length=5, dim=4):
    return torch.randn(3, length, dim), torch.randn(3, length, dim)


def levels_at(*angles):
    angles = torch.tensor(angles, dtype=torch.float64)
    return per_text(angles.cos()), per_text(angles.sin())


@each_comparison
def test_content_of_padding_changes_nothing(compare):
    output, target = two_latents()
    padding = ~MASK.unsqueeze(-1)
    changed = compare(output.masked_fill(padding, 1e4), target.masked_fill(padding, -1e4), MASK)
    assert_close(changed, compare(output, target, MASK))


@each_comparison
def test_more_padding_changes_nothing(compare):
    output, target = two_latents()
    longer = [F.pad(latent, (0, 0, 0, 3), value=7.0) for latent in (output, target)]
    assert_close(compare(*longer, F.pad(MASK, (0, 3))), compare(output, target, MASK))


@each_comparison
def test_a_text_counts_as_it_would_alone(compare):
    output, target = two_latents()
    together = compare(output, target, MASK)
    for text, length in enumerate(MASK.sum(1).tolist()):
        alone = compare(
            output[text : text + 1, :length], target[text : text + 1, :length], MASK[text : text + 1, :length]
        )
        assert_close(together[text : text + 1], alone)


@each_comparison
def test_a_text_of_padding_only_is_finite(compare):
    assert compare(*two_latents(), torch.zeros_like(MASK)).isfinite().all()


@pytest.mark.parametrize("compare", [MSELoss(), L1Loss(), HuberLoss(), CosineMagnitudeLoss()])
def test_padding_gets_no_gradient_and_the_rest_does(compare):
    output, target = two_latents()
    output.requires_grad_()
    compare(output, target, MASK).sum().backward()
    assert (output.grad[~MASK] == 0).all()
    assert (output.grad[MASK].abs().sum(-1) > 0).all()


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (MSELoss(), F.mse_loss),
        (L1Loss(), F.l1_loss),
        (HuberLoss(0.5), lambda output, target: F.huber_loss(output, target, delta=0.5)),
        (
            CosineMagnitudeLoss(0.0),
            lambda output, target: F.cosine_embedding_loss(
                output.flatten()[None], target.flatten()[None], torch.ones(1)
            ),
        ),
    ],
)
def test_without_padding_as_torch_has_it(loss, reference):
    output, target = two_latents()
    expected = torch.stack([reference(one, other) for one, other in zip(output, target, strict=True)])
    assert_close(loss(output, target, torch.ones_like(MASK)), expected)


def test_cross_entropy_is_torchs_with_padding_ignored():
    logits, tokens = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    labels = tokens.masked_fill(~MASK, -100)
    expected = [F.cross_entropy(one, right, ignore_index=-100) for one, right in zip(logits, labels, strict=True)]
    assert_close(CrossEntropyLoss()(logits, tokens, MASK), torch.stack(expected))


def test_cross_entropy_of_padding_is_finite_and_without_gradient():
    logits = torch.randn(3, 5, 7, requires_grad=True)
    CrossEntropyLoss()(logits, torch.randint(7, (3, 5)), MASK).sum().backward()
    assert (logits.grad[~MASK] == 0).all()
    assert (logits.grad[MASK].abs().sum(-1) > 0).all()
    assert not CrossEntropyLoss()(logits, torch.randint(7, (3, 5)), torch.zeros_like(MASK)).any()


def test_mean_over_real_by_hand():
    values = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [50.0, 60.0]]])
    assert mean_over_real(values, torch.tensor([[True, True, False]])).item() == 3
    assert mean_over_real(values, torch.tensor([[False, False, True]])).item() == 55


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ([3.0, 4.0], 0.0),
        ([6.0, 8.0], 1.0),  # right direction, twice too long: 0 + 1
        ([1.5, 2.0], 0.5),  # right direction, half as long: 0 + 0.5
        ([-4.0, 3.0], 1.0),  # at right angles, right length: 1 + 0
        ([-3.0, -4.0], 2.0),  # opposite, right length: 2 + 0
        ([5.0, 0.0], 0.4),  # cosine 3/5, right length
        ([10.0, 0.0], 1.4),  # cosine 3/5, twice too long
    ],
)
def test_cosine_magnitude_by_hand(output, expected):
    latents = [torch.tensor([[vector]]) for vector in (output, [3.0, 4.0])]
    assert CosineMagnitudeLoss()(*latents, torch.ones(1, 1, dtype=torch.bool)).item() == pytest.approx(
        expected, abs=1e-6
    )


def test_magnitude_weight_counts_the_length_alone():
    target = torch.tensor([[[3.0, 4.0]]])
    output = torch.tensor([[[10.0, 0.0]]])
    loss = CosineMagnitudeLoss(0.25)(output, target, torch.ones(1, 1, dtype=torch.bool))
    assert loss.item() == pytest.approx(0.4 + 0.25)


def test_cosine_and_ratio_take_a_text_as_one_vector():
    predicted, true = torch.tensor([[[3.0], [0.0]]]), torch.tensor([[[3.0], [4.0]]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert [value.item() for value in cosine_and_magnitude(predicted, true, mask)] == pytest.approx([3 / 5, 3 / 5])


@pytest.mark.parametrize("gamma", [0.5, 5.0])
@pytest.mark.parametrize(
    ("prediction", "closed_form"),
    [
        (X0Prediction(), lambda snr, gamma: min(snr, gamma)),
        (EpsilonPrediction(), lambda snr, gamma: min(snr, gamma) / snr),
        (VPrediction(), lambda snr, gamma: min(snr, gamma) / (snr + 1)),
    ],
    ids=["x0", "epsilon", "v"],
)
def test_min_snr_in_closed_form(prediction, closed_form, gamma):
    """Hang et al. 2023, §3.4."""
    expected = [closed_form(1 / math.tan(angle) ** 2, gamma) for angle in ANGLES]
    weights = MinSNRWeighting(gamma)(*levels_at(*ANGLES), prediction)
    assert_close(weights, torch.tensor(expected, dtype=torch.float64))


@given(angle=st.floats(0.01, 1.56), seed=st.integers(0, 2**32 - 1))
def test_min_snr_weighs_the_same_error_in_x_0_whatever_is_predicted(prediction, angle, seed):
    generator = torch.Generator().manual_seed(seed)
    x_0, noise, output = torch.randn((3, 1, 4, 2), generator=generator, dtype=torch.float64)
    alpha, sigma = levels_at(angle)
    mask = torch.ones(1, 4, dtype=torch.bool)
    error_in_x_0 = prediction.to_x0(output, corrupt(x_0, noise, alpha, sigma), alpha, sigma) - x_0
    expected = min(1 / math.tan(angle) ** 2, 5.0) * (error_in_x_0**2).mean().item()

    loss = MSELoss()(output, prediction.target(x_0, noise, alpha, sigma), mask)
    assert (MinSNRWeighting()(alpha, sigma, prediction) * loss).item() == pytest.approx(expected, rel=1e-8)


def test_min_snr_is_finite_at_data_and_at_noise(prediction):
    alpha = per_text(torch.tensor([1.0, 1e-6]))
    sigma = per_text(torch.tensor([0.0, 1.0]))
    weights = MinSNRWeighting()(alpha, sigma, prediction)
    assert weights.isfinite().all()
    assert (weights >= 0).all()


def test_uniform_weighs_all_the_same(prediction):
    assert_close(UniformWeighting()(*levels_at(*ANGLES), prediction), torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("part", "arguments"),
    [
        (HuberLoss, {"delta": 0.0}),
        (CosineMagnitudeLoss, {"magnitude_weight": -0.1}),
        (MinSNRWeighting, {"gamma": 0.0}),
    ],
)
def test_bad_parameters_are_refused(part, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        part(**arguments)
