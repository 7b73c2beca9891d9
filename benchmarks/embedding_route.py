"""The embedding route's table: the original's collapse, and the recommended recipe over three seeds.

    python -m benchmarks.embedding_route data.dir=PATH [OVERRIDE ...]

Runs what docs/embedding_route.jsonl has no row for, then writes docs/pages/embedding_route.md. It can be stopped and
started again at any time.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.rows import ROOT, Row, add_row, call, newest, read_rows, table
from diffusion_text.tracking.titles import QUALITY as TITLES

RUNS = ROOT / "outputs" / "embedding_route"
ROWS, PAGE = ROOT / "docs" / "embedding_route.jsonl", ROOT / "docs" / "pages" / "embedding_route.md"

RECIPES = {  # name: overrides
    "original": ["experiment=diffusion_lm_original_small"],
    "recommended": ["experiment=diffusion_lm_small"],
    "recommended, seed 1": ["experiment=diffusion_lm_small", "seed=1"],
    "recommended, seed 2": ["experiment=diffusion_lm_small", "seed=2"],
}
TEXTS = 128  # of 64 characters each, of samples and of real text


def main(overrides: list[str]) -> None:
    for name, recipe in RECIPES.items():
        if name not in read_rows(ROWS):
            measure(name, recipe, overrides)
    PAGE.write_text(render(list(read_rows(ROWS).values())), encoding="utf-8")
    print(PAGE)


def measure(name: str, recipe: list[str], overrides: list[str]) -> None:
    """Train, sample, bound the likelihood; keep the figures."""
    directory = RUNS / name.replace(", ", "-").replace(" ", "-")
    call("train.py", f"hydra.run.dir={directory}", *recipe, *overrides)
    call("sample.py", f"run={directory}", "task=quality", f"num_samples={TEXTS}", f"batch_size={TEXTS}")
    call("sample.py", f"run={directory}", "task=nll", "num_samples=800")
    figures = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    quality, nll = (
        json.loads(newest(directory / "samples", f"{task}*.json").read_text(encoding="utf-8"))
        for task in ("quality", "nll")
    )
    alarms = directory / "alarms.jsonl"
    texts = newest(directory / "samples", "*-seed-*.jsonl").read_text(encoding="utf-8").splitlines()
    row = {
        "name": name,
        "overrides": [*recipe, *(override for override in overrides if not override.startswith("data.dir="))],
        "parameters": figures["parameters"],
        "steps": figures["step"],
        "minutes": round(figures["seconds"] / 60, 1),
        "loss_verdict": figures["loss_verdict"],
        "alarms": [json.loads(line) for line in alarms.read_text().splitlines()] if alarms.exists() else [],
        "quality": quality,
        "nll": nll,
        "samples": [json.loads(line)["text"] for line in texts],
    }
    add_row(ROWS, row)


# ---- the page


def render(rows: list[Row]) -> str:
    """Text quality beside real text, alarms, bounds and samples, as Markdown."""
    return (
        "\n\n".join(
            [
                "# The embedding route, measured",
                "Made by `python -m benchmarks.embedding_route` on tiny_shakespeare, characters, 64 to a text: "
                f"{TEXTS} samples beside as many texts of the test split and as many tokens drawn one by one. "
                "Minutes are of a machine that did other work as well.",
                quality_table(rows),
                "## Training",
                table(
                    [
                        "run",
                        "python train.py",
                        "parameters",
                        "steps",
                        "minutes",
                        "bound, nats a character",
                        "first alarms",
                    ],
                    [training_cells(row) for row in rows],
                ),
                *map(samples, rows),
            ]
        )
        + "\n"
    )


def samples(row: Row) -> str:
    """A run's texts, as they are."""
    return "\n".join([f"## Samples: {row['name']}", "", "```", "\n---\n".join(row["samples"]), "```"])


def quality_table(rows: list[Row]) -> str:
    """A line for each figure, a column for each run, and one each for real text and unigrams."""
    columns: dict[str, dict[str, Any]] = {row["name"]: row["quality"]["samples"] for row in rows}
    columns |= {name: rows[-1]["quality"][name] for name in ("real text", "unigrams")}
    names = [name for name in TITLES if name in columns["real text"]]
    return table(
        ["figure", *columns], [[TITLES[n], *(f"{column[n]:.3f}" for column in columns.values())] for n in names]
    )


def training_cells(row: Row) -> list[str]:
    """One row of the second table."""
    bound = row["nll"]["nats_per_token"]["total"]
    alarms = "; ".join(f"step {alarm['step']}: {alarm['name']}, {alarm['measured']}" for alarm in row["alarms"])
    bounded = f"{bound['value']:.3f} ± {bound['standard_error']:.3f}"
    command, parameters = f"`{' '.join(row['overrides'])}`", f"{row['parameters']:,}"
    return [row["name"], command, parameters, str(row["steps"]), str(row["minutes"]), bounded, alarms or "none"]


if __name__ == "__main__":
    main(sys.argv[1:])
