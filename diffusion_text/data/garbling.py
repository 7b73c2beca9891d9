"""Ways to spoil a text."""

from __future__ import annotations

import random
from collections.abc import Sequence
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
        if self.how == "shuffle":
            return TextReader(tokenizer).ids(" ".join(self.shuffle(tokenizer.decode(ids).split(), chance)))
        instead = {
            "drop": lambda token: [],
            "repeat": lambda token: [token, token],
            "replace": lambda token: [chance.choice(pool)],
        }[self.how]
        return [new for token in ids for new in (instead(token) if chance.random() < self.rate else [token])]

    def shuffle(self, words: list[str], chance: random.Random) -> list[str]:
        """A share of the words, each moved back by less than the window."""
        keys = [i + (chance.uniform(0, self.window) if chance.random() < self.rate else 0) for i in range(len(words))]
        return [word for _, word in sorted(zip(keys, words, strict=True), key=lambda pair: pair[0])]


def parted(ids: list[int], special: set[int]) -> tuple[list[int], list[int], list[int]]:
    """What stands before a text, the text, and what stands behind it."""
    places = [place for place, token in enumerate(ids) if token not in special]
    first, last = (places[0], places[-1] + 1) if places else (len(ids), len(ids))
    return ids[:first], ids[first:last], ids[last:]
