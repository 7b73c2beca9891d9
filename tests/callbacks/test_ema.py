from types import SimpleNamespace

import pytest
import torch
from lightning import LightningModule

from diffusion_text.callbacks.ema import EMA, WarmEMA


class Model(LightningModule):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=dtype))
        self.register_buffer("statistic", torch.tensor(0.0))


def averaged(values, decay, dtype=torch.float32):
    """The average after each of these values in turn, but the first, which it starts with."""
    model = Model(dtype)
    ema, found = WarmEMA(model, decay), []
    for value in values:
        with torch.no_grad():
            model.weight.fill_(value)
        ema.update_parameters(model)
        found.append(ema.module.weight[0].item())
    assert ema.module.weight.dtype == dtype
    assert ema.n_averaged == len(values)
    assert found[0] == pytest.approx(values[0])
    return found[1:]


def test_the_first_updates_nearly_replace_the_initial_weights():
    # decay (1 + n) / (10 + n), as TensorFlow's ExponentialMovingAverage documents it for num_updates
    assert averaged([1.0, 0.0, 0.0], 0.9999) == pytest.approx([2 / 11, 2 / 11 * 3 / 12])


def test_the_rate_stays_below_the_stated_decay():
    assert averaged([1.0, 0.0, 0.0], 0.1) == pytest.approx([0.1, 0.01])


def test_a_constant_stays_what_it_is():
    assert averaged([0.3] * 50, 0.9999) == pytest.approx([0.3] * 49)


def test_half_precision_weights_keep_their_type():
    assert averaged([1.0, 0.0], 0.9999, torch.bfloat16) == pytest.approx([2 / 11], abs=0.005)


def test_an_average_that_was_read_goes_on_as_if_it_had_never_stopped():
    whole, model = Model(), Model()
    ema = WarmEMA(whole, 0.5)
    ema.update_parameters(whole)
    again = WarmEMA(model, 0.5)
    again.load_state_dict(ema.state_dict())
    with torch.no_grad():
        whole.weight.mul_(3), model.weight.mul_(3)
    ema.update_parameters(whole)
    again.update_parameters(model)
    assert again.module.weight.tolist() == ema.module.weight.tolist() != whole.weight.tolist()


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_cannot_be_is_refused(decay):
    with pytest.raises(ValueError, match=rf"^callbacks\.ema\.decay={decay} is not"):
        EMA(decay)


# ---- in the middle of training


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


def test_averages_follow_the_weights_to_their_device():
    model, ema = Model(), EMA()
    ema.setup(None, model, "fit")  # before Lightning moves the model
    model.to("meta")
    ema.on_fit_start(None, model)
    assert {tensor.device.type for tensor in ema._average_model.state_dict().values()} == {"meta"}
