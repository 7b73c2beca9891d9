"""What the benchmarks share: entry points to call, configurations, rows that are kept as they come, Markdown tables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]
Figure = tuple[str, str, str]  # of what, how much, and beside it


def call(script: str, *arguments: str) -> None:
    """Run one of the project's entry points; its output goes where ours does."""
    subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=ROOT, check=True)


def trained(run: Path, *recipe: str) -> Path:
    """A finished run of this recipe: that of last time, if there is one."""
    if not (run / "metrics.json").is_file():
        call("train.py", f"hydra.run.dir={run}", *recipe)
    return run


def looked_at(run: Path, name: str, pattern: str, *settings: str) -> str:
    """What sample.py writes of a run with these settings, into a folder of this name: that of last time, if any."""
    if not any((out := run / name).glob(pattern)):
        call("sample.py", f"run={run}", f"out={out}", *settings)
    return newest(out, pattern).read_text(encoding="utf-8")


def configured(*overrides: str, config: str = "train") -> DictConfig:
    """The configuration that a job of train.py with these overrides would get, or of sample.py."""
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = hydra.compose(config, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg.copy())
    with read_write(cfg), open_dict(cfg):
        del cfg["hydra"]
    return cfg


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


def show(figures: Iterable[Figure]) -> None:
    """Print each as it comes, and a table in the end."""
    rows = []
    for figure in figures:
        rows.append(list(figure))
        print(*figure, flush=True)
    print(table(["", "measured", "beside"], rows))
