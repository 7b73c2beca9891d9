"""Who reads the latents, and what it was trained on: experiment=latent_flow with each, on the embedded default corpus.

    python -m benchmarks.latent_flow [steps=1500] [seeds=0] [OVERRIDE ...]

Runs what docs/latent_flow.jsonl has no row for, then writes docs/pages/latent_flow.md. It can be stopped and started
again at any time.
"""

from __future__ import annotations

import csv
import json
import sys

import numpy as np

from benchmarks.race import BRIEF, JUDGED, read_off, spread
from benchmarks.rows import ROOT, Row, add_row, looked_at, read_rows, table, trained
from diffusion_text.commands import arguments

RUNS = ROOT / "outputs" / "latent_flow"
ROWS, PAGE = ROOT / "docs" / "latent_flow.jsonl", ROOT / "docs" / "pages" / "latent_flow.md"
NFE, ERRORS = 64, (0.2, 0.4, 0.6, 0.8)
OWN_READING = ["text_space.decoder_noise=0.5", "route.reads=0.2"]
READERS = {  # name: overrides
    **{f"decoder, noise up to {noise}": [f"text_space.decoder_noise={noise}"] for noise in (0, 0.5, 0.8, 0.95)},
    **{f"denoiser, noise up to {noise}": [*OWN_READING, f"route.reading_noise={noise}"] for noise in (0.3, 0.8)},
}
PROBE = ["task=probe", "num_samples=128", f"task.levels=[{','.join(map(str, ERRORS))}]"]
FRONTIER = [
    "task=frontier", f"num_samples={JUDGED}", f"batch_size={JUDGED}", f"task.nfe=[{NFE}]", "task.churn=[0,0.5,1,1.5,2]",
    "task.temperatures=[0,0.75,1]",
]  # fmt: skip


def main(argv: list[str]) -> None:
    own = [argument for argument in argv if argument.startswith(("steps=", "seeds="))]
    overrides = [argument for argument in argv if argument not in own]
    _, chosen = arguments(own, {"steps": 1500, "seeds": "0"})
    for seed in chosen["seeds"].split(","):
        for name, changes in READERS.items():
            ruled = [f"trainer.max_steps={chosen['steps']}", f"seed={seed}", *overrides]
            if (key := f"{name}, {chosen['steps']} steps, seed {seed}") not in read_rows(ROWS):
                measure(key, name, [*changes, *ruled])
    PAGE.write_text(render(list(read_rows(ROWS).values())), encoding="utf-8")
    print(PAGE)


def measure(key: str, name: str, recipe: list[str]) -> None:
    """Train, read noisy latents, draw the frontier; keep the figures."""
    run = trained(RUNS / key.replace(", ", "-").replace(" ", "-"), "experiment=latent_flow", *BRIEF, *recipe)
    figures = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    probed = [
        {name: value if name == "unit" else float(value) for name, value in row.items()}
        for row in csv.DictReader(looked_at(run, "probe", "*.csv", *PROBE).splitlines())
    ]
    frontier = json.loads(looked_at(run, "frontier", "*.json", *FRONTIER))
    row = {"name": key, "reader": name, "steps": figures["step"], "seconds": figures["seconds"]}
    add_row(ROWS, row | {"parameters": figures["parameters"], "probed": probed, "frontier": frontier})


def render(rows: list[Row]) -> str:
    """A table for each length of training."""
    real = rows[0]["frontier"]["real"]
    parts = [
        "# Who reads the latents",
        "Made by `python -m benchmarks.latent_flow`: `experiment=latent_flow` on the embedded default corpus, texts of "
        "64 tokens, 64 of them a step, bf16 on a CPU. The decoder was trained with the encoder, on latents with noise "
        "of up to a share of their variance, until it gave 99 % of its texts back; or the denoiser reads x_0 itself, "
        "which it learned on as much, latents whose own decoder learned on noise of up to 0.5. "
        "Read: share of the tokens of 128 validation texts, as they are, and with Gaussian errors on x_0 by their size "
        f"in its standard deviations. Judge NLL is of {JUDGED} samples at NFE {NFE}, at real text's entropy of "
        f"{real['text_entropy']:.2f}, where real text has {real['judge_nll']:.3f}; empty where no churn and no "
        "temperature of the decoding reaches that: beside it stand the lowest and the highest entropy of all. Decoded: "
        "real texts with the denoiser's last error on x_0, read. Means over seeds, ± half the range between them.",
    ]
    for steps in sorted({row["steps"] for row in rows}):
        of_length = [row for row in rows if row["steps"] == steps]
        names = dict.fromkeys(row["reader"] for row in of_length)
        lines = [line(name, [row for row in of_length if row["reader"] == name]) for name in names]
        errors = [f"read, {error}" for error in ERRORS]
        header = ["reader", "read", *errors, "judge NLL", "entropies", "decoded", "last error", "seeds"]
        parts += [f"## {steps:,} steps", table(header, lines)]
    return "\n\n".join(parts) + "\n"


def line(name: str, rows: list[Row]) -> list[str]:
    """A reader's figures."""
    read = [spread([share(row, error) for row in rows]) for error in (0.0, *ERRORS)]
    frontiers = [row["frontier"] for row in rows]
    judged = spread([read_off(frontier, NFE) for frontier in frontiers])
    entropies = [[point["text_entropy"] for point in frontier["points"]] for frontier in frontiers]
    reached = " to ".join(f"{np.mean([end(each) for each in entropies]):.2f}" for end in (min, max))
    decoded = [spread([frontier["decoded"][name] for frontier in frontiers]) for name in ("judge_nll", "error")]
    return [name, *read, judged, reached, *decoded, str(len(rows))]


def share(row: Row, error: float) -> float:
    """Of the tokens that is read with so much noise on the standardised latents."""
    [found] = [at for at in row["probed"] if (at["unit"], at["noise_std"]) == ("standardised", error)]
    return found["token_accuracy"]


if __name__ == "__main__":
    main(sys.argv[1:])
