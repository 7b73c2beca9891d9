import json
import random

import pytest

from diffusion_text.tasks.comparison import chrf, exact_match, word_error_rate
from diffusion_text.tasks.garble import Garble

WORDS = [f"word{i}" for i in range(2000)]


def spoilt(**settings):
    return Garble(**settings).spoil(WORDS, ["other"], random.Random(0))


def test_shuffling_keeps_the_words_and_moves_them_within_the_window():
    moved = spoilt(how="shuffle", rate=0.5, window=4)
    assert sorted(moved) == sorted(WORDS)
    distances = [abs(moved.index(word) - i) for i, word in enumerate(WORDS)]
    assert 0 < max(distances) <= 4
    assert 0.3 < sum(map(bool, distances)) / len(WORDS) < 0.95


@pytest.mark.parametrize(("how", "share"), [("drop", 0.75), ("repeat", 1.25), ("replace", 1.0)])
def test_the_rate_is_the_share_of_words(how, share):
    words = spoilt(how=how, rate=0.25)
    assert len(words) / len(WORDS) == pytest.approx(share, abs=0.04)
    if how == "replace":
        assert words.count("other") / len(WORDS) == pytest.approx(0.25, abs=0.04)
        assert all(word in (original, "other") for word, original in zip(words, WORDS, strict=True))


@pytest.mark.parametrize("how", ["shuffle", "drop", "repeat", "replace"])
def test_at_rate_zero_nothing_is_spoilt(how):
    assert spoilt(how=how, rate=0.0) == WORDS


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
