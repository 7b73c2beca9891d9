"""Kneser–Ney by hand and against the textbook's formula on dictionaries; which n-grams are known."""

import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_text.metrics.ngrams import KneserNey, NGrams

VOCAB = 4
corpora = st.lists(st.lists(st.integers(0, VOCAB - 1), max_size=12), max_size=6)
orders = st.integers(1, 4)


def arrays(texts):
    return [np.array(text, dtype=np.int64) for text in texts]


def probabilities(training, texts, order, vocab_size=VOCAB):
    """Those of the texts' tokens, end to end."""
    return np.exp(KneserNey(arrays(training), vocab_size, order).log_probabilities(arrays(texts)))


class Textbook:
    """Interpolated Kneser–Ney, one dictionary look-up at a time."""

    def __init__(self, texts, order):
        self.counts = {n: Counter() for n in range(1, order + 1)}
        for n in range(1, order + 1):
            lefts = defaultdict(set)
            for text in texts:
                for end in range(n, len(text) + 1):
                    ngram = tuple(text[end - n : end])
                    if n == order:
                        self.counts[n][ngram] += 1
                    lefts[ngram].add(text[end - n - 1] if end > n else "beginning")
            if n < order:
                self.counts[n].update({ngram: len(left) for ngram, left in lefts.items()})
        self.order = order

    def probability(self, token, before):
        context = tuple(before)[-(self.order - 1) :] if self.order > 1 else ()
        return self._probability(token, context)

    def _probability(self, token, context):
        counts = self.counts[len(context) + 1]
        lower = self._probability(token, context[1:]) if context else 1 / VOCAB
        following = {ngram: count for ngram, count in counts.items() if ngram[:-1] == context}
        if not following:
            return lower
        frequencies = Counter(counts.values())
        n_1, n_2 = frequencies[1], frequencies[2]
        discount = n_1 / (n_1 + 2 * n_2) if n_1 > 0 and n_2 > 0 else 0.5
        total = sum(following.values())
        seen = max(counts[*context, token] - discount, 0) / total
        return seen + discount * len(following) / total * lower


# ---- Kneser–Ney


def test_a_bigram_model_by_hand():
    """Trained on 0 1 0 1 2.

    Bigrams: 01 twice, 10 and 12 once: n_1 = 2, n_2 = 1, D_2 = 2 / (2 + 2·1) = 1/2.
    Tokens before 0: the beginning, 1; before 1: 0; before 2: 1. Counts 2, 1, 1; n_1 = 2, n_2 = 1, D_1 = 1/2.
    P_1(0) = (2 − 1/2)/4 + (1/2·3/4)·1/3 = 1/2, P_1(1) = P_1(2) = (1 − 1/2)/4 + 1/8 = 1/4
    P_2(1 | 0) = (2 − 1/2)/2 + (1/2·1/2)·1/4 = 13/16
    P_2(2 | 1) = (1 − 1/2)/2 + (1/2·2/2)·1/4 = 3/8
    P_2(1 | 1) = 0 + 1/2·1/4 = 1/8
    P(0 | 2) = P_1(0): nothing follows 2.
    """
    of_texts = probabilities([[0, 1, 0, 1, 2]], [[0, 1, 2, 0], [1, 1]], order=2, vocab_size=3)
    assert of_texts == pytest.approx([1 / 2, 13 / 16, 3 / 8, 1 / 2, 1 / 4, 1 / 8])


def test_a_unigram_model_by_hand():
    """Trained on 0 0 0 1 1 2 of four: n_1 = n_2 = 1, D = 1/3, and 1/3·3/6 = 1/6 is spread over four."""
    expected = [(3 - 1 / 3) / 6 + 1 / 24, (2 - 1 / 3) / 6 + 1 / 24, (1 - 1 / 3) / 6 + 1 / 24, 1 / 24]
    assert probabilities([[0, 0, 0, 1, 1, 2]], [[0, 1, 2, 3]], order=1) == pytest.approx(expected)


def test_a_discount_without_singletons_is_a_half():
    """Trained on 0 0 1 1 of four: n_1 = 0, and 1/2·2/4 = 1/4 is spread over four."""
    expected = [(2 - 1 / 2) / 4 + 1 / 16, 1 / 16]
    assert probabilities([[0, 0, 1, 1]], [[0, 2]], order=1) == pytest.approx(expected)


def test_ngrams_end_with_their_text():
    """In 0 1 and 2 3, each token has one predecessor. D_1 = 1/2 as n_2 = 0, so P_1 = 1/2/4 + 1/2·1/4 = 1/4."""
    assert probabilities([[0, 1], [2, 3]], [[1, 2]], order=2) == pytest.approx([1 / 4, 1 / 4])


@given(training=corpora, texts=corpora, order=orders)
def test_it_is_the_textbooks(training, texts, order):
    textbook = Textbook(training, order)
    expected = [textbook.probability(token, text[:i]) for text in texts for i, token in enumerate(text)]
    assert probabilities(training, texts, order) == pytest.approx(expected)


@given(training=corpora, context=st.lists(st.integers(0, VOCAB - 1), max_size=6), order=orders)
def test_probabilities_sum_to_one(training, context, order):
    texts = [[*context, token] for token in range(VOCAB)]
    of_tokens = probabilities(training, texts, order).reshape(VOCAB, -1)[:, -1]
    assert of_tokens.sum() == pytest.approx(1)
    assert of_tokens.min() > 0


def test_a_large_vocabulary():
    tokens = np.array([49_999, 0, 49_998, 49_999, 0], dtype=np.int32)
    first, second, *_ = np.exp(KneserNey([tokens], 50_000).log_probabilities([tokens[:2]]))
    # Predecessors of 49 999: the beginning, 49 998; of 0 and 49 998: one each. As by hand above, 1/2 of 3/4 is spread.
    assert first == pytest.approx(1.5 / 4 + 3 / 8 / 50_000)
    # 49 999 0: after the beginning, 49 998; 0 49 998 and 49 998 49 999 once. Nothing else follows 49 999.
    assert second == pytest.approx(1.5 / 2 + 0.5 / 2 * (0.5 / 4 + 3 / 8 / 50_000))


def test_texts_may_be_read_only_once():
    text = np.array([0, 1, 0, 1, 2])
    model = KneserNey(iter([text]), 3, order=2)
    assert np.array_equal(model.log_probabilities(iter([text])), KneserNey([text], 3, 2).log_probabilities([text]))


def test_no_text_has_no_probabilities():
    assert probabilities([[0, 1]], [], order=2).shape == (0,)


@pytest.mark.parametrize("token", [-1, VOCAB])
def test_a_token_outside_the_vocabulary_is_refused(token):
    with pytest.raises(ValueError, match="from 0 to 3"):
        KneserNey(arrays([[0, token]]), VOCAB)
    with pytest.raises(ValueError, match="from 0 to 3"):
        KneserNey(arrays([[0, 1]]), VOCAB).log_probabilities(arrays([[token]]))


def test_order_0_is_refused():
    with pytest.raises(ValueError, match="order"):
        KneserNey(arrays([[0, 1]]), VOCAB, order=0)


def test_real_characters_are_more_probable_than_shuffled_ones():
    folder = os.environ.get("DIFFUSION_TEXT_DATA")
    if not folder:
        pytest.skip("DIFFUSION_TEXT_DATA names no folder with tiny_shakespeare/input.txt")
    text = (Path(folder) / "tiny_shakespeare" / "input.txt").read_text(encoding="utf-8")[:300_000]
    characters, tokens = np.unique(list(text), return_inverse=True)
    training, held_out = tokens[:-20_000], tokens[-20_000:]
    model = KneserNey(np.split(training, range(256, len(training), 256)), len(characters))
    shuffled = np.random.default_rng(0).permutation(held_out)
    real_nll, shuffled_nll = (-model.log_probabilities([tokens]).mean() for tokens in (held_out, shuffled))
    assert 1.3 < real_nll < 2.0 < np.log(len(characters)) < shuffled_nll


# ---- Which n-grams are known


@given(training=corpora, texts=corpora, n=orders)
def test_known_ngrams_are_counted(training, texts, n):
    def ngrams(texts):
        return [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]

    known = NGrams(arrays(training), VOCAB, n)
    assert known.num_known(arrays(texts)) == sum(ngram in ngrams(training) for ngram in ngrams(texts))
    assert len(known.keys[-1]) == len(set(ngrams(training)))
