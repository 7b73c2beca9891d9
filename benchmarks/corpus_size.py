"""Memory and time against the size of a corpus: python -m benchmarks.corpus_size [megabytes=2000] [steps=60]
[place=/tmp] [OVERRIDE ...]

Words are drawn by Zipf's law into one text file, which is tokenised (cold), trained on again (warm), and streamed. Of
each training: seconds to the first step; the most memory that a process of it had resident, with and without the pages
of files that it maps, which the system takes back as it needs them; CPU seconds of all its processes.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from lightning import Callback

from benchmarks.rows import ROOT, Figure, table
from diffusion_text.commands import arguments, command

RECIPE = [
    "model=diffusion_lm", "tokenizer=bpe", "model.width=128", "model.depth=2", "model.heads=4", "text_space.dim=64",
    "trainer=cpu", "report.quality=16", "report.frontier=0", "report.garbled=0", "report.trace_steps=4",
    "num_samples=2", "sampler.num_steps=8", "data.batch_size=16", "data.eval_texts=256", "preflight=warn",
    "+callbacks.first={_target_:benchmarks.corpus_size.FirstStep}",
]  # fmt: skip
SIDES: dict[str, list[str]] = {"cold": [], "warm": [], "streamed": ["data.streaming=true"]}
STARTED = "DIFFUSION_TEXT_STARTED"
DRAWN = 200_000  # words at a time
SIZES = (20, 200)  # MB, in the table of all benchmarks


class FirstStep(Callback):
    """Says when the first step is done."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 1:
            Path(os.environ[STARTED]).write_text(str(time.time()))


def main(argv: list[str]) -> None:
    given = [argument for argument in argv if "." in argument.partition("=")[0]]
    _, chosen = arguments([a for a in argv if a not in given], {"megabytes": 2_000, "steps": 60, "place": "/tmp"})
    rows = []
    for row in measured(given, **chosen):
        rows.append(row)
        print(row, flush=True)
    print(table(["", "first step, s", "whole, s", "CPU, s", "resident, MB", "without mapped files, MB"], rows))


def measured(overrides: list[str], megabytes: int, steps: int = 60, place: str = "/tmp") -> Iterator[list[str]]:
    """Of each training on a corpus of this size, its name and what it takes."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        file = Path(folder, "corpus.txt")
        write(file, megabytes * 1_000_000)
        for side, own in SIDES.items():
            places = [f"data.dir={file}", f"cache_dir={folder}/cache", f"hydra.run.dir={folder}/{side}"]
            limits = [f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps // 2}"]
            yield [side, *train([*RECIPE, "data=text_files", *places, *limits, *own, *overrides], Path(folder))]


def figures(overrides: list[str]) -> Iterator[Figure]:
    """Of corpora of several sizes."""
    for megabytes in SIZES:
        for side, first, _, _, resident, _ in measured(overrides, megabytes):
            yield f"corpus of {megabytes} MB, {side}", f"{resident} MB resident", f"first step after {first} s"


def write(file: Path, size: int) -> None:
    """A text of so many characters, in paragraphs of 20 to 120 of 50,000 words of Zipf's frequencies."""
    chance = np.random.default_rng(0)
    letters = np.array([*"etaoinshrdlucmfwypvbgkjqxz"])
    words = np.array(["".join(chance.choice(letters, length)) for length in chance.integers(2, 11, 50_000)], object)
    shares = np.cumsum(1 / np.arange(1, len(words) + 1))
    written = 0
    with file.open("w", encoding="utf-8") as stream:
        while written < size:
            drawn = words[np.searchsorted(shares, shares[-1] * chance.random(DRAWN))]
            parts = np.split(drawn, np.cumsum(chance.integers(20, 120, DRAWN // 120)))
            written += stream.write("".join(f"{' '.join(part)}.\n\n" for part in parts if len(part)))


def train(overrides: list[str], place: Path) -> list[str]:
    """What a training takes: a row of the table."""
    note = place / "first"
    environment = os.environ | {STARTED: str(note), "PYTHONPATH": str(ROOT)}
    began, used = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen([sys.executable, "train.py", *overrides], cwd=ROOT, env=environment)
    most = {"VmRSS": 0, "RssAnon": 0}
    watching = threading.Thread(target=watch, args=(process, most))
    watching.start()
    if process.wait():
        sys.exit(f"train.py ended with {process.returncode}")
    watching.join()
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    numbers = (float(note.read_text()) - began, time.time() - began, cpu, most["VmRSS"] / 1e3, most["RssAnon"] / 1e3)
    return [f"{number:,.1f}" if number < 100 else f"{number:,.0f}" for number in numbers]


def watch(process: subprocess.Popen, most: dict[str, int]) -> None:
    """Keep the most kB that any process of a training has had, four times a second."""
    while process.poll() is None:
        for status in statuses(process.pid):
            for name in most:
                most[name] = max(most[name], int(status.get(name, "0 kB").split()[0]))
        time.sleep(0.25)


def statuses(pid: int) -> list[dict[str, str]]:
    """What the system says of a process, and of all that it has started."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    own = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return [own, *(status for child in children for status in statuses(int(child)))]


if __name__ == "__main__":
    command(main, __doc__ or "")
