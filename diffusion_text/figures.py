"""What a figure is: its kind, its unit, and the ruler that it was measured with. A metric declares its own.

A ruler is made of facts about a run: `corpus`, `tokenizer`, `text space`, `schedule`, `objective` (prediction, loss and
weighting), `texts` and `samples` (how many), `sampler`, `precision`, `machine`, and the `condition` that it tells.
A figure names those that it depends on besides the model. Where they differ between two runs, their figures are of
different rulers and are not ranked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

KINDS = ("exact", "bound", "estimate")
TEXT = ("corpus", "tokenizer")
LATENTS = (*TEXT, "text space", "texts", "precision", "condition")
UNDER_SCHEDULE = (*LATENTS, "schedule")
SAMPLES = (*TEXT, "sampler", "samples", "precision")


@dataclass(frozen=True)
class Figure:
    """`better`: which of two values is, `higher` or `lower`; None where neither is."""

    kind: str
    unit: str
    ruler: tuple[str, ...] = ()
    better: str | None = None

    def __post_init__(self) -> None:
        assert self.kind in KINDS


def typed(names: list[str], declared: Mapping[str, Figure], facts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Kind, unit, better end and ruler of each figure that is declared, by the name that it is logged under."""
    found = {name: declared[quantity(name)] for name in names if quantity(name) in declared}
    return {
        name: asdict(figure) | {"ruler": {fact: facts[fact] for fact in figure.ruler if fact in facts}}
        for name, figure in found.items()
    }


def quantity(name: str) -> str:
    """What is measured: `noise_cosine` of `val/linear/noise_cosine/3`."""
    return next(part for part in reversed(name.split("/")) if not part.isdigit())
