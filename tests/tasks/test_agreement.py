import random

import pytest

from diffusion_text.tasks.agreement import agreed, edits


def made(text, changes):
    text = list(text)
    for edit in sorted(changes, reverse=True):
        text[edit.start : edit.end] = edit.instead
    return text


def test_edits_make_one_text_the_other():
    chance = random.Random(0)
    for _ in range(200):
        one, other = ([chance.randrange(5) for _ in range(chance.randrange(12))] for _ in range(2))
        assert made(one, edits(one, other)) == other


def test_tokens_that_give_way_to_as_many_are_edits_of_their_own():
    assert edits([1, 2, 3, 4], [1, 7, 8, 4]) == {(1, 2, (7,)), (2, 3, (8,))}
    assert edits([1, 2, 3], [1, 5, 6, 7, 3]) == {(1, 2, (5, 6, 7))}


@pytest.mark.parametrize(
    ("corrections", "restored"),
    [
        ([[1, 9, 3], [1, 9, 3], [1, 2, 8]], [1, 9, 3]),
        ([[1, 9, 3], [1, 8, 3], [1, 7, 3]], [1, 2, 3]),
        ([[1, 9, 3], [1, 2, 3]], [1, 2, 3]),
        ([[1, 3], [1, 3, 4], [1, 2, 3, 4]], [1, 3, 4]),
        ([[0, 1, 2, 3, 5], [0, 1, 9, 3], [6, 1, 9, 3, 5]], [0, 1, 9, 3, 5]),
        ([[9, 9, 9]], [9, 9, 9]),
        ([[]], []),
    ],
    ids=["most", "apart", "half", "left out", "put in", "one", "nothing"],
)
def test_what_more_than_half_change_is_changed(corrections, restored):
    assert agreed([1, 2, 3], corrections, [1, 2, 3]) == restored


def test_what_reading_alone_changes_is_left():
    assert agreed([1, 2, 3, 4], [[1, 9, 3]] * 2, reread=[1, 9, 3, 4]) == [1, 2, 3]


def test_what_most_agree_on_is_nearer_than_any_of_them():
    """Corrections that each err elsewhere, one token in ten, all find what is wrong with the text."""
    chance = random.Random(1)
    original = [chance.randrange(100) for _ in range(200)]
    garbled = [token if chance.random() > 0.2 else 100 for token in original]
    corrections = [[token if chance.random() > 0.1 else 101 + i for token in original] for i in range(5)]
    assert agreed(garbled, corrections, garbled) == original
