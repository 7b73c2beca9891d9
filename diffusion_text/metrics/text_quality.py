"""How generated texts compare with the training texts and with each other, as token ids.

p(w) is the share of the tokens that are w; q(w) = (c(w) + 1) / (C + V), where the training texts have C tokens of a
vocabulary of V, c(w) of them w.

(1) judge_nll           mean of −ln P(token | those before it) in nats; P is Kneser–Ney's of the training texts
(2) unigram_kl          Σ_w p(w)·ln(p(w) / q(w)) in nats
(3) entropy             −Σ_w p(w)·ln p(w) in nats; text_entropy: the mean of each text's own
(4) distinct_n          distinct n-grams / n-grams of all texts together, n = 1, 2, 3           Li et al. 2016
                        text_distinct_n: the mean of each text's own
(5) self_bleu           mean BLEU-4 (sacrebleu) of the first 64 texts, each against the others      Zhu et al. 2018
(6) top_share           max_w p(w)
(7) punctuation_share   Σ p(w) over the tokens that read as punctuation, with or without white space
(8) memorised           share of the 8-grams that occur in the training texts
(9) unique_texts        distinct texts / texts

(2) to (5) and (9) depend on the amount of text: compare equal amounts. None alone tells text from nonsense: one text
over and over has its judge and its text_entropy, tokens drawn one by one have the corpus's entropy.
"""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from sacrebleu import sentence_bleu
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from diffusion_text.figures import SAMPLES, Figure
from diffusion_text.metrics.ngrams import KneserNey, NGrams, Text
from diffusion_text.shapes import Mask, Tokens


class QualityReference:
    """The training texts, counted once for any number of metrics.

    `written` is each token as it reads in a text, '' where it is special; `order` is the judge's. A token outside
    `written` raises `ValueError`.
    """

    def __init__(self, texts: Iterable[Text], written: Sequence[str], order: int = 5):
        texts = list(texts)
        self.written = written
        self.judge = KneserNey(texts, len(written), order)
        self.eightgrams = NGrams(texts, len(written), 8)
        counts = np.bincount(np.concatenate(texts), minlength=len(written)) + 1
        self.log_unigram = torch.from_numpy(np.log(counts / counts.sum()))
        self.punctuation = torch.tensor([is_punctuation(token) for token in written])


class TextQuality(Metric):
    """Equations (1) to (9), of the real tokens of texts."""

    FIGURES: ClassVar = {
        "judge_nll": Figure("estimate", "nats a token", SAMPLES, "lower"),
        "unigram_kl": Figure("estimate", "nats", SAMPLES, "lower"),
        **{name: Figure("estimate", "nats", SAMPLES) for name in ("entropy", "text_entropy")},
        **{f"{of}distinct_{n}": Figure("exact", "share", SAMPLES) for of in ("", "text_") for n in (1, 2, 3)},
        "unique_texts": Figure("exact", "share", SAMPLES, "higher"),
        "self_bleu": Figure("exact", "BLEU, 0 to 1", SAMPLES),
        **{name: Figure("exact", "share", SAMPLES) for name in ("top_share", "punctuation_share", "memorised")},
    }
    full_state_update = False
    tokens: list[Tensor]
    lengths: list[Tensor]

    def __init__(self, reference: QualityReference, **settings: Any) -> None:
        super().__init__(**settings)
        self.reference = reference
        self.add_state("tokens", [], dist_reduce_fx="cat")
        self.add_state("lengths", [], dist_reduce_fx="cat")

    def update(self, tokens: Tokens, mask: Mask) -> None:
        """Add texts."""
        self.tokens.append(tokens[mask])
        self.lengths.append(mask.sum(1))

    def compute(self) -> dict[str, Tensor]:
        """Each quantity by its name; NaN where the texts are too few or too short for it."""
        tokens = dim_zero_cat(self.tokens).cpu()
        texts = [text.numpy() for text in tokens.split(dim_zero_cat(self.lengths).tolist())]
        reference, shares = self.reference, self._shares()
        judged = torch.from_numpy(reference.judge.log_probabilities(texts))
        values = {
            "judge_nll": -judged.mean(),
            "unigram_kl": F.kl_div(reference.log_unigram, shares, reduction="sum"),
            "entropy": torch.special.entr(shares).sum(),
            "text_entropy": mean([entropy(text) for text in texts if len(text)]),
            **{f"distinct_{n}": share for n, share in enumerate(self._distinct(texts), 1)},
            **{
                f"text_distinct_{n}": mean([share for share in shares if not math.isnan(share)])
                for n, shares in enumerate(zip(*(self._distinct([text]) for text in texts), strict=True), 1)
            },
            "self_bleu": self_bleu(["".join(reference.written[token] for token in text) for text in texts[:64]]),
            "top_share": shares.max(),
            "punctuation_share": shares[reference.punctuation].sum(),
            "memorised": ngram_share(reference.eightgrams.num_known(texts), texts, 8),
            "unique_texts": len({text.tobytes() for text in texts if len(text)}) / max(len(texts), 1),
        }
        return {name: torch.as_tensor(value, dtype=torch.float32, device=self.device) for name, value in values.items()}

    def most_frequent(self) -> str:
        """The most frequent token as it reads in a text."""
        return self.reference.written[int(self._shares().argmax())]

    def _distinct(self, texts: Sequence[Text]) -> list[float]:
        """Distinct n-grams of these texts as a share of them, n = 1, 2, 3."""
        keys = NGrams(texts, len(self.reference.written), 3).keys
        return [ngram_share(len(found), texts, n) for n, found in enumerate(keys, 1)]

    def _shares(self) -> Float[Tensor, "vocabulary"]:
        """p(w) of each token."""
        counts = dim_zero_cat(self.tokens).cpu().bincount(minlength=len(self.reference.written))
        return counts.double() / counts.sum()


def ngram_share(count: int, texts: Sequence[Text], n: int) -> float:
    """A count as a share of the texts' n-grams; NaN where they have none."""
    total = sum(max(len(text) - n + 1, 0) for text in texts)
    return count / total if total else math.nan


def entropy(text: Text) -> float:
    """Equation (3) of one text."""
    counts = np.bincount(text)
    shares = counts[counts > 0] / len(text)
    return float(-(shares * np.log(shares)).sum())


def mean(values: Sequence[float]) -> float:
    """NaN where there are none."""
    return sum(values) / len(values) if values else math.nan


def self_bleu(texts: list[str]) -> float:
    """Equation (5) of all these texts; NaN where there are fewer than two."""
    if len(texts) < 2:
        return math.nan
    scores = [sentence_bleu(text, texts[:i] + texts[i + 1 :]).score for i, text in enumerate(texts)]
    return sum(scores) / len(scores) / 100


def is_punctuation(written: str) -> bool:
    """Whether it is punctuation, Unicode's categories P, but for white space around it."""
    stripped = written.strip()
    return bool(stripped) and all(unicodedata.category(character).startswith("P") for character in stripped)
