"""Texts of which something is known."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from typing import NamedTuple

Values = dict[str, list[str]]  # by attribute


class Described(NamedTuple):
    """What is known of a text, by attribute, and the text."""

    known: dict[str, str]
    text: str


def as_setting(attribute: str) -> str:
    """An attribute's name as a setting has it."""
    return re.sub(r"\W+", "_", attribute.strip().lower())


def values_of(texts: Iterable[Described]) -> Values:
    """The values that each attribute has in these texts."""
    found: dict[str, set[str]] = {}
    for known, _ in texts:
        for name, value in known.items():
            found.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in sorted(found.items())}


def numbered(known: dict[str, str], attributes: Values) -> list[int]:
    """The number of each attribute's value, from 1 on; 0 where it is none of these."""
    return [values.index(known[name]) + 1 if known.get(name) in values else 0 for name, values in attributes.items()]


def split_by_description(pairs: Iterable[Described]) -> dict[str, list[Described]]:
    """Nine tenths of the descriptions, and two twentieths, with all their texts."""
    texts: dict[str, list[Described]] = {}
    for pair in pairs:
        texts.setdefault(json.dumps(pair.known, sort_keys=True), []).append(pair)
    order = sorted(texts)
    random.Random(0).shuffle(order)
    first, last = round(0.9 * len(order)), round(0.95 * len(order))
    parts = {"train": order[:first], "validation": order[first:last], "test": order[last:]}
    return {split: [pair for description in part for pair in texts[description]] for split, part in parts.items()}
