"""Text quality: each quantity on texts small enough to do by hand."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from diffusion_text.metrics.ngrams import KneserNey
from diffusion_text.metrics.text_quality import QualityReference, TextQuality, is_punctuation, self_bleu

WRITTEN = ["", "the", " cat", " sat", " on", " mat", ".", ", "]
TRAINING = [[1, 2, 3, 4, 1, 5, 6, 1, 2], [1, 5, 3, 7, 2, 3]]


@pytest.fixture(scope="module")
def reference():
    return QualityReference([np.array(text) for text in TRAINING], WRITTEN)


def batch(texts, padding=0):
    """Texts as `update` takes them, padded at the end."""
    tokens = torch.full((len(texts), max(map(len, texts))), padding)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = True
    return tokens, mask


def filled(reference, *batches):
    metric = TextQuality(reference)
    for texts in batches:
        metric.update(*batch(texts))
    return metric


def measured(reference, *batches):
    return {name: value.item() for name, value in filled(reference, *batches).compute().items()}


def test_judge_nll_is_a_mean_over_tokens(reference):
    texts = [[1, 2, 3], [6]]
    judge = KneserNey([np.array(text) for text in TRAINING], len(WRITTEN), 5)
    log_probabilities = np.concatenate([judge.log_probabilities([np.array(text)]) for text in texts])
    assert len(log_probabilities) == 4
    assert measured(reference, texts)["judge_nll"] == pytest.approx(-log_probabilities.mean(), rel=1e-6)


def test_the_judges_order_is_the_references():
    """Trained on 0 0 1 as unigrams: n_1 = n_2 = 1, D = 1/3, P(0) = (2 − 1/3)/3 + (1/3·2/3)·1/2 = 2/3."""
    reference = QualityReference([np.array([0, 0, 1])], ["a", "b"], order=1)
    assert measured(reference, [[0, 0]])["judge_nll"] == pytest.approx(math.log(3 / 2))


def test_entropy_by_hand(reference):
    assert measured(reference, [list(range(8))])["entropy"] == pytest.approx(math.log(8))
    assert measured(reference, [[1, 1], [1, 2]])["entropy"] == pytest.approx(
        0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    )
    assert measured(reference, [[1, 1, 1]])["entropy"] == 0


def test_entropy_and_distinct_ngrams_of_each_text_are_means_over_texts(reference):
    """Of 1 2 1 2 and 3 3 3: ln 2 and 0; tokens 2/4 and 1/3, bigrams 2/3 and 1/2, trigrams 2/2 and 1/1."""
    values = measured(reference, [[1, 2, 1, 2], [3, 3, 3]])
    assert values["text_entropy"] == pytest.approx(math.log(2) / 2)
    found = [values[f"text_distinct_{n}"] for n in (1, 2, 3)]
    assert found == pytest.approx([(2 / 4 + 1 / 3) / 2, (2 / 3 + 1 / 2) / 2, 1])


def test_the_same_text_over_and_over_is_not_unique(reference):
    assert measured(reference, [[1, 2, 3]] * 64)["unique_texts"] == pytest.approx(1 / 64)
    assert measured(reference, [[1, 2, 3], [1, 2], [1, 2, 3], [4]])["unique_texts"] == pytest.approx(3 / 4)


def test_unigram_kl_by_hand():
    """0 0 1 of two tokens: q = 3/5, 2/5. Against p = 1/2, 1/2 that is 1/2·ln(5/6) + 1/2·ln(5/4)."""
    reference = QualityReference([np.array([0, 0, 1])], ["a", "b"])
    expected = 0.5 * math.log(5 / 6) + 0.5 * math.log(5 / 4)
    assert measured(reference, [[0, 1]])["unigram_kl"] == pytest.approx(expected, rel=1e-5)
    assert measured(reference, [[1, 1]])["unigram_kl"] == pytest.approx(math.log(5 / 2))


def test_unigram_kl_of_the_training_texts_is_nearly_0():
    texts = [np.repeat([0, 1, 2], [500, 300, 200])]
    assert abs(measured(QualityReference(texts, ["a", "b", "c"]), texts)["unigram_kl"]) < 1e-5


def test_distinct_ngrams_by_hand(reference):
    """Of 1 2 1 2 and 2 1: tokens {1, 2} of 6, bigrams {12, 21} of 3 + 1, trigrams {121, 212} of 2."""
    values = measured(reference, [[1, 2, 1, 2], [2, 1]])
    assert [values[f"distinct_{n}"] for n in (1, 2, 3)] == pytest.approx([2 / 6, 2 / 4, 2 / 2])


def test_self_bleu_of_the_same_text_is_1(reference):
    assert measured(reference, [TRAINING[0]] * 3)["self_bleu"] == pytest.approx(1)


def test_self_bleu_of_texts_without_a_common_word_is_nearly_0(reference):
    assert measured(reference, [[1, 2, 2, 2, 2], [3, 4, 4, 4, 4]])["self_bleu"] < 0.1


def test_self_bleu_by_hand():
    """Precisions of a b c d e against a b c d f: 4/5, 3/4, 2/3, 1/2, product 1/5; lengths are equal."""
    assert self_bleu(["a b c d e", "a b c d f"]) == pytest.approx((1 / 5) ** (1 / 4))


def test_self_bleu_reads_the_written_tokens():
    """As above, letter by letter; the special token does not show."""
    reference = QualityReference([np.arange(8)], ["", " ", *"abcdef"])
    text = [0, 2, 1, 3, 1, 4, 1, 5, 1]
    assert measured(reference, [[*text, 6], [*text, 7]])["self_bleu"] == pytest.approx((1 / 5) ** (1 / 4))


def test_self_bleu_takes_64_texts(reference):
    """After 64 of the same, others do not count."""
    assert measured(reference, [[1, 2, 3, 4, 1]] * 64, [[6, 5, 5, 2, 6]])["self_bleu"] == pytest.approx(1)


def test_self_bleu_of_one_text_is_nan(reference):
    assert math.isnan(measured(reference, [[1, 2]])["self_bleu"])


def test_top_share_and_most_frequent(reference):
    metric = filled(reference, [[7, 7, 7], [1, 7]], [[2, 3, 7]])
    assert metric.compute()["top_share"].item() == pytest.approx(5 / 8)
    assert metric.most_frequent() == ", "


def test_punctuation_share(reference):
    assert measured(reference, [[1, 2, 6, 0], [7]])["punctuation_share"] == pytest.approx(2 / 5)


@pytest.mark.parametrize("written", [".", " ,", "...\n", "“", "—", "。", "?!"])
def test_is_punctuation(written):
    assert is_punctuation(written)


@pytest.mark.parametrize("written", ["", " ", "\n", "a", "1", "it's", "$", "+", ".a"])
def test_is_not_punctuation(written):
    assert not is_punctuation(written)


def test_training_texts_are_memorised_and_foreign_ones_are_not(reference):
    assert measured(reference, TRAINING)["memorised"] == 1
    assert measured(reference, [list(range(8)), [2] * 20])["memorised"] == 0


def test_memorised_by_hand(reference):
    """Of 10 tokens, 9 of them copied: 2 of 3 8-grams."""
    assert measured(reference, [[*TRAINING[0], 7], [1, 2, 3]])["memorised"] == pytest.approx(2 / 3)


def test_texts_too_short_for_ngrams_give_nan(reference):
    values = measured(reference, [[1, 2], [3, 4]])
    assert {name for name, value in values.items() if math.isnan(value)} == {
        "distinct_3", "text_distinct_3", "memorised",
    }  # fmt: skip


def test_padding_is_left_out(reference):
    metric = TextQuality(reference)
    metric.update(*batch(TRAINING, padding=7))
    assert_close(metric.compute(), filled(reference, *([text] for text in TRAINING)).compute())


def test_texts_without_tokens_give_nan(reference):
    tokens, mask = batch(TRAINING)
    metric = TextQuality(reference)
    metric.update(tokens, torch.zeros_like(mask))
    values = metric.compute()
    assert values.pop("self_bleu") == values.pop("unique_texts") == 0
    assert all(value.isnan() for value in values.values())


def test_batches_add_up(reference):
    whole = measured(reference, TRAINING * 2)
    assert measured(reference, TRAINING, TRAINING) == pytest.approx(whole)


def test_metrics_merge(reference):
    """As those of two processes do."""
    first, second = filled(reference, TRAINING), filled(reference, [[1, 6, 6]], [[2, 3]])
    first.merge_state(second)
    assert_close(first.compute(), filled(reference, TRAINING, [[1, 6, 6]], [[2, 3]]).compute())


def test_reset_forgets(reference):
    metric = filled(reference, TRAINING)
    metric.reset()
    metric.update(*batch([[1, 6, 6], [2, 3]]))
    assert_close(metric.compute(), filled(reference, [[1, 6, 6], [2, 3]]).compute(), equal_nan=True)


def test_a_token_outside_the_vocabulary_is_refused(reference):
    with pytest.raises(ValueError, match="from 0 to 7"):
        QualityReference([np.array([8])], WRITTEN)
    with pytest.raises(ValueError, match="from 0 to 7"):
        measured(reference, [[8]])
