"""Every failure and its repair, whole and as README writes them, and README's table of what they print.

    python -m benchmarks.failures [threads=1,2] [seeds=0,1,2]

Each preset is a process of its own, with an empty cache for each number of threads. Exits with 1 unless every failure
is told by its own sign and no other, and every repair has none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from benchmarks.rows import ROOT, table
from diffusion_text.commands import arguments

SIGNS = {  # of each failure: a check of preflight's that is not ok, or an alarm of the collapse monitor's, or a refusal
    "rank_bound": ("rank of the output", None),
    "padding": ("padding in the loss", None),
    "statistics": ("kept in the checkpoint", None),
    "blow_up": ("x_0 at the first step", None),
    "snap_space": ("snap returns the target's space", None),
    "scale": ("scale of x_0", "collapse/scale"),
    "positions": ("sees positions", None),
    "clean_rounding": (None, "collapse/scale"),
    "cosine_rounding": ("rounding of noisy x_0", None),
    "ignored_condition": ("needs the condition", None),
    "ruler": (None, None),
}
REFUSED = {"ruler": "val/noise_cosine does not rank these runs"}  # by a sweep, which then ends with code 2
SYMPTOMS = {"collapse/unigram", "collapse/repetition"}  # what any of them may do to text
FOLLOW = {  # what else is not ok of necessity: the same cause, seen from elsewhere
    "padding": {"standardisation", "encode → decode"},
    "scale": {"loss without context", "readable at t = .1 .3 … .9"},
    "cosine_rounding": {"readable at t = .1 .3 … .9"},
}


class Outcome(NamedTuple):
    """How a preset ended: exit code, checks that are not ok with what they measured, alarms, last words."""

    code: int
    checks: dict[str, str]
    alarms: dict[str, str]
    said: str


def main(argv: list[str]) -> None:
    _, values = arguments(argv, {"threads": "1,2", "seeds": "0"})
    wrong = []
    for threads in values["threads"].split(","):
        with tempfile.TemporaryDirectory() as cache:
            for seed in values["seeds"].split(","):
                ended = {
                    f"{side}/{name}": run(f"{side}/{name}", threads, seed, Path(cache))
                    for name in SIGNS
                    for side in ("failure", "fix")
                }
                wrong += [f"{threads} threads, seed {seed}: {line}" for line in complaints(ended, SIGNS)]
                print(f"\n{threads} threads, seed {seed}\n\n{readme_table(ended)}\n", flush=True)
    print("\n".join(wrong) or "Every failure is told by its own sign, every repair has none.")
    sys.exit(bool(wrong))


def run(preset: str, threads: str, seed: str, place: Path) -> Outcome:
    """Train a preset as it is written."""
    directory = place / f"{preset}-{seed}"
    variables = {"OMP_NUM_THREADS": threads, "DIFFUSION_TEXT_CACHE": str(place / "cache")}
    places = [f"hydra.run.dir={directory}", f"hydra.sweep.dir={directory}"]
    command = ["train.py", f"experiment={preset}", *places, f"seed={seed}"]
    result = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    return outcome(directory, result.returncode, (result.stderr.strip().splitlines() or [""])[-1])


def outcome(directory: Path, code: int, said: str) -> Outcome:
    """How a run ended that left this directory."""
    rows = [row for file in directory.glob("**/preflight.json") for row in json.loads(file.read_text(encoding="utf-8"))]
    alarms = [file.read_text(encoding="utf-8").splitlines() for file in directory.glob("**/alarms.jsonl")]
    lines = chain.from_iterable(alarms)
    return Outcome(
        code,
        {row["name"]: row["measured"] for row in rows if row["verdict"] != "ok"},
        {alarm["name"]: alarm["measured"] for alarm in map(json.loads, lines)},
        said,
    )


def complaints(ended: dict[str, Outcome], names: Iterable[str]) -> list[str]:
    """What is not as it should be."""
    found = []
    for name in names:
        signs = SIGNS[name]
        failure, fix = (ended[f"{side}/{name}"] for side in ("failure", "fix"))
        own = {sign for sign in signs if sign}
        seen = {*failure.checks, *failure.alarms}
        if not own <= seen <= own | FOLLOW.get(name, set()) | SYMPTOMS:
            found.append(f"failure/{name} shows {sorted(seen)}, not {sorted(own)}")
        if fix.checks or fix.alarms:
            found.append(f"fix/{name} shows {fix.checks | fix.alarms}")
        refused = REFUSED.get(name)
        if failure.code != (2 if refused else 0) or (refused or "") not in failure.said:
            found.append(f"failure/{name} ended with {failure.code}: {failure.said}")
        if fix.code:
            found.append(f"fix/{name} ended with {fix.code}: {fix.said}")
    return found


def readme_table(ended: dict[str, Outcome]) -> str:
    """What each failure does, what it prints, and what repairs it."""
    body = []
    for name, signs in SIGNS.items():
        outcome = ended[f"failure/{name}"]
        told = outcome.checks | outcome.alarms
        said = "; ".join(f"`{sign}` {told.get(sign, 'not seen')}" for sign in signs if sign)
        said = said or outcome.said.partition("objective.metric: ")[2].partition("; python -m")[0]
        body.append([f"`{name}`", purpose(f"failure/{name}"), said, purpose(f"fix/{name}")])
    return table(["`experiment=failure/…`", "what it does", "what it prints", "`experiment=fix/…`"], body)


def purpose(preset: str) -> str:
    """The comment that a preset begins with."""
    lines = (ROOT / "conf" / "experiment" / f"{preset}.yaml").read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("# ") for line in lines[1:] if line.startswith("# ")]
    return " ".join(comment).rstrip(".")


if __name__ == "__main__":
    main(sys.argv[1:])
