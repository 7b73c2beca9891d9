"""How close one text is to another."""

from __future__ import annotations

from torchmetrics.text import CHRFScore, WordErrorRate


def chrf(predicted: list[str], true: list[str]) -> float:
    """Character n-gram F-score in [0, 1] (Popović 2015), over all texts."""
    return float(CHRFScore(n_word_order=0)(predicted, [[text] for text in true]))


def word_error_rate(predicted: list[str], true: list[str]) -> float:
    """Word edits per word of the true texts."""
    return float(WordErrorRate()(predicted, true))


def exact_match(predicted: list[str], true: list[str]) -> float:
    """Share of the texts that are the same."""
    return sum(p == t for p, t in zip(predicted, true, strict=True)) / len(true)
