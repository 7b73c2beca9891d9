"""How close one text is to another."""

from __future__ import annotations

from itertools import zip_longest

from sacrebleu import corpus_bleu, corpus_chrf, sentence_bleu
from torchmetrics.text import WordErrorRate

References = list[list[str]]  # of each text all that it may be


def alone(texts: list[str]) -> References:
    """Each text as the one reference that there is."""
    return [[text] for text in texts]


def streams(references: References) -> list[list[str | None]]:
    """The first reference of each text, the second of each that has one, and so on: sacrebleu's way."""
    return [list(stream) for stream in zip_longest(*references)]


def chrf(predicted: list[str], references: References) -> float:
    """Character n-gram F-score in [0, 1] (Popović 2015) as sacrebleu has it, over all texts."""
    return corpus_chrf(predicted, streams(references)).score / 100  # type: ignore[arg-type]  # it takes None


def bleu(predicted: list[str], references: References) -> float:
    """Corpus BLEU-4 in [0, 1] (Papineni et al. 2002) as sacrebleu has it."""
    return corpus_bleu(predicted, streams(references)).score / 100  # type: ignore[arg-type]


def exact_match(predicted: list[str], references: References) -> float:
    """Share of the texts that are one of their references."""
    return sum(text in them for text, them in zip(predicted, references, strict=True)) / len(predicted)


def word_error_rate(predicted: list[str], true: list[str]) -> float:
    """Word edits per word of the true texts."""
    return float(WordErrorRate()(predicted, true))


def most_expected(drawn: list[str]) -> str:
    """Of texts that were drawn, the one that is most like the others, by BLEU of the sentence: least expected risk
    (Kumar & Byrne 2004, eq. 3).
    """

    def expected(place: int) -> float:
        others = drawn[:place] + drawn[place + 1 :]
        return sum(sentence_bleu(drawn[place], [other]).score for other in others)

    return drawn[max(range(len(drawn)), key=expected)]
