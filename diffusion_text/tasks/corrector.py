"""Restoring by n-grams, without a network: the text that is likeliest to have become the garbled one.

(1) text = argmax ln P(text) + ln P(garbled | text)            the noisy channel, Kernighan, Church & Gale 1990

ln P(text) is an n-gram model's of the training split, ln P(garbled | text) follows from the way and the rate of
garbling, which are told here and to nobody else. The search takes the best single edit while one is better than none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffusion_text.data.garbling import Garbling
from diffusion_text.data.tokens import TextReader
from diffusion_text.models.quality import Judge

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = list[int]
PLACES, TOKENS = 12, 16  # of the least likely places, and of what follows a token most often, that are tried


class Corrector:
    """Undoes what a `garbling` did, by the n-grams of a judge."""

    def __init__(self, judge: Judge, tokenizer: PreTrainedTokenizerBase, garbling: Garbling):
        self.model, self.reader, self.how = judge.reference.judge, TextReader(tokenizer), garbling.how
        rate = min(max(garbling.rate, 1e-3), 1 - 1e-3)
        self.spoilt, self.kept = math.log(rate), math.log(1 - rate)
        texts = np.concatenate(judge.texts)
        counts = np.bincount(texts, minlength=self.model.ngrams.vocab_size)
        self.shares = np.log((counts + 0.5) / (counts + 0.5).sum())
        pairs, many = np.unique(texts[:-1] * len(counts) + texts[1:], return_counts=True)
        order = pairs[np.lexsort((-many, pairs // len(counts)))]
        firsts = order // len(counts)
        self.following = {
            int(first): (order[start : start + TOKENS] % len(counts))[firsts[start : start + TOKENS] == first].tolist()
            for first, start in zip(*np.unique(firsts, return_index=True), strict=True)
        }

    def __call__(self, ids: Sequence[int]) -> Ids:
        """The restored text."""
        text, so_far, channel = list(ids), self.likely([list(ids)])[0], 0.0
        while text:
            edits = list(self.edits(text))
            if not edits:
                break
            totals = self.likely([edited for edited, _ in edits]) + np.array([gain for _, gain in edits]) + channel
            best = int(totals.argmax())
            if totals[best] <= so_far:
                break
            text, so_far, channel = edits[best][0], totals[best], channel + edits[best][1]
        return text

    def likely(self, texts: list[Ids]) -> np.ndarray:
        """ln P of each text."""
        each = self.model.log_probabilities([np.array(text, np.int64) for text in texts])
        ends = np.cumsum([0, *map(len, texts)])
        sums = np.concatenate([[0.0], each.cumsum()])
        return sums[ends[1:]] - sums[ends[:-1]]

    def edits(self, text: Ids) -> Iterator[tuple[Ids, float]]:
        """Texts that are one edit away, and what the edit adds to ln P(garbled | text)."""
        if self.how == "shuffle":
            words = self.reader.tokenizer.decode(text).split()
            for i in range(len(words) - 1):
                swapped = [*words[:i], words[i + 1], words[i], *words[i + 2 :]]
                yield self.reader.ids(" ".join(swapped)), self.spoilt - self.kept
            return
        each = self.model.log_probabilities([np.array(text, np.int64)])
        for i in map(int, np.argsort(each)[:PLACES]):
            if self.how == "repeat":
                if i and text[i] == text[i - 1]:
                    yield [*text[:i], *text[i + 1 :]], self.spoilt - 2 * self.kept
                continue
            for token in self.following.get(text[i - 1] if i else -1, []):
                if self.how == "drop":
                    yield [*text[:i], token, *text[i:]], self.spoilt
                elif token != text[i]:
                    yield [*text[:i], token, *text[i + 1 :]], self.spoilt + float(self.shares[text[i]]) - self.kept
