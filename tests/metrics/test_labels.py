"""Which label a text has."""

import numpy as np

from diffusion_text.metrics.labels import NGramLabels


def test_a_text_has_the_label_whose_texts_are_like_it():
    draw = np.random.default_rng(0)
    texts = {"few": [draw.integers(0, 4, 20) for _ in range(30)], "many": [draw.integers(3, 9, 20) for _ in range(30)]}
    labels = NGramLabels(texts, vocab_size=9, order=3)
    unseen = [draw.integers(0, 4, 12), draw.integers(3, 9, 12), draw.integers(0, 4, 5)]
    assert labels(unseen) == ["few", "many", "few"]


def test_what_only_one_label_has_is_told_by_a_single_token():
    labels = NGramLabels({"a": [np.array([0, 1]), np.array([0, 2])], "b": [np.array([0, 1]), np.array([0, 1])]}, 4)
    assert labels([np.array([0, 2]), np.array([0, 1])]) == ["a", "b"]
    assert labels([np.array([], np.int64)]) == ["a"]
