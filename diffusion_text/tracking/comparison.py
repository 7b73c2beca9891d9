"""Runs side by side: what was set differently, and what came of it."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diffusion_text.errors import UserError
from diffusion_text.runs import Run
from diffusion_text.tracking.records import Record

PLACES = {"run_dir", "cache_dir", "resume", "name", "sweep"}  # set, but no settings of a model or its training
DIRECTIONS = ("maximize", "minimize")
OPENING = ("run", "directory", "status", "error")  # of a comparison's CSV


def find_runs(places: Sequence[str | Path]) -> list[Record]:
    """The runs that these directories are, or that lie below them; each once."""
    found: dict[Path, Record] = {}
    for place in map(Path, places):
        records = [Record(Run(place))] if is_run(place) else runs_below(place)
        if not records:
            raise UserError(f"{place} is no run and there is none below it; runs lie in outputs/DATE/TIME-NAME")
        found |= {record.run.directory.resolve(): record for record in records}
    return list(found.values())


def runs_below(directory: Path) -> list[Record]:
    """The runs of a sweep, or of a day, in the order of their names."""
    records = [Record(Run(file.parents[1])) for file in directory.glob("**/.hydra/overrides.yaml")]
    return sorted(records, key=lambda record: in_order(record.name))


def is_run(directory: Path) -> bool:
    """Whether a training started in this directory."""
    run = Run(directory)
    return any(path.exists() for path in (run.overrides, run.config, run.metrics))


def in_order(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2-sqrt before 10-linear."""
    return [(int(part or 0) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


@dataclass
class Comparison:
    """Runs by one of their final figures, the best first; then those without it, unfinished and failed ones.

    Raises UserError where there are final figures, and this one is among none of them.
    """

    records: list[Record]
    metric: str
    direction: str

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise UserError(f"direction={self.direction} is neither maximize nor minimize")
        names = {name for record in self.records for name in record.final}
        if names and self.metric not in names:
            raise UserError(f"no run has a figure {self.metric}; {nearest_figures(self.metric, names)}")
        self.records = sorted(self.records, key=self._place)
        if differing := self.differing(self.metric):
            raise UserError(f"{self.metric} does not rank these runs: {differing}; {self.comparable()}")

    def differing(self, metric: str) -> str:
        """What of a figure's ruler is not the same in all runs that have it; empty where all is."""
        rulers = [r.figure(metric).get("ruler", {}) for r in self.records if metric in r.final]
        facts = dict.fromkeys(fact for ruler in rulers for fact in ruler)
        values = {fact: list(dict.fromkeys(ruler.get(fact, "unknown") for ruler in rulers)) for fact in facts}
        return "; ".join(f"{fact} differs ({', '.join(v)})" for fact, v in values.items() if len(v) > 1)

    @cached_property
    def misleading(self) -> str:
        """One sentence on the figures that would put another run first, and why they do not rank these runs."""
        beside = self.metric.rpartition("/")[0]
        names = [
            name
            for name in self.kept
            if name.rpartition("/")[0] == beside and self.differing(name) and self.best_by(name) is not self.records[0]
        ]
        if not names:
            return ""
        reason = self.differing(names[-1])
        return f"By {' and '.join(names)} another run would be first, but not for what it learned: {reason}."

    @cached_property
    def kept(self) -> dict[str, dict[str, Any]]:
        """The figures with a better end that all finished runs have, as the best run describes them."""
        finished = [record for record in self.records if self.value(record) is not None]
        figures = finished[0].figures.get("figures", {}) if finished else {}
        return {
            name: figure
            for name, figure in figures.items()
            if figure["better"] and all(name in record.final for record in finished)
        }

    def best_by(self, name: str) -> Record:
        """The finished run that has the better end of a figure."""
        end = max if self.kept[name]["better"] == "higher" else min
        finished = [record for record in self.records if self.value(record) is not None]
        return end(finished, key=lambda record: record.final[name])

    def comparable(self) -> str:
        """'compare by …': the first figure with a better end that means the same in all runs, and what it changes."""
        for name, figure in self.kept.items():
            if not self.differing(name):
                best = self.best_by(name)
                first = "the same run is" if best is self.records[0] else f"{best.name} is"
                return f"compare by {name}, where {figure['better']} is better and {first} the best"
        return "no figure of theirs means the same in all"

    def _place(self, record: Record) -> tuple[int, int, float]:
        value = self.value(record)
        status = ("finished", "unfinished", "failed").index(record.status)
        if value is None or not math.isfinite(value):
            return status, 1, 0
        return status, 0, -value if self.direction == "maximize" else value

    def value(self, record: Record) -> float | None:
        """What the runs are compared by; None where this one has come to no such figure."""
        return record.final.get(self.metric) if record.status == "finished" else None

    @cached_property
    def settings(self) -> dict[str, list[str]]:
        """What was set in any of the runs: each one's value, in their order."""
        names = dict.fromkeys(name for record in self.records for name in record.overrides if name not in PLACES)
        return {name: [setting(record, name) for record in self.records] for name in names}

    @property
    def varied(self) -> dict[str, list[str]]:
        """The settings in which the runs differ, long numbers in few digits."""
        return {name: [*map(brief, values)] for name, values in self.settings.items() if len(set(values)) > 1}

    @property
    def shared(self) -> dict[str, str]:
        """The settings that are the same in all."""
        return {name: values[0] for name, values in self.settings.items() if name not in self.varied}

    @property
    def described(self) -> str:
        """One sentence: what kind of figure the runs are compared by, in which unit; empty where that was not kept."""
        figure = next((found for record in self.records if (found := record.figure(self.metric))), None)
        return f"{self.metric}: {figure['kind']}, {figure['unit']}." if figure else ""

    def rulers(self) -> str:
        """A row a figure: its kind, unit, better end, and what it was measured with, wherever that is the same."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["figure", "kind", "unit", "better", "differs", "ruler"])
        names = dict.fromkeys(name for record in self.records for name in record.figures.get("figures", {}))
        for name in names:
            figure = next(found for record in self.records if (found := record.figure(name)))
            differs = self.differing(name)
            ruler = "" if differs else json.dumps(figure["ruler"], ensure_ascii=False)
            writer.writerow([name, figure["kind"], figure["unit"], figure["better"] or "", differs, ruler])
        return text.getvalue()

    def csv(self) -> str:
        """A row a run: its settings and all its final figures."""
        figures = list(dict.fromkeys(name for record in self.records for name in record.final))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*OPENING, *self.settings, *figures])
        for i, record in enumerate(self.records):
            known = [record.name, record.run.directory, record.status, record.error or ""]
            chosen = [values[i] for values in self.settings.values()]
            writer.writerow([*known, *chosen, *(record.final.get(name, "") for name in figures)])
        return text.getvalue()


def setting(record: Record, name: str) -> str:
    """What a run was told, or what it took because it was told nothing; empty where that is not known."""
    if name in record.overrides:
        return record.overrides[name]
    if name in record.choices:
        return str(record.choices[name] or "null")
    value: Any = record.config
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return ""
        value = value[part]
    return "null" if value is None else str(value)


def brief(value: str) -> str:
    """A value that is a number of many digits with four of them; any other as it is."""
    return f"{float(value):.4g}" if len(value) > 8 and number(value) is not None else value


def number(value: str) -> float | None:
    """The number that a value is, if it is one."""
    try:
        return float(value)
    except ValueError:
        return None


def nearest_figures(metric: str, names: set[str]) -> str:
    """'the nearest are …', or some that there are."""
    overall = sorted(name for name in names if not name.rpartition("/")[2].isdigit())
    close = difflib.get_close_matches(metric, overall, n=3, cutoff=0.6)
    return f"the nearest are {', '.join(close)}" if close else f"there are {', '.join(overall)}"
