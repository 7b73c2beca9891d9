import numpy as np
import pytest

from diffusion_text.metrics.frontier import TextScores, at_entropy, interpolated


def scores(judge_nll, entropy, texts=4, spread=0.0, seed=0):
    """Texts of ten tokens each, around these figures."""
    noise = spread * np.random.default_rng(seed).standard_normal(texts)
    return TextScores(10 * (judge_nll + noise), np.full(texts, 10), np.full(texts, entropy))


def test_between_two_settings_the_line_between_them_is_read():
    curve = [scores(4.0, 3.0), scores(2.0, 2.0), scores(5.0, 3.5)]
    assert [at_entropy(curve, entropy).value for entropy in (2.5, 3.25, 2.0)] == pytest.approx([3.0, 4.5, 2.0])
    assert interpolated(curve, 2.5, [0.3, 0.1, 0.5]) == pytest.approx(0.2)


@pytest.mark.parametrize("entropy", [1.9, 3.6])
def test_what_is_not_reached_is_not_made_up(entropy):
    assert at_entropy([scores(4.0, 3.0), scores(2.0, 2.0), scores(5.0, 3.5)], entropy) is None


def test_texts_count_by_their_tokens():
    assert TextScores(np.array([10.0, 1.0]), np.array([9, 1]), np.array([1.0, 3.0])).judge_nll == pytest.approx(1.1)


def test_the_standard_error_is_that_of_a_mean_over_texts():
    """Halfway between two settings whose texts are independent: σ/√n · √(1/4 + 1/4)."""
    n, spread = 1000, 0.5
    found = at_entropy([scores(2.0, 2.0, n, spread, 1), scores(4.0, 3.0, n, spread, 2)], 2.5)
    assert found.value == pytest.approx(3.0, abs=0.05)
    assert found.standard_error == pytest.approx(spread / n**0.5 * 0.5**0.5, rel=0.2)


def test_a_text_without_tokens_has_no_entropy():
    empty = TextScores(np.array([20.0, 0.0]), np.array([10, 0]), np.array([2.0, np.nan]))
    assert (empty.judge_nll, empty.entropy) == (2.0, 2.0)


def test_a_setting_without_a_token_is_no_point():
    nothing = TextScores(np.zeros(4), np.zeros(4, dtype=int), np.full(4, np.nan))
    assert np.isnan([nothing.judge_nll, nothing.entropy]).all()
    assert at_entropy([scores(2.0, 2.0), nothing, scores(4.0, 3.0)], 2.5).value == pytest.approx(3.0)
    assert at_entropy([nothing], 2.5) is None
