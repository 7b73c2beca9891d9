"""Does information foretell how good samples are, and does noise cosine? Twelve runs of each route.

    python -m benchmarks.ruler [route=latent|embedding] [OVERRIDE ...]

Trains what docs/ruler.jsonl has no row of, draws each run's frontier, then writes docs/pages/ruler.md: Spearman's rank
correlation of either figure with judge NLL at real text's entropy. It can be stopped and started again at any time.
"""

from __future__ import annotations

import json
import sys
from itertools import product

import numpy as np
import torch
from torchmetrics.functional import spearman_corrcoef

from benchmarks.rows import ROOT, Row, add_row, call, newest, read_rows, table

RUNS = ROOT / "outputs" / "ruler"
ROWS, PAGE = ROOT / "docs" / "ruler.jsonl", ROOT / "docs" / "pages" / "ruler.md"
TEXTS, NFE = 64, 50
BRIEF = [
    "preflight=warn", "num_samples=0", "report.quality=0", "report.frontier=0", "report.garbled=0",
    "report.trace_steps=0",
]  # fmt: skip
SMALL_LM = [
    "experiment=diffusion_lm_small", "data=python_docs", "model.width=64", "model.depth=2", "data.length=32",
    "callbacks.collapse=null", "trainer.val_check_interval=500",
]  # fmt: skip
RECIPES = {
    "latent": {
        f"{width}, {schedule}, {steps} steps": [
            "model=textunet", f"model.width={width}", f"schedule={schedule}", f"trainer.max_steps={steps}",
        ]
        for steps, width, schedule in product((150, 600, 2400), ("narrow", "full"), ("sqrt", "cosine"))
    },
    "embedding": {
        f"{schedule}, {steps} steps, rate {rate}": [
            *SMALL_LM, f"schedule={schedule}", f"trainer.max_steps={steps}", f"optimizer.lr={rate}",
        ]
        for steps, schedule, rate in product((500, 1000, 2000), ("sqrt", "log_snr_linear"), ("1e-3", "4e-3"))
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
    sampling.append("task.temperatures=[0,0.5,0.75,1,1.25]")
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


def render(rows: list[Row]) -> str:
    """A table a route, and what either figure is worth."""
    parts = [
        "# What foretells good samples",
        f"Made by `python -m benchmarks.ruler`: {TEXTS} texts a setting, {NFE} evaluations. Sample quality is judge "
        "NLL where all runs of a route have one entropy of each text: real text's, or the highest that all reach. "
        "Lower is better.",
    ]
    for route in RECIPES:
        of_route = [row for row in rows if row["route"] == route]
        if of_route:
            parts += [f"## {route}", *section(of_route)]
    return "\n\n".join(parts) + "\n"


def section(rows: list[Row]) -> list[str]:
    """Rank correlations of each figure with sample quality, and the runs, the best samples first."""
    real = rows[0]["frontier"]["real"]
    entropy = min(real["text_entropy"], *(max(p["text_entropy"] for p in row["frontier"]["points"]) for row in rows))
    quality = {row["name"]: judged_at(entropy, row["frontier"]["points"]) for row in rows}
    worth = torch.tensor([-quality[row["name"]] for row in rows])
    figures = {"information": "information", "found": "what of it is found", "noise_cosine": "noise cosine"}
    correlated = [
        [title, f"{float(spearman_corrcoef(torch.tensor([row[figure] for row in rows]), worth)):.2f}"]
        for figure, title in figures.items()
    ]
    listed = [
        [
            row["name"].partition(": ")[2],
            f"{row['information']:.2f}",
            f"{row['found']:.2f}",
            f"{row['noise_cosine']:.3f}",
            f"{quality[row['name']]:.2f}",
        ]
        for row in sorted(rows, key=lambda row: quality[row["name"]])
    ]
    errors = [found["standard_error"] for row in rows for found in row["frontier"]["at_real_entropy"]]
    span = max(quality.values()) - min(quality.values())
    return [
        f"Entropy {entropy:.2f} nats, where real text has {real['text_entropy']:.2f} and a judge NLL of "
        f"{real['judge_nll']:.2f}. The runs span {span:.2f} nats; one's standard error over texts is about "
        f"{np.mean(errors):.2f}.",
        table(["figure", f"Spearman's rank correlation with sample quality, {len(rows)} runs"], correlated),
        table(["run", "information", "found", "noise cosine", "judge NLL"], listed),
    ]


def judged_at(entropy: float, points: list[Row]) -> float:
    """The lowest judge NLL at an entropy, over the knobs that reach it."""
    curves = {knob: [p for p in points if p["knob"] == knob] for knob in {p["knob"] for p in points}}
    found = []
    for curve in curves.values():
        ordered = sorted((p["text_entropy"], p["judge_nll"]) for p in curve)
        found.append(float(np.interp(entropy, *zip(*ordered, strict=True), left=np.nan, right=np.nan)))
    return float(np.nanmin(found))


if __name__ == "__main__":
    main(sys.argv[1:])
