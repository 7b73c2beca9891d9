import pytest
import torch

from diffusion_text.data import sampling
from diffusion_text.data.sampling import Shares, Steps, shared, steps_per_epoch
from diffusion_text.errors import UserError


def taken(steps, first=0, **shape):
    return list(Steps(10, steps, **({"batch_size": 3, "seed": 1} | shape), first=first))


def test_an_epoch_sees_every_text_once_in_an_order_of_its_own():
    first, second = taken(6)[:9], taken(6)[9:]
    assert len(set(first)) == len(set(second)) == 9
    assert first != second
    assert first == torch.randperm(10, generator=torch.Generator().manual_seed(1)).tolist()[:9]


@pytest.mark.parametrize("first", range(7))
def test_the_texts_of_a_step_are_the_same_wherever_one_begins(first):
    assert taken(7, first=first) == taken(7)[3 * first :]


@pytest.mark.parametrize("shape", [{"ranks": 2}, {"batches": 2}, {"ranks": 3}])
def test_several_processes_and_batches_take_what_one_would(shape):
    size = 6
    [parts] = shape.values()
    whole = torch.tensor(taken(4, batch_size=size)).view(4, parts, size // parts)
    if "batches" in shape:
        assert taken(4, batch_size=size // parts, batches=parts) == whole.flatten().tolist()
        return
    for rank in range(parts):
        assert taken(4, batch_size=size // parts, ranks=parts, rank=rank) == whole[:, rank].flatten().tolist()


def test_texts_that_do_not_fill_a_step_are_repeated():
    step = taken(1, batch_size=25)
    assert len(step) == 25
    assert set(step) == set(range(10))


LENGTHS = torch.randint(1, 60, (990,), generator=torch.Generator().manual_seed(3))


def by_length(first=0, rank=0, ranks=1, lengths=LENGTHS, seed=1):
    """The texts of two epochs of 61 steps of sixteen, in steps."""
    texts = Steps(990, 122, 16 // ranks, ranks=ranks, rank=rank, seed=seed, first=first, lengths=lengths)
    return torch.tensor(list(texts)).view(-1, 16 // ranks)


def test_texts_of_a_step_are_about_as_long_as_one_another(monkeypatch):
    monkeypatch.setattr(sampling, "WINDOW", 20)
    steps, plain = by_length(), by_length(lengths=None)
    apart = (LENGTHS[steps].amax(1) - LENGTHS[steps].amin(1)).float()
    assert apart.mean() < 5 < 40 < (LENGTHS[plain].amax(1) - LENGTHS[plain].amin(1)).float().mean()
    for window in (slice(0, 20), slice(20, 40), slice(60, 61), slice(61, 81)):
        assert set(steps[window].flatten().tolist()) == set(plain[window].flatten().tolist()), "of that window, all"
    means = LENGTHS[steps[:20]].float().mean(1)
    assert (means.diff() > 0).any()
    assert (means.diff() < 0).any()


def test_that_order_follows_from_seed_and_step_as_well_and_is_shared():
    steps = by_length()
    assert torch.equal(by_length(first=70), steps[70:])
    assert not torch.equal(by_length(seed=2), steps)
    assert not torch.equal(steps[:61], steps[61:])
    assert torch.equal(torch.cat([by_length(rank=rank, ranks=2) for rank in range(2)], dim=1), steps)


def test_texts_that_do_not_fill_a_step_are_repeated_whatever_their_lengths():
    assert taken(1, batch_size=25, lengths=LENGTHS[:10]) == taken(1, batch_size=25)


def test_its_length_is_that_of_the_whole_training():
    assert len(Steps(10, 7, 3, batches=2, first=5)) == 42
    assert len(taken(7, batches=2, first=5)) == 12


@pytest.mark.parametrize(("texts", "per_step", "steps"), [(10, 3, 3), (10, 10, 1), (2, 3, 1)])
def test_steps_in_an_epoch(texts, per_step, steps):
    assert steps_per_epoch(texts, per_step) == steps


@pytest.mark.parametrize(("texts", "ranks", "size"), [(24, 2, 8), (25, 2, 8), (65, 2, 32), (7, 4, 1), (3, 3, 8)])
def test_processes_share_a_split_in_as_many_batches_each(texts, ranks, size):
    parts = [list(Shares(texts, size, ranks, rank)) for rank in range(ranks)]
    assert [text for part in parts for batch in part for text in batch] == list(range(texts))
    assert len({len(part) for part in parts}) == 1
    assert min(len(batch) for part in parts for batch in part) > 0
    assert max(len(batch) for part in parts for batch in part) <= max(size, 2)


def test_one_process_has_batches_of_one_size():
    assert [len(batch) for batch in Shares(1024, 32)] == [32] * 32
    assert len(Shares(1024, 32, 8, 3)) == 4


def test_more_processes_than_texts_are_refused():
    with pytest.raises(UserError, match=r"5 processes cannot share 4 texts: raise data\.eval_texts"):
        Shares(4, 8, ranks=5)


def test_a_step_is_shared_evenly_or_refused():
    assert shared(48, 6) == 8
    with pytest.raises(UserError, match=r"data\.global_batch_size=50 is not shared evenly by the 4 batches"):
        shared(50, 4)
