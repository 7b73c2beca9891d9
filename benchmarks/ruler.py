"""Does information foretell how good samples are, and does noise cosine? Twelve runs of each route.

    python benchmarks/ruler.py [route=latent|embedding] [OVERRIDE ...]

Trains what docs/ruler.jsonl has no row of, draws each run's frontier, then writes docs/pages/ruler.md: Spearman's rank
correlation of either figure with judge NLL at real text's entropy. It can be stopped and started again at any time.
"""

from __future__ import annotations

import json
import sys
from itertools import product

import torch
from rows import ROOT, Row, add_row, call, newest, read_rows, table
from torchmetrics.functional import spearman_corrcoef

RUNS = ROOT / "outputs" / "ruler"
ROWS, PAGE = ROOT / "docs" / "ruler.jsonl", ROOT / "docs" / "pages" / "ruler.md"
TEXTS, NFE = 64, 50
BRIEF = [
    "preflight=warn", "num_samples=0", "report.quality=0", "report.frontier=0", "report.garbled=0",
    "report.trace_steps=0",
]  # fmt: skip
SMALL_LM = [
    "experiment=diffusion_lm_small", "data=python_docs", "model.width=64", "model.depth=2", "data.length=32",
    "callbacks.collapse=null", "trainer.max_steps=1500", "trainer.val_check_interval=1500",
]  # fmt: skip
RECIPES = {
    "latent": {
        f"{schedule}, {prediction}": ["model=textunet", f"schedule={schedule}", f"prediction={prediction}"]
        for schedule, prediction in product(("sqrt", "cosine", "linear", "log_snr_linear"), ("v", "x0", "epsilon"))
    },
    "embedding": {
        f"{schedule}, {sampling}, rate {rate}": [
            *SMALL_LM, f"schedule={schedule}", f"time_sampling={sampling}", f"optimizer.lr={rate}",
        ]
        for schedule, sampling, rate in product(
            ("sqrt", "cosine", "log_snr_linear"), ("adaptive", "stratified"), ("1e-3", "4e-3")
        )
    },
}  # fmt: skip


def main(arguments: list[str]) -> None:
    routes = [argument.partition("=")[2] for argument in arguments if argument.startswith("route=")] or list(RECIPES)
    overrides = [argument for argument in arguments if not argument.startswith("route=")]
    for route in routes:
        for name, recipe in RECIPES[route].items():
            if f"{route}: {name}" not in read_rows(ROWS):
                measure(route, name, [*recipe, *overrides])
    PAGE.write_text(render(list(read_rows(ROWS).values())), encoding="utf-8")
    print(PAGE)


def measure(route: str, name: str, recipe: list[str]) -> None:
    """Train, draw the frontier, and keep the figures."""
    directory = RUNS / route / name.replace(", ", "-").replace(" ", "-")
    call("train.py", f"hydra.run.dir={directory}", *recipe, *BRIEF)
    sampling = [f"num_samples={TEXTS}", f"batch_size={TEXTS}", f"task.nfe=[{NFE}]"]
    call("sample.py", f"run={directory}", "task=frontier", *sampling)
    val = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))["val"]
    frontier = json.loads(newest(directory / "samples", "frontier*.json").read_text(encoding="utf-8"))
    row = {
        "name": f"{route}: {name}",
        "route": route,
        "information": val["information"]["overall"],
        "found": val["information_found"],
        "noise_cosine": val["model"]["noise_cosine"]["overall"],
        "frontier": frontier,
    }
    add_row(ROWS, row)


# ---- the page


def quality(row: Row) -> float | None:
    """Judge NLL at real text's entropy; None where the run does not reach it."""
    [*reached] = row["frontier"]["at_real_entropy"]
    return reached[0]["judge_nll"] if reached else None


def render(rows: list[Row]) -> str:
    """A table a route, and what either figure is worth."""
    parts = [
        "# What foretells good samples",
        f"Made by `python benchmarks/ruler.py`: {TEXTS} texts a setting, {NFE} evaluations. Sample quality is judge "
        "NLL at real text's entropy, lower is better. A run that does not reach it counts by the setting that "
        "comes closest to it, and is marked.",
    ]
    for route in RECIPES:
        of_route = [row for row in rows if row["route"] == route]
        if of_route:
            parts += [f"## {route}", correlations(of_route), listing(of_route)]
    return "\n\n".join(parts) + "\n"


def nearest(row: Row) -> float:
    """Sample quality, or judge NLL at the setting whose entropy is closest to real text's."""
    reached, real = quality(row), row["frontier"]["real"]["text_entropy"]
    if reached is not None:
        return reached
    return min(row["frontier"]["points"], key=lambda point: abs(point["text_entropy"] - real))["judge_nll"]


def correlations(rows: list[Row]) -> str:
    """Spearman's rank correlation of each figure with sample quality, the sign such that 1 is foretelling."""
    worth = torch.tensor([-nearest(row) for row in rows])
    body = [
        [title, f"{float(spearman_corrcoef(torch.tensor([row[figure] for row in rows]), worth)):.2f}"]
        for figure, title in (
            ("information", "information"), ("found", "what of it is found"), ("noise_cosine", "noise cosine"),
        )
    ]  # fmt: skip
    return table(["figure", f"rank correlation with sample quality, {len(rows)} runs"], body)


def listing(rows: list[Row]) -> str:
    """Every run, the best samples first."""
    real = rows[0]["frontier"]["real"]
    body = [
        [
            row["name"].partition(": ")[2],
            f"{row['information']:.2f}",
            f"{row['found']:.2f}",
            f"{row['noise_cosine']:.3f}",
            f"{nearest(row):.2f}" + ("" if quality(row) is not None else ", not reached"),
        ]
        for row in sorted(rows, key=nearest)
    ]
    body.append(["real text", "", "", "", f"{real['judge_nll']:.2f}"])
    return table(["run", "information", "found", "noise cosine", "sample quality"], body)


if __name__ == "__main__":
    main(sys.argv[1:])
