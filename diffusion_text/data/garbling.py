"""Ways to spoil a text."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
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
            new = TextReader(tokenizer).ids(" ".join(self.shuffle(tokenizer.decode(ids).split(), chance)))
            last = len(ids) - 1
            return [new[place : None if place == last else place + 1] for place in range(len(ids))]
        instead = {
            "drop": lambda token: [],
            "repeat": lambda token: [token, token],
            "replace": lambda token: [chance.choice(pool)],
        }[self.how]
        return [instead(token) if chance.random() < self.rate else [token] for token in ids]

    def shuffle(self, words: list[str], chance: random.Random) -> list[str]:
        """A share of the words, each moved back by less than the window."""
        keys = [i + (chance.uniform(0, self.window) if chance.random() < self.rate else 0) for i in range(len(words))]
        return [word for _, word in sorted(zip(keys, words, strict=True), key=lambda pair: pair[0])]


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
