"""Runs that differ in the seed alone, taken together: what is smaller than their spread is no difference."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from diffusion_text.tracking.comparison import Comparison

SEEDS = ("seed", "data.seed")


@dataclass(frozen=True)
class Group:
    """A group's settings, and mean, standard deviation and number of its runs' figures.

    It is `level` with the best group where its mean is no further from the best than the larger spread of the two.
    """

    settings: dict[str, str]
    mean: float
    spread: float
    runs: int
    level: bool

    @property
    def figure(self) -> str:
        """Mean ± standard deviation."""
        return f"{self.mean:.4g} ± {self.spread:.2g}" if self.runs > 1 else f"{self.mean:.4g}"


def groups(comparison: Comparison) -> list[Group]:
    """The groups, the best mean first; none where no two runs differ in the seed alone."""
    varied = {name: values for name, values in comparison.varied.items() if name not in SEEDS}
    found: dict[tuple[str, ...], list[float]] = {}
    for i, record in enumerate(comparison.records):
        value = comparison.value(record)
        if value is not None and math.isfinite(value):
            found.setdefault(tuple(values[i] for values in varied.values()), []).append(value)
    if all(len(values) < 2 for values in found.values()):
        return []
    sign = -1 if comparison.direction == "maximize" else 1
    ordered = sorted(found.items(), key=lambda item: sign * statistics.mean(item[1]))
    best, widest = statistics.mean(ordered[0][1]), spread(ordered[0][1])
    return [
        Group(
            dict(zip(varied, chosen, strict=True)),
            statistics.mean(values),
            spread(values),
            len(values),
            abs(statistics.mean(values) - best) <= max(spread(values), widest),
        )
        for chosen, values in ordered
    ]


def spread(values: list[float]) -> float:
    """Standard deviation; 0 of a single run, which tells nothing of it."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
