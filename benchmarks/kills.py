"""Kill trainings at random moments, let them go on, and compare: python -m benchmarks.kills [trials=200] [seed=0]

A moment is a hook of a step or a validation, or a call by which a file is opened, written, flushed to the disk or put
in its place. Every trial kills a training of each route once with kill -9, some again while they go on, and then ends
it; the checkpoints and metrics.csv must be those of a training that was left alone.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback

from benchmarks.rows import configured
from diffusion_text import storage
from diffusion_text.commands import arguments, command
from diffusion_text.composition import compose_training
from diffusion_text.runs import Run
from diffusion_text.tensors import read_tensors
from diffusion_text.training import fit

SHORT = [
    "data=markov", "data.size=20000", "data.length=16", "data.batch_size=16", "data.eval_texts=16", "trainer=cpu",
    "trainer.max_steps=9", "trainer.val_check_interval=4", "trainer.log_every_n_steps=2", "preflight=off",
    "callbacks.samples=null",
]  # fmt: skip
ROUTES = {
    "latent": [
        "model=simple_unet", "text_space.dim=16", "text_space.layers=1", "text_space.heads=2",
        "text_space.vocab_size=300", "text_space.max_steps=20", "trainer.accumulate_grad_batches=2",
        "data.batch_size=8",
    ],
    "embedding": [
        "model=diffusion_lm", "tokenizer=characters", "text_space.dim=16", "model.width=16", "model.depth=1",
        "model.heads=2", "time_sampling=adaptive", "callbacks.collapse.every_n_steps=3",
        "callbacks.collapse.num_samples=4",
    ],
}  # fmt: skip


class Moments(Callback):
    """Counts the moments of a training, by kind, and kills the process at one of them."""

    def __init__(self, fatal: int | None = None):
        self.fatal, self.kinds = fatal, []  # type: ignore[var-annotated]

    def passed(self, kind: str) -> None:
        if len(self.kinds) == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        self.kinds.append(kind)

    def on_train_batch_start(self, *arguments) -> None:
        self.passed("in a step")

    on_before_optimizer_step = on_before_zero_grad = on_train_batch_end = on_train_batch_start

    def on_validation_start(self, *arguments) -> None:
        self.passed("in a validation")

    on_validation_batch_end = on_validation_epoch_end = on_validation_end = on_validation_start

    def watch(self) -> None:
        """Count the calls to the system, too; for the rest of this process."""

        def counted(kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*arguments: Any, **named: Any) -> Any:
                self.passed(kind)
                return call(*arguments, **named)

            return counting

        os.fsync = counted("before fsync", os.fsync)
        os.replace = counted("before rename", os.replace)
        Path.replace = counted("before rename", Path.replace)  # type: ignore[method-assign]
        Path.unlink = counted("before unlink", Path.unlink)  # type: ignore[method-assign]
        storage.Sealing.write = counted("in a write", storage.Sealing.write)  # type: ignore[method-assign]


def main(argv: list[str]) -> None:
    _, chosen = arguments(argv, {"trials": 200, "seed": 0})
    wrong = 0
    for route in ROUTES:
        with tempfile.TemporaryDirectory() as place:
            outcomes, kinds = trials(route, Path(place), chosen["trials"], chosen["seed"])
        print(f"{route}: {', '.join(f'{many} {what}' for what, many in sorted(outcomes.items()))}")
        print(f"  killed {', '.join(f'{many} {kind}' for kind, many in sorted(kinds.items()))}")
        wrong += sum(many for what, many in outcomes.items() if what != "the same")
    sys.exit(bool(wrong))


def trials(route: str, place: Path, many: int, seed: int) -> tuple[Counter[str], Counter[str]]:
    """What came of so many kills, and of which kind they were."""
    chance, outcomes, kinds = random.Random(seed), Counter[str](), Counter[str]()
    whole = place / "whole"
    moments = in_child(partial(trained, route, whole, place))
    for _ in range(many):
        killed = place / "killed"
        shutil.rmtree(killed, ignore_errors=True)
        for _ in range(chance.choice((1, 1, 1, 2))):
            kind = chance.choice(sorted(set(moments)))
            fatal = chance.choice([number for number, other in enumerate(moments) if other == kind])
            kinds[kind] += 1
            in_child(partial(trained, route, killed, place, fatal))
        ended = in_child(partial(trained, route, killed, place))
        outcomes[difference(killed, whole) if ended else "not recovered"] += 1
    return outcomes, kinds


def trained(route: str, directory: Path, place: Path, fatal: int | None = None) -> list[str]:
    """Train in a directory, or go on there; the kinds of the moments that passed."""
    moments = Moments(fatal)
    places = [f"run_dir={directory}", f"cache_dir={place / 'cache'}"]
    directory.mkdir(exist_ok=True)
    training = compose_training(configured(*SHORT, *ROUTES[route], *places))
    training.trainer.callbacks.insert(0, moments)  # type: ignore[attr-defined]
    moments.watch()
    fit(training)
    return moments.kinds


def in_child(work: Callable[[], list[str]]) -> list[str]:
    """What a process of its own makes of it; nothing where that does not come to its end."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            with open(writing, "w") as stream:  # noqa: PTH123
                stream.write("\n".join(work()))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with open(reading) as stream:  # noqa: PTH123
        said = stream.read().split("\n")
    return said if os.waitpid(child, 0)[1] == 0 else []


def difference(one: Path, other: Path) -> str:
    """In what two runs differ."""
    for file in ("last.ckpt", "best.ckpt"):
        first, second = (without_paths(read_tensors(run / "checkpoints" / file)) for run in (one, other))
        if not same(first, second):
            return f"another {file}"
    return "the same" if rows(one) == rows(other) else "another metrics.csv"


def without_paths(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's weights, averages, moments, schedules and step."""
    names = ("global_step", "state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")
    return {name: checkpoint[name] for name in names}


def same(one: Any, other: Any) -> bool:
    """Whether nested values are equal, tensors bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one.nan_to_num(), other.nan_to_num()) and one.dtype == other.dtype
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def rows(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, without what was measured by the clock."""
    with Run(run).history.open(newline="", encoding="utf-8") as stream:
        kept = list(csv.DictReader(stream))
    return [{name: value for name, value in row.items() if value and not name.startswith("speed/")} for row in kept]


if __name__ == "__main__":
    command(main, __doc__ or "")
