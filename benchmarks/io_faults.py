"""Let every call that writes fail once, go on, and compare: python benchmarks/io_faults.py [every=1] [code=ENOSPC]

The N-th call by which a training opens a file to write, makes a directory, writes a checkpoint, flushes to the disk or
puts a file in its place fails, for every N (or every so many-th) of the cache's building, of the training with its
saves, and of the conclusion. It must recover or end in one line; the same command given again must end as a training
that nothing happened to.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kills import ROUTES, SHORT, configured, difference, in_child

from diffusion_text import storage
from diffusion_text.commands import arguments, command
from diffusion_text.composition import compose_training, quiet_libraries
from diffusion_text.conclusion import conclude
from diffusion_text.errors import UserError
from diffusion_text.storage import disk_trouble
from diffusion_text.training import fit

BRIEF = [
    "report.quality=2", "report.frontier=0", "report.garbled=2", "report.trace_steps=2", "num_samples=1",
    "sampler.num_steps=2",
]  # fmt: skip


class Faults:
    """Counts the calls that write, by the stage they belong to, and lets one fail."""

    def __init__(self, failing: int | None, code: int):
        self.failing, self.code, self.stage, self.calls = failing, code, "cache", []  # type: ignore[var-annotated]

    def passed(self, path: Any) -> None:
        self.calls.append(self.stage)
        if len(self.calls) - 1 == self.failing:
            raise OSError(self.code, os.strerror(self.code), str(path))

    def watch(self) -> None:
        """For the rest of this process."""

        def counted(call: Callable[..., Any], place: int = 0) -> Callable[..., Any]:
            def counting(*arguments: Any, **named: Any) -> Any:
                self.passed(arguments[place])
                return call(*arguments, **named)

            return counting

        def opening(call: Callable[..., Any]) -> Callable[..., Any]:
            def counting(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
                if isinstance(file, (str, Path)) and set(mode) & set("wax+"):
                    self.passed(file)
                return call(file, mode, *arguments, **named)

            return counting

        builtins.open, io.open = opening(builtins.open), opening(io.open)  # type: ignore[assignment]
        os.mkdir, os.replace, os.fsync = counted(os.mkdir), counted(os.replace, 1), counted(os.fsync)
        storage.Sealing.write = counted(storage.Sealing.write)  # type: ignore[method-assign]


def main(argv: list[str]) -> None:
    quiet_libraries()
    _, chosen = arguments(argv, {"every": 1, "code": "ENOSPC"})
    wrong = 0
    for route in ROUTES:
        with tempfile.TemporaryDirectory() as place:
            outcomes = every_call(route, Path(place), chosen["every"], getattr(errno, chosen["code"]))
        for stage in dict.fromkeys(stage for stage, _ in outcomes):
            counts = ", ".join(f"{many} {what}" for (of, what), many in sorted(outcomes.items()) if of == stage)
            print(f"{route}, {stage}: {counts}")
        wrong += sum(many for (_, what), many in outcomes.items() if what not in ("recovered", "refused"))
    sys.exit(bool(wrong))


def every_call(route: str, place: Path, every: int, code: int) -> Counter[tuple[str, str]]:
    """What comes of each fault, by the stage in which it was; what is not as it should be is printed."""
    outcomes: Counter[tuple[str, str]] = Counter()
    whole = place / "whole"
    stages = in_child(partial(trained, route, whole, place / "whole cache", None, code))[1:]
    for failing in range(0, len(stages), every):
        for left in ("run", "cache"):
            shutil.rmtree(place / left, ignore_errors=True)
        attempt = partial(trained, route, place / "run", place / "cache")
        outcome, *_ = in_child(partial(attempt, failing, code)) or ["ended"]
        again, *_ = in_child(partial(attempt, None, code)) or ["ended"]
        if again != "recovered":
            outcome = f"not recovered: {again}"
        elif (differs := difference(place / "run", whole)) != "the same":
            outcome = differs
        outcomes[stages[failing], outcome.partition(":")[0]] += 1
        if outcome.partition(":")[0] not in ("recovered", "refused"):
            print(f"  {route}, call {failing} ({stages[failing]}): {outcome}", flush=True)
    return outcomes


def trained(route: str, directory: Path, cache: Path, failing: int | None, code: int) -> list[str]:
    """How a training ended, and the stage of each call that it made."""
    directory.mkdir(exist_ok=True)
    cfg = configured(*SHORT, *ROUTES[route], *BRIEF, f"run_dir='{directory}'", f"cache_dir='{cache}'")
    faults = Faults(failing, code)
    faults.watch()
    sys.stdout = io.StringIO()
    try:
        training = compose_training(cfg)
        faults.stage = "training"
        seconds = fit(training)
        faults.stage = "conclusion"
        conclude(training, seconds)
        outcome = "recovered"
    except Exception as error:
        told = error if isinstance(error, UserError) else disk_trouble(error)
        outcome = f"traceback: {error!r}"[:300].replace("\n", " ") if told is None else "refused"
        if told is not None and "\n" in str(told):
            outcome = f"several lines: {told!r}"
    faults.failing = None
    return [outcome, *faults.calls]


if __name__ == "__main__":
    command(main, __doc__ or "")
