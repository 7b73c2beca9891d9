"""What a run directory says of its run, read back from its files."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diffusion_text.runs import Run
from diffusion_text.storage import read_csv, read_json, read_json_lines, read_text, read_yaml

UNNAMED = {"model", "overall", "bins"}  # levels of metrics.json that the names of logged metrics leave out


@dataclass(frozen=True)
class Record:
    """A run, finished or not. What it has not written is empty."""

    run: Run

    @property
    def name(self) -> str:
        """The run directory's."""
        return self.run.directory.resolve().name

    @property
    def error(self) -> str | None:
        """Why the run failed, in a line; None if it did not."""
        return read_text(self.run.error).strip() if self.run.error.is_file() else None

    @property
    def status(self) -> str:
        """finished, failed or unfinished."""
        if self.error is not None:
            return "failed"
        return "finished" if self.run.metrics.is_file() else "unfinished"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return read_yaml(self.run.config, {})

    @cached_property
    def overrides(self) -> dict[str, str]:
        """What was set, by a person or by a sweep: values as they were written, `null` for what was deleted."""
        given: list[str] = read_yaml(self.run.overrides, [])
        split = (str(override).partition("=") for override in given)
        return {name.lstrip("+~"): "null" if name.startswith("~") else value for name, _, value in split}

    @cached_property
    def choices(self) -> dict[str, str | None]:
        """The option chosen in each group."""
        kept: dict[str, Any] = read_yaml(self.run.choices, {})
        return kept["hydra"]["runtime"]["choices"] if kept else {}

    @cached_property
    def changes(self) -> dict[str, Any]:
        """What of the configuration differs from the defaults, by dotted name; groups come first."""
        return read_json(self.run.changes, {})

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Which code ran on which machine."""
        return read_json(self.run.environment, {})

    @cached_property
    def preflight(self) -> list[dict[str, str]]:
        """The checks, each with what was measured and its verdict."""
        return read_json(self.run.preflight, [])

    @cached_property
    def alarms(self) -> list[dict[str, Any]]:
        """What the collapse monitor raised."""
        return read_json_lines(self.run.alarms)

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The final figures."""
        return read_json(self.run.metrics, {})

    @cached_property
    def final(self) -> dict[str, float]:
        """The final figures that are numbers, under the names that metrics are logged by: `val/noise_cosine/0`."""
        return dict(flat({name: value for name, value in self.figures.items() if name != "figures"}))

    def figure(self, name: str) -> dict[str, Any]:
        """Kind, unit, better end and ruler of a final figure; empty where they were not kept."""
        return self.figures.get("figures", {}).get(re.sub(r"/\d+$", "", name), {})

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """All that was logged, each row at its `step`."""
        rows = read_csv(self.run.history) if self.run.history.is_file() else []
        return [{name: float(value) for name, value in row.items() if value} for row in rows]

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Step and value of a metric, wherever it was logged and finite."""
        rows = ((int(row["step"]), row[metric]) for row in self.history if metric in row)
        return [(step, value) for step, value in rows if math.isfinite(value)]

    @cached_property
    def texts(self) -> list[dict[str, Any]]:
        """Texts sampled at each validation, with its `step`."""
        return read_json_lines(self.run.texts)

    def newest(self, pattern: str) -> list[dict[str, Any]]:
        """The lines of the newest file of samples that matches."""
        file = self.newest_file(pattern)
        return read_json_lines(file) if file else []

    def newest_json(self, pattern: str) -> dict[str, Any]:
        """The content of the newest file of samples that matches."""
        file = self.newest_file(pattern)
        return read_json(file, {}) if file else {}

    def newest_file(self, pattern: str) -> Path | None:
        """The newest file of samples that matches."""
        return max(self.run.samples.glob(pattern), key=lambda file: file.stat().st_mtime, default=None)


def flat(figures: Any, names: tuple[str, ...] = ()) -> list[tuple[str, float]]:
    """The numbers in nested figures, each with its path."""
    if isinstance(figures, (int, float)):
        return [("/".join(names), float(figures))]
    if isinstance(figures, list):
        figures = dict(enumerate(figures)) if all(isinstance(item, (int, float)) for item in figures) else {}
    if not isinstance(figures, dict):
        return []
    named = (((*names, str(key)) if key not in UNNAMED else names, value) for key, value in figures.items())
    return [pair for path, value in named for pair in flat(value, path)]
