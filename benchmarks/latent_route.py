"""The latent route's table: model × prediction × schedule on the embedded default corpus, 2,000 steps each.

    python -m benchmarks.latent_route [OVERRIDE ...]

Runs what docs/latent_route.jsonl has no row for, as Hydra multiruns; adds a row for each run, with a garbled-text test
of it; then writes docs/pages/latent_route.md. It can be stopped and started again at any time.
"""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.rows import ROOT, Row, add_row, call, newest, read_rows, table
from diffusion_text.tracking.titles import PREDICTORS as TITLES

RUNS = ROOT / "outputs" / "latent_route"
ROWS, PAGE = ROOT / "docs" / "latent_route.jsonl", ROOT / "docs" / "pages" / "latent_route.md"

MODELS = ("textunet", "simple_unet", "latent_transformer")
PREDICTIONS = ("v", "epsilon", "x0")
SCHEDULES = ("sqrt", "cosine")
RECIPES = {  # name: overrides
    "latent_diffusion": ["experiment=latent_diffusion"],
    "latent_diffusion, bart_vae": ["experiment=latent_diffusion", "text_space=bart_vae"],
    "latent_diffusion, seed 1": ["experiment=latent_diffusion", "seed=1"],
    "latent_diffusion, seed 2": ["experiment=latent_diffusion", "seed=2"],
}
COMMON = [
    "trainer.max_steps=2000",
    "trainer.val_check_interval=500",
    "precision=bf16",  # half as fast again on a CPU that knows it
    "callbacks.samples=null",
    "preflight=warn",
]
GARBLED = {
    "shuffle": ["task.how=shuffle", "task.rate=0.3", "task.window=3", "task.t=0.1"],
    "replace": ["task.how=replace", "task.rate=0.1", "task.t=0.1"],
}


def main(overrides: list[str]) -> None:
    rows = read_rows(ROWS)
    missing = [key for key in grid() if "-".join(key) not in rows]
    for (model, schedule), keys in groupby(missing, key=lambda key: key[:2]):
        predictions = [prediction for _, _, prediction in keys]
        choices = [f"model={model}", f"schedule={schedule}", f"prediction={','.join(predictions)}"]
        call("train.py", "-m", f"hydra.sweep.dir={RUNS}", "hydra.sweep.subdir=${name}", *choices, *COMMON, *overrides)
        for prediction in predictions:
            name = "-".join((model, schedule, prediction))
            measure(name, RUNS / name)
    for name, recipe in RECIPES.items():
        if name not in rows:
            directory = RUNS / name.replace(", ", "-").replace(" ", "-")
            call("train.py", f"hydra.run.dir={directory}", *recipe, *COMMON, *overrides)
            measure(name, directory)
    PAGE.write_text(render(list(read_rows(ROWS).values())), encoding="utf-8")
    print(PAGE)


def grid() -> list[tuple[str, str, str]]:
    """Model, schedule and prediction of every run."""
    return [(model, schedule, prediction) for model in MODELS for schedule in SCHEDULES for prediction in PREDICTIONS]


def measure(name: str, directory: Path) -> None:
    """Test a finished run on garbled text and keep its figures."""
    figures = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    garbled = {}
    for how, task in GARBLED.items():
        call("sample.py", f"run={directory}", "task=garble", "num_samples=64", "sampler.num_steps=10", *task)
        written = newest(directory / "samples", "garble*.jsonl").read_text(encoding="utf-8")
        scores = json.loads(written.splitlines()[0])["scores"]
        garbled[how] = {text: score["chrf"] for text, score in scores.items()}
    row = {
        "name": name,
        "parameters": figures["parameters"],
        "steps_per_second": round(figures["step"] / figures["seconds"], 2),
        "bound": figures["bound"],
        "verdict": figures["verdict"],
        "garbled": garbled,
        "val": figures["val"],
    }
    add_row(ROWS, row)


# ---- the page


def render(rows: list[Row]) -> str:
    """All rows as Markdown: the overall figures, then cosine similarity and magnitude ratio by noise level."""
    rows = sorted(rows, key=lambda row: -row["val"]["information"]["overall"])
    parts = [
        "# The latent route, measured",
        "Made by `python -m benchmarks.latent_route` on the embedded default (`data=python_docs`, 64 tokens), 2,000 "
        "steps of 32 texts each in bf16; averaged weights, validation split; the most informed first. Information, "
        "found and lost are nats a token beyond the best linear predictor, and mean the same in all rows of one text "
        "space. Cosine similarity and magnitude ratio are means of ten times under the row's own schedule, and do not. "
        "Text: chrF against the original of 64 garbled texts as they are, decoded without denoising, and restored from "
        "t = 0.1. it/s is left out where a run was paused or had no core of its own. References differ between the "
        "schedules, and between bart_mini's latents and bart_vae's.",
        table(
            [
                "run",
                "parameters",
                "it/s",
                "information",
                "found",
                "lost",
                "cos ε",
                "mag ε",
                "cos x₀",
                "mag x₀",
                "bound",
                "above both references",
            ],
            [overall_cells(row) for row in rows],
        ),
        "## Garbled text, chrF",
        table(
            ["run", *(f"{how}: {text}" for how in GARBLED for text in ("garbled", "do nothing", "restored"))],
            [
                [row["name"], *(f"{score:.3f}" for how in GARBLED for score in row["garbled"][how].values())]
                for row in rows
            ],
        ),
    ]
    for quantity, title in (("noise_cosine", "Cosine similarity"), ("noise_magnitude", "Magnitude ratio")):
        bins = [[row["name"], *cells(row["val"]["model"][quantity])] for row in rows]
        for schedule in SCHEDULES:
            row = next((row for row in rows if f"-{schedule}-" in row["name"]), None)
            for name in ("linear", "do_nothing") if row else ():
                bins.append([f"{TITLES[name]}, {schedule}", *cells(row["val"][name][quantity])])
        parts += [
            f"## {title} of noise by noise level",
            table(["run", *(f"t {i / 10:.1f}–{(i + 1) / 10:.1f}" for i in range(10))], bins),
        ]
    return "\n\n".join(parts) + "\n"


def overall(row: Row, quantity: str) -> float:
    """A run's figure over all noise levels; what diverged comes last."""
    value = row["val"]["model"][quantity]["overall"]
    return value if value == value else -1.0


def overall_cells(row: Row) -> list[str]:
    """One row of the first table."""
    model, references = row["val"]["model"], (row["val"]["do_nothing"], row["val"]["linear"])
    figures = [f"{overall(row, q):.3f}" for q in ("noise_cosine", "noise_magnitude", "x0_cosine", "x0_magnitude")]
    ours = model["noise_cosine"]["bins"]
    above = sum(all(o > r["noise_cosine"]["bins"][i] for r in references) for i, o in enumerate(ours))
    bound = "" if row["bound"] is None else f"{row['bound']:.3f}"
    rate = "" if row["steps_per_second"] is None else f"{row['steps_per_second']:.1f}"
    val = row["val"]
    known = [
        f"{val['information']['overall']:.2f} ± {val['information_error']:.2f}",
        *(f"{val[f'information_{part}']:.2f}" for part in ("found", "lost")),
    ]
    return [row["name"], f"{row['parameters']:,}", rate, *known, *figures, bound, f"{above} of 10"]


def cells(figure: dict[str, Any]) -> list[str]:
    return [f"{value:.3f}" for value in figure["bins"]]


if __name__ == "__main__":
    main(sys.argv[1:])
