import json
import random

import pytest

from diffusion_text.tasks.comparison import chrf, exact_match, word_error_rate
from diffusion_text.tasks.garble import Garble

TEXTS = [list(range(10, 2010)), list(range(3000, 3500))]


def spoilt(**settings):
    """Token ids after garbling; a tokenizer is needed for words only."""
    return Garble(**settings).spoil(TEXTS, None, random.Random(0))


def test_shuffling_keeps_the_words_and_moves_them_within_the_window():
    words = [f"word{i}" for i in range(2000)]
    moved = Garble(how="shuffle", rate=0.5, window=4).shuffle(words, random.Random(0))
    assert sorted(moved) == sorted(words)
    distances = [abs(moved.index(word) - i) for i, word in enumerate(words)]
    assert 0 < max(distances) <= 4
    assert 0.3 < sum(map(bool, distances)) / len(words) < 0.95


def test_shuffled_texts_are_tokens_again(tokenizer):
    texts = tokenizer(["river stone glass", "north winter bread silver"], add_special_tokens=False).input_ids
    shuffled = Garble(how="shuffle", rate=1.0, window=4).spoil(texts, tokenizer, random.Random(1))
    words = [sorted(text.split()) for text in tokenizer.batch_decode(shuffled)]
    assert words == [["glass", "river", "stone"], ["bread", "north", "silver", "winter"]]
    assert shuffled != texts


@pytest.mark.parametrize(("how", "share"), [("drop", 0.75), ("repeat", 1.25), ("replace", 1.0)])
def test_the_rate_is_the_share_of_tokens(how, share):
    for text, garbled in zip(TEXTS, spoilt(how=how, rate=0.25), strict=True):
        assert len(garbled) / len(text) == pytest.approx(share, abs=0.06)
        if how == "replace":
            changed = sum(before != after for before, after in zip(text, garbled, strict=True))
            assert changed / len(text) == pytest.approx(0.25, abs=0.05)
            assert {*garbled} <= {token for text in TEXTS for token in text}


@pytest.mark.parametrize("how", ["drop", "repeat", "replace"])
def test_at_rate_zero_nothing_is_spoilt(how):
    assert spoilt(how=how, rate=0.0) == TEXTS


def test_the_longest_garbled_text_still_fits(session):
    run = session("num_samples=5")
    garble = Garble(how="repeat", rate=1.0)
    longest = len(run.model.length_counts) - 1
    assert max(map(len, garble.spoil(garble.that_fit(run), None, random.Random(0)))) <= longest - 2


@pytest.mark.parametrize("settings", [{"how": "eat"}, {"rate": 1.5}, {"t": 0.0}, {"window": 1}])
def test_nonsense_is_refused(settings):
    with pytest.raises(ValueError, match=r"task\."):
        Garble(**settings)


def test_scores_are_kept_with_the_texts(session):
    run = session("num_samples=3", "sampler.num_steps=2")
    Garble(how="drop", rate=0.5, t=0.2)(run)
    first, *texts = [json.loads(line) for line in (run.run.samples / "garble.jsonl").read_text().splitlines()]
    assert set(first["scores"]) == {"garbled", "do nothing", "restored"}
    originals = [text["original"] for text in texts]
    for name, score in first["scores"].items():
        assert score["chrf"] == pytest.approx(chrf([text[name] for text in texts], originals))
    assert first["scores"]["garbled"]["word_error_rate"] > 0.2


def test_figures_of_comparison():
    """chrF of identical and of disjoint texts is 1 and 0; word errors by hand."""
    assert chrf(["one two three"], ["one two three"]) == pytest.approx(1)
    assert chrf(["zzz"], ["aaa"]) == 0
    assert word_error_rate(["a b c", "d"], ["a x c", "d e"]) == pytest.approx(2 / 5)
    assert exact_match(["a", "b"], ["a", "c"]) == 0.5
