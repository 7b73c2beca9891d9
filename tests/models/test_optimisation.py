from functools import partial

import pytest
import torch

from diffusion_text.models.optimisation import NAMES, LRSchedule, tried

NEED_MORE = {"cosine_with_min_lr": {"min_lr": 1e-5}, "cosine_warmup_with_min_lr": {"min_lr": 1e-5}}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_makes_a_schedule_that_warms_up(name):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    specific = NEED_MORE.get(name, {"num_decay_steps": 5} if name == "warmup_stable_decay" else None)
    schedule = LRSchedule(name, 10, specific)(optimizer=optimizer, num_training_steps=20)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(1, abs=0.1)
    assert name == "constant" or rates[0] < 0.15


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lr": -1}, r"optimizer\.lr=-1 is not"),
        ({"lr": float("inf")}, r"optimizer\.lr=inf is not"),
        ({"lr": "much"}, r"optimizer\.lr=much is not"),
        ({"weight_decay": True}, r"optimizer\.weight_decay=true is not"),
        ({"eps": float("nan")}, r"optimizer\.eps=nan is not"),
        ({"betas": (2, 3)}, r"beta"),
    ],
)
def test_an_optimizers_wrong_settings_are_found_without_a_model(settings, says):
    with pytest.raises(ValueError, match=says):
        tried(partial(torch.optim.AdamW, **settings))


def test_other_settings_are_the_optimizers_own():
    assert tried(partial(torch.optim.AdamW, lr=0.5, amsgrad=True)).defaults["amsgrad"] is True
