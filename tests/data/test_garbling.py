import random

import pytest

from diffusion_text.data.garbling import Garbling, counted, parted, realigned
from diffusion_text.data.text_files import TextFiles
from diffusion_text.data.tokens import TextReader
from diffusion_text.models.tokenizers import CharacterTokenizer

TEXTS = [list(range(10, 2010)), list(range(3000, 3500))]
POOL = list(range(5000, 5100))


def spoilt(how, rate):
    """Token ids after garbling; a tokenizer is needed for words only."""
    chance = random.Random(0)
    return [Garbling(how, rate, 3)(text, None, POOL, chance) for text in TEXTS]


def test_shuffling_keeps_the_words_and_moves_them_within_the_window():
    order = Garbling("shuffle", 0.5, 4).order(2000, random.Random(0))
    assert sorted(order) == list(range(2000))
    distances = [abs(old - new) for new, old in enumerate(order)]
    assert 0 < max(distances) <= 4
    assert 0.3 < sum(map(bool, distances)) / 2000 < 0.95


def test_shuffled_texts_are_tokens_again(tokenizer):
    texts = tokenizer(["river stone glass", "north winter bread silver"], add_special_tokens=False).input_ids
    garbling, chance = Garbling("shuffle", 1.0, 4), random.Random(1)
    shuffled = [garbling(text, tokenizer, POOL, chance) for text in texts]
    words = [sorted(text.split()) for text in tokenizer.batch_decode(shuffled)]
    assert words == [["glass", "river", "stone"], ["bread", "north", "silver", "winter"]]
    assert shuffled != texts


def test_a_lost_line_break_puts_nothing_behind_it_out_of_place(tmp_path):
    text, spoilt = "one two\n\nthree  four five", "two one four three five"
    (tmp_path / "text.txt").write_text("\n\n".join([text] * 400), encoding="utf-8")
    characters = CharacterTokenizer().build(TextFiles(str(tmp_path), length=12, dir=str(tmp_path / "text.txt")))
    old, new = (TextReader(characters).ids(words) for words in (text, spoilt))
    instead = realigned(old, new, [1, 0, 3, 2, 4], characters)
    assert [characters.decode(tokens) for tokens in instead] == [*"two one ", "", *"four three ", "", *"five"]


def test_shuffled_words_lose_and_gain_no_token(tokenizer):
    chance = random.Random(0)
    for _ in range(200):
        words = [chance.choice(["river", "stone", "a", "unbelievable", "x"]) for _ in range(chance.randrange(12))]
        text = "".join(chance.choice(["", " ", "\n", "\n\n", "\u3000"]) + word for word in words)
        ids, order = TextReader(tokenizer).ids(text), list(range(len(text.split())))
        chance.shuffle(order)
        new = TextReader(tokenizer).ids(" ".join(text.split()[i] for i in order))
        instead = realigned(ids, new, order, tokenizer)
        assert len(instead) == len(ids)
        assert [token for tokens in instead for token in tokens] == new


@pytest.mark.parametrize(
    ("each", "counts"),
    [
        ([[5], [6], [7]], [(5, 1), (6, 1), (7, 1)]),
        ([[], [5], [], [], [6]], [(5, 4), (6, 1)]),
        ([[5, 5], [], [6, 6, 6]], [(5, 1), (5, 1), (6, 1), (6, 0), (6, 0)]),
        ([[], []], []),
        ([], []),
    ],
)
def test_what_is_left_counts_for_what_is_missing_behind_it(each, counts):
    """Also for what is missing before the first of it."""
    assert counted(each) == counts


@pytest.mark.parametrize(("how", "share"), [("drop", 0.75), ("repeat", 1.25), ("replace", 1.0)])
def test_the_rate_is_the_share_of_tokens(how, share):
    for text, garbled in zip(TEXTS, spoilt(how, 0.25), strict=True):
        assert len(garbled) / len(text) == pytest.approx(share, abs=0.06)
        if how == "replace":
            changed = [after for before, after in zip(text, garbled, strict=True) if before != after]
            assert len(changed) / len(text) == pytest.approx(0.25, abs=0.05)
            assert {*changed} <= {*POOL}


@pytest.mark.parametrize("how", ["drop", "repeat", "replace"])
def test_at_rate_zero_nothing_is_spoilt(how):
    assert spoilt(how, 0.0) == TEXTS


@pytest.mark.parametrize(
    ("ids", "parts"),
    [
        ([0, 5, 1, 6, 2], ([0], [5, 1, 6], [2])),
        ([5, 6], ([], [5, 6], [])),
        ([0, 2], ([0, 2], [], [])),
        ([], ([], [], [])),
    ],
)
def test_what_stands_around_a_text_is_told_apart(ids, parts):
    assert parted(ids, {0, 1, 2}) == parts
