"""What the benchmarks share: entry points to call, rows that are kept as they come, Markdown tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]


def call(script: str, *arguments: str) -> None:
    """Run one of the project's entry points; its output goes where ours does."""
    subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=ROOT, check=True)


def newest(directory: Path, pattern: str) -> Path:
    """The file that was written last."""
    return max(directory.glob(pattern), key=lambda file: file.stat().st_mtime)


def read_rows(file: Path) -> dict[str, Row]:
    """What was measured before, by name."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def add_row(file: Path, row: Row) -> None:
    """Keep what was measured."""
    file.parent.mkdir(exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def table(header: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
