"""Ways to spoil a text."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from diffusion_text.data.tokens import TextReader

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WAYS = ("shuffle", "drop", "repeat", "replace")


class Garbling(NamedTuple):
    """Spoils a share `rate` of a text: `how` shuffles words within `window` words, drops or repeats tokens, or replaces
    them by any of a `pool`.
    """

    how: str
    rate: float
    window: int

    def __call__(
        self, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, pool: Sequence[int], chance: random.Random
    ) -> list[int]:
        """Token ids of the text, garbled; none of them is special."""
        return [token for instead in self.each(ids, tokenizer, pool, chance) for token in instead]

    def each(
        self, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, pool: Sequence[int], chance: random.Random
    ) -> list[list[int]]:
        """The tokens that stand in place of each."""
        if self.how == "shuffle":
            words = tokenizer.decode(ids).split()
            order = self.order(len(words), chance)
            return realigned(ids, TextReader(tokenizer).ids(" ".join(words[i] for i in order)), order, tokenizer)
        instead = {
            "drop": lambda token: [],
            "repeat": lambda token: [token, token],
            "replace": lambda token: [chance.choice(pool)],
        }[self.how]
        return [instead(token) if chance.random() < self.rate else [token] for token in ids]

    def order(self, words: int, chance: random.Random) -> list[int]:
        """The words' old places in their new order: a share of them is moved back by less than the window."""
        keys = [i + (chance.uniform(0, self.window) if chance.random() < self.rate else 0) for i in range(words)]
        return sorted(range(words), key=keys.__getitem__)


def realigned(
    ids: Sequence[int], new: Sequence[int], order: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """The new tokens that stand in place of each old one: by their places in the shortest stretches of words that are
    the same ones before and after, so that a line break which is lost puts nothing behind it out of place.
    """
    ends = [int(place == furthest) for place, furthest in enumerate(accumulate(order, max))]
    stretches = [0, *accumulate(ends[:-1])]

    def stretches_of(tokens: Sequence[int]) -> list[int]:
        return [stretches[min(word, len(order) - 1)] for word in words_of(tokens, tokenizer)]

    old, instead, taken = stretches_of(ids), [list[int]() for _ in ids], Counter[int]()
    for token, stretch in zip(new, stretches_of(new), strict=True):
        place = min(bisect_left(old, stretch) + taken[stretch], bisect_right(old, stretch) - 1)
        instead[max(place, 0)].append(token)
        taken[stretch] += 1
    return instead


def words_of(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The number of each token's word; white space is of the word before it, or of the first."""

    def begun(start: int, end: int) -> int:
        return len(tokenizer.decode(ids[start:end]).split())

    numbers, number, start, known = [], -1, 0, 0
    for place in range(len(ids)):
        if (words := begun(start, place + 1)) > known:
            number += words - known
            start, known = place, begun(place, place + 1)
        numbers.append(max(number, 0))
    return numbers


def counted(each: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """Each token that stands in place of some, and for how many: for those behind it, too, where nothing is left of
    them, and for none where one before it already stands for the same.
    """
    tokens: list[int] = []
    counts: list[int] = []
    missing = 0
    for instead in each:
        if not instead and counts:
            counts[-1] += 1
        elif not instead:
            missing += 1
        else:
            tokens += instead
            counts += [1 + missing, *[0] * (len(instead) - 1)]
            missing = 0
    return list(zip(tokens, counts, strict=True))


def parted(ids: list[int], special: set[int]) -> tuple[list[int], list[int], list[int]]:
    """What stands before a text, the text, and what stands behind it."""
    places = [place for place, token in enumerate(ids) if token not in special]
    first, last = (places[0], places[-1] + 1) if places else (len(ids), len(ids))
    return ids[:first], ids[first:last], ids[last:]
