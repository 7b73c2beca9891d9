import pytest
import torch

from diffusion_text.diffusion.samplers import generators_of
from diffusion_text.diffusion.token_samplers import LeftToRightSampler, TokenSampler, UnmaskingSampler

SHARES = torch.tensor([0.5, 0.3, 0.15, 0.05])


def drawn(sampler, texts=40, length=500):
    logits = SHARES.log().expand(texts, length, -1)
    return sampler.draw(logits, generators_of(0, range(texts)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature):
    tokens, confidence = drawn(TokenSampler(temperature=temperature))
    expected = SHARES ** (1 / temperature) / (SHARES ** (1 / temperature)).sum()
    counted = tokens.flatten().bincount(minlength=4) / tokens.numel()
    deviation = (expected * (1 - expected) / tokens.numel()).sqrt()
    assert ((counted - expected).abs() < 4 * deviation).all()
    torch.testing.assert_close(confidence, expected.double()[tokens], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, 1), (0.5, 1), (0.6, 2), (0.8, 2), (0.81, 3), (1.0, 4)])
def test_the_fewest_tokens_that_hold_top_p_are_kept(top_p, kept):
    # Holtzman et al. 2020, §3.1: the smallest set of the likeliest tokens whose share is at least p
    probabilities = torch.tensor([0.15, 0.5, 0.05, 0.3], dtype=torch.float64)
    kept_ones = set(torch.tensor([1, 3, 0, 2])[:kept].tolist())
    likely = LeftToRightSampler(top_p=top_p).likely(probabilities[None, None])
    assert set(likely[0, 0].nonzero().flatten().tolist()) == kept_ones


def test_a_token_too_rare_for_float32_has_its_probability():
    logits = torch.tensor([0.0, -60.0])
    probabilities = TokenSampler().likely((logits.double()).softmax(-1)[None, None])
    assert probabilities[0, 0, 1] == pytest.approx(8.7565e-27, rel=1e-4)  # e^-60, to five digits


@pytest.mark.parametrize("order", ["random", "confidence"])
def test_all_is_shown_at_the_end_and_nothing_twice(order):
    sampler = UnmaskingSampler(num_steps=5, order=order)
    masked = torch.arange(17) < torch.tensor([17, 3, 0])[:, None]
    generators, seen = generators_of(0, range(3)), torch.zeros(3, 17, dtype=torch.long)
    for step in range(5):
        shown = sampler.shown(step, masked, torch.rand(3, 17), generators)
        seen, masked = seen + shown, masked & ~shown
    assert (seen == (torch.arange(17) < torch.tensor([17, 3, 0])[:, None])).all()


def test_in_random_order_as_many_are_shown_at_each_step():
    # Sahoo et al. 2024, eq. 6 with alpha_t = 1 − t: after k of n even steps a token is masked with probability 1 − k/n
    sampler, many = UnmaskingSampler(num_steps=4), 200
    masked, generators = torch.ones(many, 100, dtype=torch.bool), generators_of(1, range(many))
    for step in range(4):
        masked = masked & ~sampler.shown(step, masked, torch.zeros(many, 100), generators)
        left = 1 - (step + 1) / 4
        deviation = (left * (1 - left) / masked.numel()) ** 0.5
        assert abs(masked.float().mean() - left) <= 4 * deviation


def test_the_surest_are_shown_first():
    sampler = UnmaskingSampler(num_steps=2, order="confidence")
    confidence = torch.tensor([[0.1, 0.9, 0.5, 0.7, 1.0]])
    masked = torch.tensor([[True, True, True, True, False]])
    shown = sampler.shown(0, masked, confidence, [])
    assert shown.tolist() == [[False, True, False, True, False]]


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"num_steps": 0}])
def test_nonsense_is_refused(settings):
    with pytest.raises(ValueError, match=r"sampler\."):
        UnmaskingSampler(**settings)
    with pytest.raises(ValueError, match=r"sampler.order"):
        UnmaskingSampler(order="left")
