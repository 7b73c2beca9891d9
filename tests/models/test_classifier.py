"""What reads noisy latents, and leads a sampler by its gradient."""

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from diffusion_text.data.sampling import Shares
from diffusion_text.denoisers.transformer import Transformer
from diffusion_text.diffusion.samplers import DDIMSampler, DDPMSampler
from diffusion_text.diffusion.schedules import CosineSchedule
from diffusion_text.diffusion.time_sampling import StratifiedTimes
from diffusion_text.models.classifier import Classifier, Source, Steering

VALUES = {"food": ["French", "Italian", "Thai"], "area": ["riverside", "city centre"]}
TOLD = torch.tensor([[1, 2], [3, 0], [0, 0]])


@pytest.fixture
def classifier():
    network = Transformer(16, width=16, depth=1, heads=2, gates=1.0)
    torch.nn.init.normal_(network.leave.weight, std=0.2)
    return Classifier(network, VALUES, 16, time_sampling=StratifiedTimes()).eval()


@pytest.fixture
def state():
    """x_t, t and mask of three texts."""
    return torch.randn(3, 6, 16), torch.full((3,), 0.3), torch.arange(6) < torch.tensor([6, 4, 2])[:, None]


@torch.no_grad()
def test_what_is_asked_for_is_as_likely_as_its_softmax_says(classifier, state):
    food, area = (logits.softmax(-1) for logits in classifier(*state))
    assert food.shape == (3, 3)
    assert area.shape == (3, 2)
    expected = torch.stack([food[0, 0].log() + area[0, 1].log(), food[1, 2].log(), torch.tensor(0.0)])
    assert_close(classifier.log_probability(*state, TOLD), expected)
    assert_close(classifier.loss(*state, TOLD), -expected.sum() / 3)


@torch.no_grad()
def test_padding_is_not_read(classifier, state):
    x_t, t, mask = state
    other = x_t.masked_fill(~mask[..., None], 7.0)
    for ours, theirs in zip(classifier(x_t, t, mask), classifier(other, t, mask), strict=True):
        assert_close(ours, theirs)


def test_how_often_each_value_is_told_is_counted(classifier):
    classifier.count(TOLD)
    assert classifier.counts.tolist() == [1, 0, 1, 0, 1]


class Normal(torch.nn.Module):
    """As a classifier: log p of a text is that of its mean around what it is told."""

    def log_probability(self, x_t, t, mask, told):
        return -((x_t.mean((1, 2)) - told[:, 0]) ** 2) / 2


def test_steps_climb_to_where_classifier_and_sampler_agree():
    x_s, std = torch.randn(2, 3, 4), torch.tensor(0.5)
    told = torch.tensor([[2], [0]])
    steering = Steering(Normal(), 3.0, 200, told)
    x = steering(torch.ones(2, 3, dtype=torch.bool), x_s, torch.tensor(0.5), std)
    # scale·log p − ‖x − x_s‖² / (2·std²) moves all N elements alike, by a·(told − mean)/N with a = scale·std²/(1 + …)
    mean, pull = x_s.mean((1, 2)), 3.0 * 0.25 / 12
    best = (mean + pull * told[:, 0]) / (1 + pull)
    assert_close(x.mean((1, 2)), best)
    assert_close(x - x_s, (best - mean)[:, None, None].expand_as(x))
    once = Steering(Normal(), 3.0, 1, told)(torch.ones(2, 3, dtype=torch.bool), x_s, torch.tensor(0.5), std)
    assert_close(once.mean((1, 2)), mean + pull * (told[:, 0] - mean))


@pytest.mark.parametrize("sampler", [DDPMSampler, DDIMSampler])
def test_every_step_but_the_last_is_steered_by_its_own_spread(sampler):
    schedule, seen = CosineSchedule(), []

    def steer(x_s, s, std):
        seen.append((float(s), float(std)))
        return x_s + 1

    x_t = torch.zeros(1, 2, 3)
    steps = list(
        sampler(4, spacing="time").reverse(
            x_t, lambda x, t, previous: torch.zeros_like(x), schedule, torch.Generator().manual_seed(0), steer=steer
        )
    )
    assert [s for s, _ in seen] == [0.75, 0.5, 0.25]
    for (s, std), step in zip(seen, steps, strict=False):
        (a_t, s_t), (a_s, s_s) = (schedule.alpha_sigma(torch.tensor(t)) for t in (float(step.t), s))
        assert std == pytest.approx(float(s_s / s_t * (1 - (a_t / a_s) ** 2).sqrt()), rel=1e-4)
    assert steps[1].x_t is steps[0].x_s


@pytest.fixture
def read(classifier, make_model):
    """A classifier that reads a model of the latent route."""
    classifier.source = Source(make_model().requires_grad_(False))
    return classifier


def test_the_model_that_is_read_is_neither_trained_nor_saved(read):
    assert not any("source" in name for name in read.state_dict())
    assert read.count_parameters() == sum(p.numel() for p in [*read.denoiser.parameters(), *read.leave.parameters()])


def test_preflight_sees_that_every_weight_is_trained_and_leaves_no_trace(read, batch):
    before = {name: weight.clone() for name, weight in read.state_dict().items()}
    [check] = read.preflight(batch | {"told": TOLD}, None)
    assert check.verdict == "ok"
    assert all(torch.equal(weight, before[name]) for name, weight in read.state_dict().items())
    assert all(parameter.grad is None for parameter in read.parameters())


def test_what_is_read_is_held_against_the_commonest_value(read, batch, monkeypatch):
    logged = {}
    monkeypatch.setattr(read, "log", lambda name, value, **_: logged.update({name: float(value)}))
    read.count(torch.tensor([[1, 2], [1, 1], [3, 2]]))
    monkeypatch.setattr(read, "forward", lambda x_t, t, mask: [torch.eye(3)[[0, 0, 0]], torch.eye(2)[[0, 0, 0]]])
    split = SimpleNamespace(batch_sampler=Shares(len(TOLD), batch_size=len(TOLD)))
    monkeypatch.setattr(Classifier, "trainer", SimpleNamespace(val_dataloaders=split))
    read.evaluate("val", batch | {"told": TOLD}, 0)
    assert logged["val/values_read"] == pytest.approx(1 / 3)
    assert {logged[f"val/values_read/{time_bin}"] for time_bin in range(10)} == {logged["val/values_read"]}
    assert logged["val/commonest"] == pytest.approx(2 / 3)
    logged.clear()
    read.evaluate("val", batch | {"told": torch.zeros_like(TOLD)}, 0)
    assert not logged, "nothing is known of these texts"
