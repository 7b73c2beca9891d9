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
from diffusion_text.metrics.ngrams import per_text
from diffusion_text.models.quality import Judge

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = list[int]
PLACES, TOKENS = 12, 16  # of the least likely places, and of what follows a token most often, that are tried


class Corrector:
    """Undoes what a garbling did, by the n-grams of a judge."""

    def __init__(self, judge: Judge, tokenizer: PreTrainedTokenizerBase):
        self.model, self.reader = judge.reference.judge, TextReader(tokenizer)
        texts, vocab_size = np.concatenate(judge.texts), self.model.ngrams.vocab_size
        counts = np.bincount(texts, minlength=vocab_size) + 0.5
        self.shares = np.log(counts / counts.sum())
        pairs, many = np.unique(texts[:-1] * vocab_size + texts[1:], return_counts=True)
        order = pairs[np.lexsort((-many, pairs // vocab_size))]
        firsts, starts = np.unique(order // vocab_size, return_index=True)
        followers = np.split(order % vocab_size, starts[1:])
        self.following = {int(first): some[:TOKENS].tolist() for first, some in zip(firsts, followers, strict=True)}

    def __call__(self, ids: Sequence[int], garbling: Garbling) -> Ids:
        """The restored text."""
        text, channel = list(ids), 0.0
        so_far = self.likely([text])[0]
        while edits := list(self.edits(text, garbling)):
            totals = self.likely([edited for edited, _ in edits]) + [channel + gain for _, gain in edits]
            best = int(totals.argmax())
            if totals[best] <= so_far:
                break
            text, channel, so_far = edits[best][0], channel + edits[best][1], totals[best]
        return text

    def likely(self, texts: list[Ids]) -> np.ndarray:
        """ln P of each text."""
        arrays = [np.array(text, np.int64) for text in texts]
        return per_text(self.model.log_probabilities(arrays), arrays)

    def edits(self, text: Ids, garbling: Garbling) -> Iterator[tuple[Ids, float]]:
        """Texts that are one edit away, and what the edit adds to ln P(garbled | text)."""
        rate = min(max(garbling.rate, 1e-3), 1 - 1e-3)
        spoilt, kept = math.log(rate), math.log(1 - rate)
        if garbling.how == "shuffle":
            words = self.reader.tokenizer.decode(text).split()
            for i in range(len(words) - 1):
                swapped = [*words[:i], words[i + 1], words[i], *words[i + 2 :]]
                yield self.reader.ids(" ".join(swapped)), spoilt - kept
            return
        each = self.model.log_probabilities([np.array(text, np.int64)])
        for i in map(int, np.argsort(each)[:PLACES]):
            before, after = text[:i], text[i + 1 :]
            if garbling.how == "repeat":
                if before and before[-1] == text[i]:
                    yield [*before, *after], spoilt - 2 * kept
                continue
            for token in self.following.get(before[-1], []) if before else []:
                if garbling.how == "drop":
                    yield [*before, token, text[i], *after], spoilt
                elif token != text[i]:
                    yield [*before, token, *after], spoilt + float(self.shares[text[i]]) - kept
