"""Which label a text has, by n-grams: a classifier that no sampler is steered by.

(1) argmax_v Σ_w ln(½·P_v(w | h) + ½·P(w | h))                          after Peng & Schuurmans 2003

P_v is of the texts of label v, P of all texts: of most labels there are few.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from diffusion_text.metrics.ngrams import KneserNey, Text, per_text


class NGramLabels:
    """Learned from training texts by label, each tokens of `vocab_size`."""

    def __init__(self, texts: Mapping[str, Sequence[Text]], vocab_size: int, order: int = 5):
        self.of_all = KneserNey([text for some in texts.values() for text in some], vocab_size, order)
        self.of_each = {label: KneserNey(some, vocab_size, order) for label, some in texts.items()}

    def __call__(self, texts: Sequence[Text]) -> list[str]:
        """The label of each text."""
        common = np.exp(self.of_all.log_probabilities(texts))
        scores = []
        for model in self.of_each.values():
            each = np.log((np.exp(model.log_probabilities(texts)) + common) / 2)
            scores.append(per_text(each, texts))
        labels = list(self.of_each)
        return [labels[best] for best in np.argmax(scores, axis=0)]
