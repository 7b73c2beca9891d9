import pytest
import torch

from diffusion_text.callbacks.ema import WarmEMA


def averaged(values, decay):
    """The average after each of these values in turn."""
    update, average, found = WarmEMA(decay), torch.tensor(values[0]), []
    for count, value in enumerate(values[1:], 1):
        average = update(average, torch.tensor(value), torch.tensor(count))
        found.append(average.item())
    return found


def test_the_first_updates_nearly_replace_the_initial_weights():
    # decay (1 + n) / (10 + n), as TensorFlow's ExponentialMovingAverage documents it for num_updates
    assert averaged([1.0, 0.0, 0.0], 0.9999) == pytest.approx([2 / 11, 2 / 11 * 3 / 12])


def test_the_rate_stays_below_the_stated_decay():
    assert averaged([1.0, 0.0, 0.0], 0.1) == pytest.approx([0.1, 0.01])


def test_a_constant_stays_what_it_is():
    assert averaged([0.3] * 50, 0.9999) == pytest.approx([0.3] * 49)


def test_half_precision_weights_keep_their_type():
    average = WarmEMA()(torch.ones(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bfloat16), torch.tensor(1))
    assert average.dtype == torch.bfloat16


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_cannot_be_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay must lie in .*{decay}"):
        WarmEMA(decay)
