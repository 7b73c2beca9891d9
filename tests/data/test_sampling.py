import pytest
import torch

from diffusion_text.data.sampling import Steps, steps_per_epoch


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


def test_its_length_is_that_of_the_whole_training():
    assert len(Steps(10, 7, 3, batches=2, first=5)) == 42
    assert len(taken(7, batches=2, first=5)) == 12


@pytest.mark.parametrize(("texts", "per_step", "steps"), [(10, 3, 3), (10, 10, 1), (2, 3, 1)])
def test_steps_in_an_epoch(texts, per_step, steps):
    assert steps_per_epoch(texts, per_step) == steps
