"""How close one text is to another."""

from __future__ import annotations

from itertools import zip_longest

from sacrebleu import corpus_bleu, corpus_chrf, sentence_bleu
from torchmetrics.text import CHRFScore, WordErrorRate

References = list[list[str]]  # of each text all that it may be


def chrf(predicted: list[str], true: list[str]) -> float:
    """Character n-gram F-score in [0, 1] (Popović 2015), over all texts."""
    return float(CHRFScore(n_word_order=0)(predicted, [[text] for text in true]))


def word_error_rate(predicted: list[str], true: list[str]) -> float:
    """Word edits per word of the true texts."""
    return float(WordErrorRate()(predicted, true))


def exact_match(predicted: list[str], true: list[str]) -> float:
    """Share of the texts that are the same."""
    return sum(p == t for p, t in zip(predicted, true, strict=True)) / len(true)


def bleu(predicted: list[str], references: References) -> float:
    """Corpus BLEU-4 in [0, 1] (Papineni et al. 2002) as sacrebleu has it, of texts with any number of references."""
    return corpus_bleu(predicted, streams(references)).score / 100  # type: ignore[arg-type]  # it takes None


def chrf_of_any(predicted: list[str], references: References) -> float:
    """Corpus chrF in [0, 1] (Popović 2015) as sacrebleu has it, of texts with any number of references."""
    return corpus_chrf(predicted, streams(references)).score / 100  # type: ignore[arg-type]


def streams(references: References) -> list[list[str | None]]:
    """The first reference of each text, the second of each that has one, and so on: sacrebleu's way."""
    return [list(stream) for stream in zip_longest(*references)]


def share_exact(predicted: list[str], references: References) -> float:
    """Share of the texts that are one of their references."""
    return sum(text in them for text, them in zip(predicted, references, strict=True)) / len(predicted)


def most_expected(candidates: list[str]) -> str:
    """The text whose sentence BLEU against the others is highest: least expected risk (Kumar & Byrne 2004, eq. 3)."""
    others = [[other for j, other in enumerate(candidates) if j != i] for i in range(len(candidates))]
    expected = [
        sum(sentence_bleu(text, [other]).score for other in them) for text, them in zip(candidates, others, strict=True)
    ]
    return candidates[max(range(len(candidates)), key=expected.__getitem__)]
