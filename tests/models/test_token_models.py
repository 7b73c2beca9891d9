import math
from itertools import combinations

import pytest
import torch
from torch.testing import assert_close

from diffusion_text.conditions.garbled import Garbled, tokens_of
from diffusion_text.data.tokens import NOTHING
from diffusion_text.denoisers.transformer import Transformer
from diffusion_text.diffusion.losses import MSELoss
from diffusion_text.diffusion.samplers import generators_of
from diffusion_text.diffusion.token_samplers import LeftToRightSampler, UnmaskingSampler
from diffusion_text.errors import UserError
from diffusion_text.models.step_draws import StepDraws
from diffusion_text.models.token_models import Autoregressive, MaskedDiffusion
from diffusion_text.models.writing import Given
from diffusion_text.text_spaces.embedding import EmbeddingSpace, LearnedEmbedding

DIM, LONGEST = 8, 12


@pytest.fixture
def make_model(tokenizer):
    """A function that builds a baseline whose untrained network says something of every token."""

    def make(kind, rounding="learned", condition=None, **network):
        torch.manual_seed(0)
        network |= {"told": condition.width} if condition else {}
        settings = {"width": 16, "depth": 2, "heads": 2, "causal": kind is Autoregressive, "gates": 1.0} | network
        space = EmbeddingSpace(tokenizer, LearnedEmbedding(len(tokenizer), DIM), rounding)
        model = kind(Transformer(DIM, **settings), space, max_length=LONGEST, condition=condition)
        torch.nn.init.normal_(model.denoiser.leave.weight, std=0.2)
        lengths = torch.zeros(LONGEST + 1, dtype=torch.long)
        lengths[[5, 9]] = torch.tensor([300, 100])
        model.set_statistics(torch.ones(len(tokenizer), dtype=torch.long), lengths)
        return model.eval()

    return make


@pytest.fixture
def batch(tokenizer):
    """Three texts of 8, 5 and 2 tokens."""
    mask = torch.arange(8) < torch.tensor([8, 5, 2])[:, None]
    tokens = torch.randint(5, len(tokenizer), (3, 8), generator=torch.Generator().manual_seed(1))
    return tokens.masked_fill(~mask, tokenizer.pad_token_id), mask


def nats(model, tokens, mask, draws=1):
    return model.nats(tokens, mask, draws, None, torch.Generator().manual_seed(0))["tokens"]


# ---- likelihood


@torch.no_grad()
def test_the_chain_rule_gives_the_likelihood_of_a_text(make_model, batch):
    model, (tokens, mask) = make_model(Autoregressive), batch
    space = model.text_space
    for text, real, whole in zip(tokens, mask, nats(model, tokens, mask), strict=True):
        total = 0.0
        for position in range(int(real.sum())):
            x = torch.cat([model.unknown[None], space.embedding(text[:position])])[None]
            seen = torch.ones(1, position + 1, dtype=torch.bool)
            each = model.logits(x, torch.zeros(1), seen)[0, -1].log_softmax(-1)
            total -= float(each[text[position]])
        assert float(whole) == pytest.approx(total, rel=1e-5)


def test_the_probabilities_of_all_texts_sum_to_one(make_model, tokenizer):
    model = make_model(Autoregressive)
    every = torch.cartesian_prod(torch.arange(len(tokenizer)), torch.arange(len(tokenizer)))
    total = sum(
        float((-nats(model, part, torch.ones_like(part, dtype=torch.bool))).exp().sum()) for part in every.split(4096)
    )
    assert total == pytest.approx(1, abs=1e-4)


@torch.no_grad()
def test_the_bound_is_the_mean_over_all_masked_counts(make_model, batch):
    """Equation (2), summed over every set of masked tokens of one text."""
    model, text = make_model(MaskedDiffusion), batch[0][1:2, :4]
    mask = torch.ones_like(text, dtype=torch.bool)
    expected = 0.0
    for many in range(1, 5):
        sets = list(combinations(range(4), many))
        for places in sets:
            masked = torch.zeros_like(mask)
            masked[0, list(places)] = True
            each = model.read(text, mask, masked).log_softmax(-1).gather(-1, text.unsqueeze(-1)).squeeze(-1)
            expected -= float(each[masked].sum()) * 4 / many / len(sets) / 4
    several = [float(nats(model, text.expand(200, -1), mask.expand(200, -1), draws=4).mean())]
    assert several[0] == pytest.approx(expected, rel=0.02)


def test_each_count_is_masked_as_often(make_model, batch, monkeypatch):
    model, (tokens, mask) = make_model(MaskedDiffusion), batch
    counts = []
    monkeypatch.setattr(
        model,
        "read",
        lambda tokens, mask, masked, context: counts.append(masked.sum(1)) or torch.zeros(*mask.shape, 400),
    )
    nats(model, tokens, mask, draws=8)
    assert sorted(torch.stack(counts)[:, 0].tolist()) == list(range(1, 9))
    assert all(1 <= count <= length for row in counts for count, length in zip(row, (8, 5, 2), strict=True))


def test_padding_changes_no_likelihood(make_model, batch):
    tokens, mask = batch
    for kind in (Autoregressive, MaskedDiffusion):
        model = make_model(kind)
        longer = torch.cat([tokens, tokens], 1), torch.cat([mask, torch.zeros_like(mask)], 1)
        keys, shares = torch.randn(3, 16), torch.rand(3)
        short = model.drawn_nats(tokens, mask, shares, keys[:, :8])
        assert_close(model.drawn_nats(*longer, shares, keys), short, rtol=1e-4, atol=1e-4)


# ---- writing


SAMPLERS = {Autoregressive: LeftToRightSampler(LONGEST), MaskedDiffusion: UnmaskingSampler(4)}
of_both_kinds = pytest.mark.parametrize("kind", [Autoregressive, MaskedDiffusion])


@of_both_kinds
def test_a_text_is_the_same_whatever_is_drawn_beside_it(make_model, kind):
    model = make_model(kind)
    many, two = (
        model.sample(SAMPLERS[kind], count, seed=3, batch_size=batch).tokens for count, batch in ((5, 3), (2, 2))
    )
    assert_close(many[:2], two)
    assert not torch.equal(many[0], many[1])


@of_both_kinds
def test_lengths_are_those_of_training(make_model, kind, tokenizer):
    tokens = make_model(kind).sample(SAMPLERS[kind], 40, seed=0).tokens
    ends = {int((text != tokenizer.pad_token_id).nonzero().max()) + 1 for text in tokens}
    assert {5, 9} <= ends <= {4, 5, 8, 9}  # the last token that is drawn may be a pad


def test_what_was_seen_is_not_read_again(make_model):
    """Sampling with kept keys and values draws what the whole network would."""
    model, sampler = make_model(Autoregressive, local_heads=[-1]), LeftToRightSampler(LONGEST)
    drawn = model.sample(sampler, 3, seed=0, length=9).tokens
    generators, tokens = generators_of(0, range(3)), torch.zeros(3, 0, dtype=torch.long)
    for position in range(9):
        x = torch.cat([model.unknown.expand(3, 1, -1), model.text_space.embedding(tokens)], 1)
        logits = model.logits(x, torch.zeros(3), torch.ones(3, position + 1, dtype=torch.bool))[:, -1:]
        tokens = torch.cat([tokens, sampler.draw(logits, generators)[0]], 1)
    assert_close(drawn, tokens)


# ---- told a condition


@pytest.fixture
def told_model(make_model, batch):
    """A function that builds a baseline that is told a garbled text."""

    def make(kind):
        model = make_model(kind, condition=Garbled({}, DIM, dropout=0.0))
        model.condition.remember({"tokens": [text[real] for text, real in zip(*batch, strict=True)]}, model.text_space)
        return model

    return make


@of_both_kinds
def test_training_is_told(told_model, batch, kind):
    model, (tokens, mask) = told_model(kind), batch
    draws = StepDraws(0, 0, LONGEST, 3)
    losses = model.trained_on({"tokens": tokens, "mask": mask}, draws)
    assert set(losses) == {"loss", "counts"}
    losses["loss"].mean().backward()
    assert model.denoiser.prefix.enter.weight.grad.abs().sum() > 0
    checks = {check.name: check.verdict for check in model.preflight({"tokens": tokens, "mask": mask}, None)}
    assert checks["sees the condition"] == checks["gradient reaches"] == "ok"


@of_both_kinds
def test_a_sample_is_not_told_what_only_training_knows(told_model, batch, kind):
    model, (tokens, mask) = told_model(kind), batch
    known = model.told({"tokens": tokens, "mask": mask}, torch.Generator().manual_seed(model.seed))
    told, asked = model.as_told({"tokens": tokens, "mask": mask})
    assert torch.equal(told, tokens_of(known))
    assert not torch.equal(told, known)
    assert [text["text"] for text in asked] == model.text_space.to_text([row[row != NOTHING].tolist() for row in told])


@torch.no_grad()
@of_both_kinds
def test_what_is_told_changes_what_is_said_of_that_text_alone(told_model, batch, kind):
    model, (tokens, mask) = told_model(kind), batch
    told = tokens.masked_fill(~mask, NOTHING)
    other = told.clone()
    other[0] = other[0].roll(1)
    numbers = torch.full((3,), 0.5), torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    first, second = (model.drawn_nats(tokens, mask, *numbers, model.context_of(each, mask)) for each in (told, other))
    assert_close(first[1:], second[1:])
    assert abs(float(first[0] - second[0])) > 1e-3


@torch.no_grad()
def test_what_was_seen_is_not_read_again_be_it_told(told_model, batch):
    """Sampling with kept keys and values draws what the whole network would, told the same."""
    model, sampler = told_model(Autoregressive), LeftToRightSampler(LONGEST)
    told = batch[0].masked_fill(~batch[1], NOTHING)
    drawn = model.sample(sampler, 3, seed=0, length=9, told=told).tokens
    generators, tokens = generators_of(0, range(3)), torch.zeros(3, 0, dtype=torch.long)
    context = model.context_of(told, torch.ones(3, 9, dtype=torch.bool))
    for position in range(9):
        x = torch.cat([model.unknown.expand(3, 1, -1), model.text_space.embedding(tokens)], 1)
        real = torch.ones(3, position + 1, dtype=torch.bool)
        logits = model.logits(x, torch.zeros(3), real, context)[:, -1:]
        tokens = torch.cat([tokens, sampler.draw(logits, generators)[0]], 1)
    assert_close(drawn, tokens)


@of_both_kinds
def test_what_is_given_stays(make_model, kind):
    model, given = make_model(kind), torch.tensor([7, 8, 9, 10, 11, 12])
    where = torch.arange(6) < 3
    tokens = model.sample(SAMPLERS[kind], 4, seed=0, given=Given(given, where)).tokens
    assert (tokens[:, :3] == given[:3]).all()
    assert len(set(map(tuple, tokens[:, 3:].tolist()))) > 1


def test_blanks_are_for_who_sees_both_ways(make_model):
    given = Given(torch.tensor([7, 8, 9]), torch.tensor([True, False, True]))
    tokens = make_model(MaskedDiffusion).sample(SAMPLERS[MaskedDiffusion], 4, seed=0, given=given).tokens
    assert (tokens[:, [0, 2]] == torch.tensor([7, 9])).all()
    with pytest.raises(UserError, match="cannot fill blanks"):
        make_model(Autoregressive).sample(SAMPLERS[Autoregressive], 4, seed=0, given=given)


@of_both_kinds
def test_it_draws_as_it_judges(make_model, kind, tokenizer):
    """Texts of one token are drawn as often as the model finds them likely."""
    model, many = make_model(kind), 4000
    tokens = model.sample(SAMPLERS[kind], many, seed=0, length=1, batch_size=many).tokens[:, 0]
    every = torch.arange(len(tokenizer))[:, None]
    expected = (-nats(model, every, torch.ones_like(every, dtype=torch.bool))).exp()
    counted = tokens.bincount(minlength=len(tokenizer)) / many
    deviation = (expected * (1 - expected) / many).sqrt()
    assert ((counted - expected).abs() < 5 * deviation + 1e-9).all()


# ---- what is refused


def test_networks_and_parts_that_do_not_fit_are_refused(make_model):
    with pytest.raises(UserError, match="use model=autoregressive"):
        make_model(Autoregressive, causal=False)
    with pytest.raises(UserError, match="use model=masked_diffusion"):
        make_model(MaskedDiffusion, causal=True)
    with pytest.raises(ValueError, match="rounding=learned"):
        make_model(MaskedDiffusion, rounding="cosine")
    with pytest.raises(ValueError, match="loss= is of diffusion over x_0"):
        Autoregressive.check(loss=MSELoss(), schedule=None)
    with pytest.raises(UserError, match=r"sampler\.temperature"):
        make_model(MaskedDiffusion).sample(SAMPLERS[MaskedDiffusion], 1, seed=0, temperature=1.0)


def test_a_unigram_model_knows_nothing(make_model, batch):
    from diffusion_text.metrics.likelihood import Likelihood

    counts = torch.tensor([8, 5, 2])
    metric = Likelihood()
    unigram = torch.tensor([30.0, 20.0, 7.0])
    metric.update(unigram, unigram, counts)
    figures = metric.compute()
    assert float(figures["information"]) == 0
    assert float(figures["nll"]) == pytest.approx(57 / 15)
    assert math.isfinite(float(figures["nll_error"]))
