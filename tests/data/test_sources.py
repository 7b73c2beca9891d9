import itertools
import math

import numpy as np
import pytest

from diffusion_text.data.sources import SENTENCE, Grammar, Markov, Source
from diffusion_text.models.tokenizers import CharacterTokenizer

TWO_STATES = Source("ab", np.array([[0.9, 0.1], [0.5, 0.5]]))


@pytest.fixture
def corpus(tmp_path):
    """A function that makes a corpus of a source."""
    return lambda kind, **settings: kind(cache_dir=str(tmp_path), **{"size": 100_000, "packing": "stream"} | settings)


def test_the_entropy_rate_of_two_states_by_hand():
    """π = (5/6, 1/6); 5/6 · h(0.1) + 1/6 · ln 2 = 5/6 · 0.325083 + 1/6 · 0.693147 (Cover & Thomas 2006, §4.2)."""
    assert TWO_STATES.stationary == pytest.approx([5 / 6, 1 / 6])
    assert TWO_STATES.entropy_rate == pytest.approx(0.386427, abs=1e-6)


def test_the_probability_of_a_text_by_hand():
    assert TWO_STATES.nats("aab") == pytest.approx(-math.log(5 / 6 * 0.9 * 0.1))
    assert TWO_STATES.nats("c") == math.inf


def test_probabilities_of_all_texts_add_up_where_characters_do_not_tell_the_state():
    hidden = Source("aab", np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3], [0.3, 0.3, 0.4]]))
    texts = map("".join, itertools.product("ab", repeat=6))
    assert sum(math.exp(-hidden.nats(text)) for text in texts) == pytest.approx(1)


def test_a_grammars_rate_is_that_of_its_sentences(corpus):
    """Entropy of a sentence over its mean length: sentences are independent and each is read one way."""
    entropy = -sum(p * math.log(p) for words in SENTENCE for p in words.values())
    length = sum(p * len(word) for words in SENTENCE for word, p in words.items())
    assert corpus(Grammar).source.entropy_rate == pytest.approx(entropy / length)


@pytest.mark.parametrize("kind", [Markov, Grammar])
def test_texts_are_as_probable_as_the_entropy_rate_says(corpus, kind):
    source = corpus(kind).source
    [text] = corpus(kind).paragraphs("train")
    parts = [text[i : i + 500] for i in range(0, len(text), 500)]
    nats = np.array([source.nats(part) / len(part) for part in parts])
    # a stretch's first characters are told by none before them, which costs at most the stationary entropy once
    surplus = math.log(len(source.characters)) / 500
    error = nats.std() / len(nats) ** 0.5
    assert -4 * error < nats.mean() - source.entropy_rate < surplus + 4 * error


def test_a_seed_makes_a_source_and_its_splits_are_drawn_apart(corpus):
    first, again, other = (next(corpus(Markov, source_seed=seed).paragraphs("validation")) for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == 5000
    [test] = corpus(Markov).paragraphs("test")
    assert first != test


def test_it_is_tokenised_as_it_was_drawn(corpus):
    data = corpus(Markov, length=32)
    tokenizer = CharacterTokenizer().build(data)
    data.prepare(tokenizer)
    texts = tokenizer.batch_decode(list(data.splits["test"]["tokens"]))
    assert "".join(texts) == next(data.paragraphs("test"))
    assert all(math.isfinite(data.source.nats(text)) for text in texts)


@pytest.mark.parametrize("wrong", [{"symbols": 1}, {"order": 4}, {"concentration": 0}, {"size": 10}])
def test_settings_that_cannot_be_are_refused(corpus, wrong):
    with pytest.raises(ValueError, match=f"data.{next(iter(wrong))}"):
        corpus(Markov, **wrong)
