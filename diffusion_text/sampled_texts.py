"""Texts sampled while training: a file with one validation a line, and the table that a tracker shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusion_text.storage import append_json, read_json_lines, write_json_lines

Lines = list[dict[str, Any]]


def read(file: Path) -> Lines:
    """Each validation's `step` and `texts`, and what these were `told` where they were told anything."""
    return read_json_lines(file)


def append(file: Path, step: int, texts: list[str], told: list[dict[str, str]]) -> None:
    """Add a validation, in the place of any of this step or later ones."""
    keep(file, step - 1)
    append_json(file, {"step": step, "texts": texts} | ({"told": told} if told else {}))


def in_words(asked: Mapping[str, Any]) -> str:
    """What a text was asked to be, or told, in a line."""
    return ", ".join(" ".join(f"{name} {value}".split()) for name, value in asked.items())


def keep(file: Path, step: int) -> None:
    """Drop what a file with a step a line has after `step`: a run that goes on from there writes it again."""
    lines = read_json_lines(file)
    kept = [line for line in lines if line["step"] <= step]
    if kept != lines:
        write_json_lines(file, kept)


def table(lines: Lines) -> tuple[list[str], list[list[Any]]]:
    """Columns and data: a row a validation, a column a text, in whose title stands what it was told."""
    most = max((len(line["texts"]) for line in lines), default=0)
    data = [[line["step"], *line["texts"], *[""] * (most - len(line["texts"]))] for line in lines]
    told = [in_words(asked) for asked in lines[-1].get("told", [])] if lines else []
    told += [""] * (most - len(told))
    return ["step", *(f"text {i}" + (f": {asked}" if asked else "") for i, asked in enumerate(told, 1))], data
