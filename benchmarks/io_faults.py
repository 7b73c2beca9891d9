"""Let every call that writes fail once, go on, and compare: python -m benchmarks.io_faults [every=1] [code=ENOSPC]

The N-th call by which a training opens a file to write, writes to it, makes a directory, flushes to the disk or puts a
file in its place fails, for every N (or every so many-th) of the cache's building, of the training with its saves, and
of the conclusion. It must recover or end in one line; the same command given again must end as a training that nothing
happened to.
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

from benchmarks.kills import ROUTES, SHORT, difference, in_child
from benchmarks.rows import configured
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
FINE = ("recovered", "refused")


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
        builtins.open = io.open = self.opening(io.open)  # type: ignore[assignment]
        os.mkdir, os.replace, os.fsync = self.counted(os.mkdir), self.counted(os.replace, 1), self.counted(os.fsync)

    def counted(self, call: Callable[..., Any], place: int = 0) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            self.passed(arguments[place])
            return call(*arguments, **named)

        return counting

    def opening(self, call: Callable[..., Any]) -> Callable[..., Any]:
        faults = self

        class Watched(io.FileIO):
            def write(self, data: Any) -> int:
                faults.passed(self.name)
                return super().write(data)

        def opened(
            file: Any, mode: str = "r", buffering: int = -1, *texts: Any, opener: Any = None, **text: Any
        ) -> Any:
            if not isinstance(file, (str, Path)) or not set(mode) & set("wax+"):
                return call(file, mode, buffering, *texts, opener=opener, **text)
            faults.passed(file)
            raw = Watched(str(file), mode.replace("b", "").replace("t", ""), opener=opener)
            stream = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return stream if buffering else raw
            return io.TextIOWrapper(stream, *texts, **text, line_buffering=buffering == 1)

        return opened


def main(argv: list[str]) -> None:
    quiet_libraries()
    _, chosen = arguments(argv, {"every": 1, "code": "ENOSPC"})
    wrong = 0
    for route in ROUTES:
        with tempfile.TemporaryDirectory() as place:
            outcomes = every_call(route, Path(place), chosen["every"], getattr(errno, chosen["code"]))
        for stage in dict.fromkeys(stage for stage, _ in outcomes):
            counts = ", ".join(f"{many} {what}" for (of, what), many in sorted(outcomes.items()) if of == stage)
            print(f"{route}, {stage}: {counts}", flush=True)
        wrong += sum(many for (_, what), many in outcomes.items() if what not in FINE)
    sys.exit(bool(wrong))


def every_call(route: str, place: Path, every: int, code: int) -> Counter[tuple[str, str]]:
    """What comes of each fault, by the stage in which it was; what is not as it should be is printed."""
    outcomes: Counter[tuple[str, str]] = Counter()
    before = place / "nothing"
    before.mkdir()
    for last in ("training", "conclusion"):
        whole = shutil.copytree(before, place / last)
        attempt = partial(attempted, route, last=last, code=code)
        stages = in_child(partial(attempt, whole, None))[1:]
        for failing in [call for call, stage in enumerate(stages) if last in ("training", stage)][::every]:
            trial = shutil.copytree(before, place / "trial")
            outcome, *_ = in_child(partial(attempt, trial, failing)) or ["ended"]
            again, *_ = in_child(partial(attempt, trial, None)) or ["ended"]
            if again != "recovered":
                outcome = f"not recovered: {again}"
            elif (differs := difference(trial / "run", whole / "run")) != "the same":
                outcome = differs
            shutil.rmtree(trial)
            kind = outcome.partition(":")[0]
            outcomes[stages[failing], kind] += 1
            if kind not in FINE:
                print(f"  {route}, call {failing} ({stages[failing]}): {outcome}", flush=True)
        before = whole
    return outcomes


def attempted(route: str, place: Path, failing: int | None, last: str, code: int) -> list[str]:
    """How a training ended, which goes as far as its `last` stage, and the stage of each call that it made."""
    run = place / "run"
    run.mkdir(exist_ok=True)
    faults = Faults(failing, code)
    cfg = configured(*SHORT, *ROUTES[route], *BRIEF, f"run_dir='{run}'", f"cache_dir='{place / 'cache'}'")
    faults.watch()
    sys.stdout = io.StringIO()
    try:
        training = compose_training(cfg)
        faults.stage = "training"
        seconds = fit(training)
        if last == "conclusion":
            faults.stage = "conclusion"
            conclude(training, seconds)
        outcome = "recovered"
    except Exception as error:
        told = error if isinstance(error, UserError) else disk_trouble(error)
        outcome = f"{'traceback' if told is None else 'refused'}: {told or error!r}"[:300].replace("\n", " ")
        if told is not None and "\n" in str(told):
            outcome = f"several lines: {told!r}"
    faults.failing = None
    return [outcome, *faults.calls]


if __name__ == "__main__":
    command(main, __doc__ or "")
