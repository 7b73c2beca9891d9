"""What several corrections of a text change alike: a majority vote over single edits (Tarnavskyi et al. 2022)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple


class Edit(NamedTuple):
    """Tokens from `start` up to `end` give way to others."""

    start: int
    end: int
    instead: tuple[int, ...]


def edits(text: Sequence[int], corrected: Sequence[int]) -> set[Edit]:
    """What makes one text the other; where as many tokens stand in place of several, each is an edit of its own."""
    found = set()
    for kind, start, end, first, last in SequenceMatcher(None, text, corrected, autojunk=False).get_opcodes():
        instead = tuple(corrected[first:last])
        if kind == "replace" and end - start == len(instead):
            found |= {Edit(place, place + 1, (token,)) for place, token in enumerate(instead, start)}
        elif kind != "equal":
            found.add(Edit(start, end, instead))
    return found


def agreed(text: Sequence[int], corrections: Sequence[Sequence[int]], reread: Sequence[int]) -> list[int]:
    """The text with those edits that more than half of its corrections have, and that the text `reread`, which nobody
    corrected, has not: no two of them can be at one place.
    """
    made = Counter(edit for corrected in corrections for edit in edits(text, corrected))
    unasked, restored = edits(text, reread), list(text)
    for edit in sorted(made, reverse=True):
        if 2 * made[edit] > len(corrections) and edit not in unasked:
            restored[edit.start : edit.end] = edit.instead
    return restored
