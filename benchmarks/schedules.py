"""What the noise schedule does to a model, and what it only seems to do: four schedules, three seeds.

    python -m benchmarks.schedules [OVERRIDE ...]

Trains model=textunet for what docs/schedules.jsonl has no row of, then writes docs/pages/schedules.md. It can be
stopped and started again at any time.
"""

from __future__ import annotations

import json
import statistics
import sys

from benchmarks.rows import ROOT, Row, add_row, call, read_rows, table

RUNS = ROOT / "outputs" / "schedules"
ROWS, PAGE = ROOT / "docs" / "schedules.jsonl", ROOT / "docs" / "pages" / "schedules.md"
SCHEDULES = ("linear", "cosine", "sqrt", "log_snr_linear")
SEEDS = (0, 1, 2)
BRIEF = ["num_samples=0", "callbacks.samples=null", "report.garbled=0", "report.trace_steps=0"]
FIGURES = ("information", "found", "lost", "noise_cosine", "do_nothing", "linear")


def main(overrides: list[str]) -> None:
    for seed in SEEDS:
        for schedule in SCHEDULES:
            if f"{schedule}-{seed}" not in read_rows(ROWS):
                measure(schedule, seed, overrides)
    PAGE.write_text(render(list(read_rows(ROWS).values())), encoding="utf-8")
    print(PAGE)


def measure(schedule: str, seed: int, overrides: list[str]) -> None:
    """Train, and keep the figures."""
    name = f"{schedule}-{seed}"
    choices = ["model=textunet", f"schedule={schedule}", f"seed={seed}"]
    call("train.py", f"hydra.run.dir={RUNS / name}", *choices, *BRIEF, *overrides)
    figures = json.loads((RUNS / name / "metrics.json").read_text(encoding="utf-8"))
    val = figures["val"]
    row = {
        "name": name,
        "schedule": schedule,
        "seed": seed,
        "steps": figures["step"],
        "information": val["information"]["overall"],
        "error": val["information_error"],
        "found": val["information_found"],
        "lost": val["information_lost"],
        "skill": val["skill"]["bins"],
        "quality": figures["quality"],
    }
    row |= {
        name: val[predictor]["noise_cosine"]["overall"]
        for name, predictor in (("noise_cosine", "model"), ("do_nothing", "do_nothing"), ("linear", "linear"))
    }
    add_row(ROWS, row)


# ---- the page


def render(rows: list[Row]) -> str:
    """Both figures of each schedule, mean and standard deviation over the seeds, the most informed first."""
    grouped = {schedule: [row for row in rows if row["schedule"] == schedule] for schedule in SCHEDULES}
    order = sorted(SCHEDULES, key=lambda schedule: -mean(grouped[schedule], "information"))
    parts = [
        "# Schedules, measured",
        f"Made by `python -m benchmarks.schedules`: `model=textunet`, {rows[0]['steps']} steps on `data=python_docs`, "
        f"seeds {', '.join(map(str, SEEDS))}; averaged weights, validation split. Mean ± standard deviation over "
        "seeds; the standard error over texts of one run's information is about "
        f"{statistics.mean(row['error'] for row in rows):.2f}.",
        table(
            [
                "schedule",
                "information, nats a token",
                "found",
                "lost",
                "noise cosine, under this schedule",
                "do nothing",
                "best linear",
            ],
            [[f"`{schedule}`", *(spread(grouped[schedule], figure) for figure in FIGURES)] for schedule in order],
        ),
        conclusion(grouped, order),
    ]
    return "\n\n".join(parts) + "\n"


def conclusion(grouped: dict[str, list[Row]], order: list[str]) -> str:
    """What follows from the table, in words that its figures choose."""
    by_cosine = sorted(SCHEDULES, key=lambda schedule: -mean(grouped[schedule], "noise_cosine"))
    return (
        f"By noise cosine the order is {', '.join(by_cosine)}; by information it is {', '.join(order)}. The cosine "
        "follows what doing nothing scores: it says how much noise a schedule puts where, and compares no models. "
        "Information is measured at the same signal-to-noise ratios for all; what is lost is lost where there is "
        "little noise, at times that a schedule seldom draws. [Concepts](concepts.md#information) has the formula."
    )


def mean(rows: list[Row], figure: str) -> float:
    return statistics.mean(row[figure] for row in rows)


def spread(rows: list[Row], figure: str) -> str:
    """Mean ± standard deviation."""
    return f"{mean(rows, figure):.3f} ± {statistics.stdev(row[figure] for row in rows):.3f}"


if __name__ == "__main__":
    main(sys.argv[1:])
