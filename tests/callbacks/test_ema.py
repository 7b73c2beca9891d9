from types import SimpleNamespace

import pytest
import torch
from lightning import LightningModule

from diffusion_text.callbacks.ema import EMA, WarmEMA


def averaged(values, decay):
    """The average after each of these values in turn."""
    update, average, found = WarmEMA(decay), torch.tensor([values[0]]), []
    for count, value in enumerate(values[1:], 1):
        update([average], [torch.tensor([value])], torch.tensor(count))
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
    average = torch.ones(2, dtype=torch.bfloat16)
    WarmEMA()([average], [torch.zeros(2, dtype=torch.bfloat16)], torch.tensor(1))
    assert average.dtype == torch.bfloat16
    assert average[0].item() == pytest.approx(2 / 11, abs=0.005)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_cannot_be_is_refused(decay):
    with pytest.raises(ValueError, match=rf"^callbacks\.ema\.decay={decay} is not"):
        WarmEMA(decay)


# ---- in the middle of training


class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        self.register_buffer("statistic", torch.tensor(0.0))


@pytest.fixture
def trained():
    """A model after steps that made its weights three times, then nine times as large, and what averages them."""
    model, ema = Model(), EMA()
    ema.setup(None, model, "fit")
    for step in (1, 2):
        with torch.no_grad():
            model.weight.mul_(3)
            model.statistic.add_(1)
        ema.on_train_batch_end(SimpleNamespace(global_step=step), model, None, None, step)
    return model, ema


def test_inside_the_model_has_the_averaged_weights_and_afterwards_its_own(trained):
    model, ema = trained
    weight = model.weight
    first_decay = 2 / 11  # the first update takes the weights as they are
    for _ in range(2):
        with ema.averaged(model):
            torch.testing.assert_close(
                model.weight / torch.tensor([1.0, 2.0]), torch.tensor(9 - 6 * first_decay).expand(2)
            )
            assert model.statistic == 2
        assert model.weight.tolist() == [9.0, 18.0]
        assert model.weight is weight, "the optimizer's"


def test_an_error_inside_gives_the_model_its_weights_back(trained):
    model, ema = trained
    with pytest.raises(KeyError), ema.averaged(model):
        raise KeyError
    assert model.weight.tolist() == [9.0, 18.0]
