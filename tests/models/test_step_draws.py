"""What a step draws follows from the seed, the step and a text's place in it, and from nothing else."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from diffusion_text.data.sampling import Shares
from diffusion_text.diffusion.time_sampling import UniformTimes
from diffusion_text.models.step_draws import StepDraws, evaluation_draws

CPU = torch.device("cpu")
LIKE = torch.zeros(20, 5, 3)


def drawn(draws):
    """Everything that a step draws."""
    like = LIKE[: draws.texts]
    return (
        draws.times(UniformTimes(), CPU),
        draws.noise(like),
        draws.noise(like, 1),
        draws.chosen(0.3, CPU),
        draws.uniform(2, CPU),
        draws.offsets(),
    )


@pytest.mark.parametrize("cuts", [(0, 20), (0, 7, 20), (0, 1, 8, 9, 16, 20)])
def test_the_parts_of_a_step_draw_what_the_whole_does(cuts):
    times, noise, other, chosen, uniform, offsets = drawn(StepDraws(seed=1, step=2, longest=9, texts=20))
    for first, last in pairwise(cuts):
        part = drawn(StepDraws(1, 2, 9, last - first, first, of=20))
        assert_close(part[0], times[first:last], rtol=0, atol=0)
        assert_close(part[1], noise[first:last], rtol=0, atol=0)
        assert_close(part[2], other[first:last], rtol=0, atol=0)
        assert_close(part[4], uniform[first:last], rtol=0, atol=0)
        assert_close(part[5], offsets[first:last], rtol=0, atol=0)
        assert (part[3] + first).tolist() == [text for text in chosen.tolist() if first <= text < last]


def test_processes_that_share_a_split_draw_what_one_does():
    def of(*ranks):
        split = SimpleNamespace(batch_sampler=Shares(20, 6, *ranks))
        model = SimpleNamespace(seed=1, trainer=SimpleNamespace(val_dataloaders=split))
        batches = [evaluation_draws(model, 9, "val", number) for number in range(len(split.batch_sampler))]
        return [draws.noise(LIKE[: draws.texts]) for draws in batches]

    one, two = of(), of(2, 0) + of(2, 1)
    assert_close(torch.cat(two), torch.cat(one), rtol=0, atol=0)
    assert len(torch.cat(one)[:, 0, 0].unique()) == 20


def test_shorter_batches_have_the_same_noise():
    draws = StepDraws(1, 2, 9, 20)
    assert_close(draws.noise(LIKE[:, :4]), draws.noise(LIKE)[:, :4], rtol=0, atol=0)


def test_seeds_steps_streams_and_texts_have_noise_of_their_own():
    of_streams = [StepDraws(1, 2, 9, 20).noise(LIKE, stream) for stream in (0, 1)]
    all_of_it = torch.cat([*of_streams, *(StepDraws(seed, step, 9, 20).noise(LIKE) for seed, step in ((2, 2), (1, 3)))])
    assert len(all_of_it.flatten().unique()) == all_of_it.numel()
    assert all_of_it.mean().abs() < 0.1
    assert (all_of_it.std() - 1).abs() < 0.1


def test_nothing_is_drawn_from_the_global_generator():
    draws = StepDraws(1, 2, 9, 20)
    first, before = drawn(draws), torch.get_rng_state()
    assert_close(drawn(draws), first, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("share", [0, 0.1, 0.3, 0.5, 0.9, 1])
def test_a_share_of_the_texts_is_chosen_evenly(share):
    chosen = np.concatenate([40 * step + StepDraws(0, step, 1, 40).chosen(share, CPU).numpy() for step in range(50)])
    assert len(chosen) == 40 * 50 * share
    within = np.diff(chosen)[np.diff(chosen // 40) == 0]
    assert not share or set(within) <= {int(1 / share), -int(-1 // share)}


@pytest.mark.parametrize("texts", [8, 50, 1000])
def test_offsets_are_even_over_any_stretch_of_the_texts(texts):
    """No two neighbours on the circle are twice as far from each other as on a grid."""
    offsets = StepDraws(0, 0, 1, texts, first=123, of=2000).offsets().sort().values
    gaps = torch.diff(offsets, append=offsets[:1] + 1)
    assert gaps.max() < 2 / texts
    assert 0 <= offsets.min() < offsets.max() < 1


def test_every_text_has_its_turn():
    places = torch.cat([StepDraws(0, step, 1, 4).chosen(0.25, CPU) for step in range(400)])
    assert (places.bincount() / 400 - 0.25).abs().max() < 0.1


def test_chances_are_numbers_of_their_own_for_each_text_and_step():
    chances = StepDraws(1, 2, 9, 20).uniform(3, CPU)
    assert chances.shape == (20, 3)
    assert len(chances.unique()) == 60
    assert 0 <= chances.min() < 0.1 < 0.9 < chances.max() < 1
    assert not torch.equal(chances, StepDraws(1, 3, 9, 20).uniform(3, CPU))
