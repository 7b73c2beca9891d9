"""Cosine similarity and magnitude ratio by time bin: the numbers, the bins and the mask."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffusion_text.metrics.noise_prediction import NUM_BINS, QUANTITIES, NoisePrediction


def batch(t, length=4, dim=3):
    """Arguments of `update` for texts at these times, all of them real tokens."""
    latents = torch.randn(4, len(t), length, dim)
    return [*latents.unbind(), torch.as_tensor(t), torch.ones(len(t), length, dtype=torch.bool)]


def measured(*batches):
    metric = NoisePrediction()
    for arguments in batches:
        metric.update(*arguments)
    return metric.compute()


def by_hand(noise_hat, noise, x_0_hat, x_0, t=0.5, mask=None):
    latents = [torch.tensor(latent)[None] for latent in (noise_hat, noise, x_0_hat, x_0)]
    mask = torch.ones(1, len(noise), dtype=torch.bool) if mask is None else torch.tensor([mask])
    return measured([*latents, torch.tensor([t]), mask])


def test_a_perfect_prediction_gives_ones():
    _, noise, _, x_0, t, mask = batch([0.1, 0.5, 0.9])
    result = measured([noise, noise, x_0, x_0, t, mask])
    assert [result[name].item() for name in QUANTITIES] == pytest.approx([1, 1, 1, 1], abs=1e-6)


def test_figures_by_hand():
    result = by_hand([[10.0, 0.0]], [[3.0, 4.0]], [[-1.5, -2.0]], [[3.0, 4.0]])
    expected = {"noise_cosine": 0.6, "noise_magnitude": 2.0, "x0_cosine": -1.0, "x0_magnitude": 0.5}
    assert {name: result[name].item() for name in QUANTITIES} == pytest.approx(expected)


def test_a_text_is_one_vector():
    """Not the mean over tokens: that would be a cosine of 1/2 and a ratio of 1/2."""
    result = by_hand([[4.0], [0.0]], [[4.0], [3.0]], [[1.0], [0.0]], [[1.0], [1.0]])
    assert result["noise_cosine"].item() == pytest.approx(0.8)
    assert result["noise_magnitude"].item() == pytest.approx(0.8)
    assert result["x0_cosine"].item() == pytest.approx(math.sqrt(0.5))


def test_padding_is_left_out():
    rows = [[10.0, 0.0], [9.0, 9.0]], [[3.0, 4.0], [-9.0, 2.0]], [[-1.5, -2.0], [7.0, 7.0]], [[3.0, 4.0], [0.0, 7.0]]
    alone = by_hand(*([first] for first, _ in rows))
    assert_close(by_hand(*rows, mask=[True, False]), alone, equal_nan=True)
    assert by_hand(*rows)["noise_cosine"] != alone["noise_cosine"]


def test_more_padding_changes_nothing():
    arguments = batch([0.2, 0.7])
    padded = [*(F.pad(x, (0, 0, 0, 3), value=5.0) for x in arguments[:4]), arguments[4], F.pad(arguments[5], (0, 3))]
    assert_close(measured(padded), measured(arguments), equal_nan=True)


@pytest.mark.parametrize(
    ("t", "expected_bin"),
    [(0.001, 0), (0.05, 0), (0.0999, 0), (0.1, 1), (0.1001, 1), (0.55, 5), (0.8999, 8), (0.9, 9), (0.95, 9), (1.0, 9)],
)
def test_a_time_falls_in_its_tenth(t, expected_bin):
    values = measured(batch([t]))["noise_cosine_bins"]
    assert values.shape == (NUM_BINS,)
    assert values.isfinite().nonzero().flatten().tolist() == [expected_bin]


def test_a_bin_without_texts_is_nan_and_leaves_the_overall_alone():
    result = measured(batch([0.05, 0.95, 0.97]))
    for name in QUANTITIES:
        values = result[f"{name}_bins"]
        assert values[1:9].isnan().all()
        assert result[name].item() == pytest.approx((values[0] + values[9]).item() / 2)


def test_a_bin_is_the_mean_of_its_texts():
    noise_hat = torch.tensor([[[1.0, 0.0]], [[0.0, 3.0]], [[1.0, 0.0]]])
    noise = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]]])
    arguments = [noise_hat, noise, noise_hat, noise, torch.tensor([0.31, 0.39, 0.41]), torch.ones(3, 1).bool()]
    result = measured(arguments)
    assert result["noise_cosine_bins"][3].item() == pytest.approx(0.5)  # 1 and 0
    assert result["noise_magnitude_bins"][3].item() == pytest.approx(2.0)  # 1 and 3
    assert result["noise_cosine_bins"][4].item() == pytest.approx(0.0)


def test_overall_does_not_depend_on_how_t_was_drawn():
    """A predictor whose quality depends on t alone, seen at even times and mostly at noisy ones."""

    def seen_at(t):
        _, noise, _, x_0, t, mask = batch(t)
        scale = (1 + (t * NUM_BINS).floor()).reshape(-1, 1, 1)
        return measured([scale * noise, noise, x_0 / scale, x_0, t, mask])

    even = (torch.arange(100) + 0.5) / 100
    skewed = torch.cat([even, 0.9 + 0.09 * torch.rand(900)])
    evenly, askew = seen_at(even), seen_at(skewed)
    assert evenly["noise_magnitude"].item() == pytest.approx(5.5)
    assert askew["noise_magnitude"].item() == pytest.approx(5.5)
    assert_close(askew, evenly)


@given(split=st.integers(1, 19), seed=st.integers(0, 2**32 - 1))
def test_batches_add_up(split, seed):
    torch.manual_seed(seed)
    whole = batch(torch.rand(20))
    parts = [x[:split] for x in whole], [x[split:] for x in whole]
    assert_close(measured(*parts), measured(whole), equal_nan=True)


def test_metrics_merge():
    """As those of two processes do."""
    first, second = batch([0.15, 0.25, 0.95]), batch([0.15, 0.55])
    metric, other = NoisePrediction(), NoisePrediction()
    metric.update(*first)
    other.update(*second)
    metric.merge_state(other)
    assert_close(metric.compute(), measured(first, second), equal_nan=True)


def test_reset_forgets():
    metric = NoisePrediction()
    metric.update(*batch([0.15]))
    metric.reset()
    later = batch([0.75])
    metric.update(*later)
    assert_close(metric.compute(), measured(later), equal_nan=True)
