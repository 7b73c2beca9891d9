"""Some of what is too much to be taken whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from datasets import Dataset

EXCERPT, EXCERPTS = 64_000_000, 16  # characters that a tokenizer is learned from, and stretches that they come from
Item = TypeVar("Item")


def from_all_over(texts: Dataset, many: int) -> Dataset:
    """So many texts from all over a split, or all where there are no more."""
    return texts if len(texts) <= many else texts.select(spread(range(len(texts)), many))


def spread(items: Sequence[Item], many: int) -> list[Item]:
    """So many items from all over a sequence, or all where there are no more."""
    if len(items) <= many:
        return [*items]
    last = len(items) - 1  # which float32 has exactly up to 2²⁴, and then perhaps a little more
    return [items[place] for place in torch.linspace(0, last, many).long().clamp(max=last).tolist()]


def as_many(paragraphs: Iterable[str], characters: int) -> Iterator[str]:
    """The first paragraphs, until there are so many characters."""
    for paragraph in paragraphs:
        yield paragraph
        characters -= len(paragraph)
        if characters <= 0:
            return
