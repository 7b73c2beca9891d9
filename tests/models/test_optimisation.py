from copy import deepcopy
from functools import partial

import pytest
import torch

from diffusion_text.denoisers.transformer import Transformer
from diffusion_text.models.optimisation import NAMES, LRSchedule, Muon, fuse, tried

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


# ---- muon


@pytest.fixture
def network():
    return Transformer(8, width=16, depth=1, heads=2, qk_norm=True)


def with_gradients(network):
    torch.manual_seed(1)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    return network


def test_muon_is_for_the_matrices_of_blocks_alone(network):
    optimizer = Muon(network.named_parameters())
    names = {parameter: name for name, parameter in network.named_parameters()}
    muon, adamw = ({names[parameter] for parameter in group["params"]} for group in optimizer.param_groups)
    assert muon == {
        f"blocks.0.{layer}.weight"
        for layer in ("modulate", "attention.query_key_value", "attention.join", "feed_forward.0", "feed_forward.2")
    }
    assert adamw == set(names.values()) - muon


def test_its_steps_are_torchs_own(network):
    ours, theirs = with_gradients(network), with_gradients(deepcopy(network))
    optimizer = Muon(ours.named_parameters(), lr=0.01, muon_lr=0.02, weight_decay=0.1, momentum=0.9)
    matrices = [p for name, p in theirs.named_parameters() if name.startswith("blocks") and p.ndim == 2]
    rest = [p for p in theirs.parameters() if not any(p is matrix for matrix in matrices)]
    adamw = torch.optim.AdamW(rest, lr=0.01, weight_decay=0.1)
    muon = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for one in (optimizer, adamw, muon):
            one.step()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(own, other)


def test_what_is_restored_goes_on_as_what_was_saved(network):
    going_on, saved = with_gradients(network), with_gradients(deepcopy(network))
    optimizer = Muon(going_on.named_parameters())
    other = Muon(saved.named_parameters())
    other.step()
    optimizer.load_state_dict(deepcopy(other.state_dict()))
    going_on.load_state_dict(deepcopy(saved.state_dict()))
    for one in (optimizer, other):
        one.step()
    for own, expected in zip(going_on.parameters(), saved.parameters(), strict=True):
        assert torch.equal(own, expected)


def test_the_rates_of_both_follow_the_schedule(network):
    optimizer = Muon(with_gradients(network).named_parameters(), lr=1.0, muon_lr=3.0)
    schedule = LRSchedule("linear")(optimizer=optimizer, num_training_steps=4)
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([2.25, 0.75])


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="use adamw"):
        Muon(torch.nn.Linear(2, 2).named_parameters())
    with pytest.raises(ValueError, match=r"optimizer\.muon_lr=-1 is not"):
        tried(partial(Muon, muon_lr=-1))


# ---- one kernel


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, Muon])
def test_a_kernels_steps_are_those_of_many(network, kind, monkeypatch):
    fused = deepcopy(network)
    optimizers = [kind(model.named_parameters(), lr=1e-2) for model in (network, fused)]
    fuse(optimizers[1])
    made = []
    kernel = torch._fused_adamw_ if kind is not torch.optim.Adam else torch._fused_adam_
    monkeypatch.setattr(torch, kernel.__name__, lambda *args, **settings: made.append(kernel(*args, **settings)))
    for model, optimizer in zip((network, fused), optimizers, strict=True):
        chance = torch.Generator().manual_seed(0)
        for _ in range(3):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=chance)
            optimizer.step()
        assert bool(made) == (model is fused)
    for one, other in zip(network.parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_settings_decide_whether_one_kernel_makes_a_step(network):
    for settings in ({"fused": False}, {"foreach": True}):
        optimizer = torch.optim.AdamW(network.named_parameters(), **settings)
        fuse(optimizer)
        assert not optimizer.param_groups[0]["fused"]
    fuse(torch.optim.SGD(network.parameters(), lr=1.0))
