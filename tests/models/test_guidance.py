"""What a denoiser is told, and guidance by it."""

import pytest
import torch
from torch.testing import assert_close

from diffusion_text.conditions.attributes import Attributes
from diffusion_text.denoisers.transformer import Transformer
from diffusion_text.diffusion.losses import CrossEntropyLoss, UniformWeighting
from diffusion_text.diffusion.predictions import LogitsPrediction
from diffusion_text.diffusion.samplers import DDIMSampler
from diffusion_text.diffusion.schedules import SqrtSchedule
from diffusion_text.diffusion.time_sampling import UniformTimes
from diffusion_text.errors import UserError
from diffusion_text.models.denoising import real_rms
from diffusion_text.models.diffusion_lm import DiffusionLM
from diffusion_text.models.step_draws import StepDraws
from diffusion_text.text_spaces.embedding import EmbeddingSpace, LearnedEmbedding

VALUES = {"food": ["French", "Italian"], "area": ["riverside"]}
TOLD = torch.tensor([[1, 0], [2, 1], [0, 0]])


@pytest.fixture(params=["latent", "embedding"])
def model(request, make_model, tokenizer):
    """A model of each route that is told two attributes, whose network is not untrained."""
    condition = Attributes(VALUES, 16, width=6, dropout=0, partial=0)
    network = Transformer(16, width=16, depth=1, heads=2, gates=1.0, told=6)
    torch.nn.init.normal_(network.leave.weight, std=0.2)
    if request.param == "latent":
        model = make_model(denoiser=network, condition=condition)
    else:
        space = EmbeddingSpace(tokenizer, LearnedEmbedding(len(tokenizer), 16, normalise=True))
        parts = {"schedule": SqrtSchedule(), "prediction": LogitsPrediction(), "loss": CrossEntropyLoss()}
        parts |= {"weighting": UniformWeighting(), "time_sampling": UniformTimes()}
        model = DiffusionLM(denoiser=network, text_space=space, max_length=12, condition=condition, **parts)
        model.set_statistics(torch.ones(len(tokenizer), dtype=torch.long), torch.ones(13, dtype=torch.long))
    texts = {"told": list(TOLD), "tokens": [torch.zeros(length) for length in (5, 7, 9)]}
    condition.remember(texts, model.text_space)
    return model.eval()


class Reads(torch.nn.Module):
    """A denoiser to whose input the estimate beside it is added."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x_t, t, mask, beside, **told):
        return self.denoiser(x_t + beside, t, mask, **told)


@pytest.fixture
def told_batch(batch):
    return batch | {"told": TOLD}


@pytest.fixture
def state(model, told_batch):
    """A noisy batch: x_t, t and mask."""
    x_0, mask = model.encode_batch(told_batch)
    t = torch.full((3,), 0.6)
    return model.noised(x_0, torch.randn_like(x_0), t, mask).x_t, t, mask


@torch.no_grad()
def test_only_what_a_text_is_told_changes_what_is_said_of_it(model, state):
    untold, told = model.output(*state), model.output(*state, context=model.condition(TOLD, model.text_space))
    assert_close(told[2], untold[2])
    for text in (0, 1):
        assert (told[text] - untold[text]).abs().max() > 1e-3
    other = model.output(*state, context=model.condition(torch.tensor([[2, 0], [2, 1], [0, 0]]), model.text_space))
    assert_close(other[1:], told[1:])
    assert (other[0] - told[0]).abs().max() > 1e-3


@torch.no_grad()
def test_guidance_goes_from_untold_to_told_and_beyond(model, state):
    context = model.condition(TOLD, model.text_space)
    estimates = {g: model.predict_x0(*state, context=context, guidance=g) for g in (0.0, 0.999999, 1.0, 3.0)}
    assert_close(estimates[1.0], model.predict_x0(*state, context=context))
    assert_close(estimates[0.999999], estimates[1.0], atol=1e-4, rtol=1e-4)
    assert_close(estimates[3.0][2], estimates[1.0][2], atol=1e-4, rtol=1e-4)
    assert (estimates[3.0][0] - estimates[1.0][0]).abs().max() > 1e-3
    _, _, mask = state
    sizes = {g: (x.square() * mask[..., None]).sum((1, 2)) for g, x in estimates.items()}
    if not isinstance(model.prediction, LogitsPrediction):
        assert (sizes[3.0] <= sizes[1.0] * 1.0001).all()
    else:
        assert_close(estimates[0.0], model.predict_x0(*state))


@torch.no_grad()
@pytest.mark.parametrize("by", ["condition", "estimate", "both"])
def test_guidance_goes_beyond_what_it_is_by(model, state, monkeypatch, by):
    monkeypatch.setattr(model, "self_conditioning", 0.5)
    monkeypatch.setattr(model, "denoiser", Reads(model.denoiser))
    context, previous = model.condition(TOLD, model.text_space), torch.randn_like(state[0])
    told = model.output(*state, previous, context)
    untold = model.output(*state, previous * (by == "condition"), None if by != "estimate" else context)
    expected = model.scored(untold + 3 * (told - untold), *state[:2], 1.0)
    found = model.predict_x0(*state, previous, 1.0, context, 3.0, by)
    if not isinstance(model.prediction, LogitsPrediction):
        sizes = [real_rms(x, state[2]) for x in (model.scored(told, *state[:2], 1.0), expected)]
        expected = expected * (sizes[0] / sizes[1]).clamp(max=1)
    assert_close(found[state[2]], expected[state[2]], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_guidance_by_the_estimate_needs_no_condition_but_an_estimate(model, state, monkeypatch):
    sampler = DDIMSampler(3, guidance=2.0, guidance_by="estimate")
    with pytest.raises(UserError, match=r"sampler.guidance_by=estimate .* route.self_conditioning=0.5$"):
        model.sample(sampler, 2, seed=0)
    monkeypatch.setattr(model, "self_conditioning", 0.5)
    monkeypatch.setattr(model, "denoiser", Reads(model.denoiser))
    texts = {by: model.predict_x0(*state, torch.ones_like(state[0]), 1.0, None, 2.0, by) for by in ("both", "estimate")}
    assert_close(texts["both"], texts["estimate"])
    plain = model.predict_x0(*state, torch.ones_like(state[0]))
    assert (texts["estimate"] - plain).abs().max() > 1e-3
    assert_close(model.predict_x0(*state, None, 1.0, None, 2.0, "estimate"), model.predict_x0(*state))


@torch.no_grad()
def test_guidance_is_one_evaluation_of_both(model, state, monkeypatch):
    seen = []
    output = model.output
    monkeypatch.setattr(model, "output", lambda x_t, *rest: seen.append(len(x_t)) or output(x_t, *rest))
    model.predict_x0(*state, context=model.condition(TOLD, model.text_space), guidance=2.0)
    assert seen == [6]


def test_training_is_told_and_reaches_every_vector(model, told_batch):
    model.train()
    losses = model.trained_on(told_batch, StepDraws(0, 0, 12, 3))[2]
    losses["loss"].mean().backward()
    assert (model.condition.embedding.weight.grad.abs().sum(1) > 0).all()
    assert model.denoiser.prefix.enter.weight.grad.abs().sum() > 0


def test_text_i_is_the_same_whatever_is_asked_for_beside_it(model):
    sampler = DDIMSampler(3, guidance=2.0)
    told = TOLD.repeat(2, 1)[:5]
    whole = model.sample(sampler, 5, seed=0, told=told).tokens
    alone = model.sample(sampler, 5, seed=0, told=told, batch_size=2).tokens
    assert torch.equal(whole, alone)


def test_what_is_known_is_held_against_one_that_is_told_nothing(model):
    assert model.reference.endswith(", untold")


def test_guidance_acts_in_its_interval():
    sampler = DDIMSampler(3, guidance=3.0, guidance_interval=[0.2, 0.5])
    assert [sampler.guidance_at(t) for t in (0.1, 0.2, 0.4, 0.5, 0.6)] == [1.0, 3.0, 3.0, 3.0, 1.0]
