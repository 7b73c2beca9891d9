"""Texts sampled while training: a file with one validation a line, and the table that a tracker shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Lines = list[dict[str, Any]]


def read(file: Path) -> Lines:
    """Each validation's `step` and `texts`."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [json.loads(line) for line in lines]


def append(file: Path, step: int, texts: list[str]) -> None:
    """Add a validation, in the place of any of this step or later ones."""
    keep(file, step - 1)
    file.parent.mkdir(exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"step": step, "texts": texts}, ensure_ascii=False) + "\n")


def keep(file: Path, step: int) -> None:
    """Drop what was sampled after `step`: a run that goes on from there samples it again."""
    lines = read(file)
    kept = [line for line in lines if line["step"] <= step]
    if kept != lines:
        file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept), encoding="utf-8")


def table(lines: Lines) -> tuple[list[str], list[list[Any]]]:
    """Columns and data: a row a validation, a column a text."""
    most = max((len(line["texts"]) for line in lines), default=0)
    data = [[line["step"], *line["texts"], *[""] * (most - len(line["texts"]))] for line in lines]
    return ["step", *(f"text {i}" for i in range(1, most + 1))], data
