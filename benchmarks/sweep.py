"""How much sooner a sweep ends when two jobs run at a time: python -m benchmarks.sweep [NAME=VALUE ...]

Eight short trainings, one after another and then through hydra/launcher=joblib, with the cache filled before; each job
computes on one thread either way. What is appended overrides the trainings' settings.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rows import call

SETTINGS = [
    "experiment=small_lm", "data=text_files", "trainer=cpu", "data.length=16", "trainer.max_steps=600",
    "trainer.val_check_interval=600", "preflight=off", "sampler.num_steps=4", "num_samples=1",
    "report.quality=0", "report.frontier=0", "report.garbled=0", "report.trace_steps=0",
    "callbacks.collapse.every_n_steps=1000",
]  # fmt: skip
JOBS = "seed=range(8)"
IN_PARALLEL = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
WORDS = ["apple", "river", "stone", "cloud", "light", "green", "seven", "table", "horse", "paper", "music", "north"]


def write_corpus(file: Path) -> None:
    """Four hundred paragraphs, no two alike, small enough that validation takes no time."""
    paragraphs = (" ".join(WORDS[(i * step + step) % 12] for step in range(1, 10)) + f" {i}" for i in range(400))
    file.write_text("\n\n".join(paragraphs), encoding="utf-8")


def seconds(*arguments: str) -> float:
    """How long a sweep takes from the command line, start and summary included."""
    started = time.monotonic()
    call("train.py", "-m", *arguments)
    return time.monotonic() - started


def main() -> None:
    """Time both and print the ratio."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as place:
        write_corpus(Path(place) / "corpus.txt")
        settings = [*SETTINGS, f"data.dir={place}/corpus.txt", f"cache_dir={place}/cache", *sys.argv[1:]]
        seconds(*settings, "seed=0", "trainer.max_steps=1", f"hydra.sweep.dir={place}/warm")
        one_by_one = seconds(*settings, JOBS, f"hydra.sweep.dir={place}/basic")
        two_at_a_time = seconds(*settings, JOBS, *IN_PARALLEL, f"hydra.sweep.dir={place}/joblib")
    ratio = one_by_one / two_at_a_time
    print(f"one after another {one_by_one:.1f} s, two at a time {two_at_a_time:.1f} s: {ratio:.2f}×")


if __name__ == "__main__":
    main()
