"""What wrong values come to: python -m benchmarks.values [sets=2000] [seed=0] [out=FILE.jsonl]

Draws sets of overrides from all settings of conf/, with values of right and wrong kinds, and builds each as train.py
and sample.py would, on a corpus of a few words. A set is built, or refused in one line; a traceback, or one that takes
longer than LIMIT seconds, is a fault of the program's and ends the benchmark with code 1. Every set goes to `out`.
"""

from __future__ import annotations

import logging
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import datasets.config
import torch
from huggingface_hub import constants
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from benchmarks.rows import add_row, configured, table
from diffusion_text import entry
from diffusion_text.commands import arguments as read_arguments
from diffusion_text.commands import command
from diffusion_text.composition import compose_task, compose_training
from diffusion_text.errors import UserError
from diffusion_text.recorded import flat_values

LIMIT = 60  # seconds
MEMORY = 8 * 2**30  # bytes that a set may take
WORDS = ["apple", "river", "stone", "cloud", "light", "green", "seven", "table", "horse", "paper", "music", "north"]
VALUES = [
    "nan", "inf", "-inf", "-1", "0", "1", "2", "3", "7", "0.5", "2.5", "-0.5", "1e-30", "1e9", "1e30", "-1e30",
    "100000", "1000000000", "99999999999999999999999", "-99999999999999999999999", "true", "false", "null", "abc",
    "''", "'a b'", "val/los", "[]", "[1,2]", "[nan]", "[abc]", "{}", "{a:1}", "${nowhere}", "???",
]  # fmt: skip
CHOICES = {
    "train": [
        "schedule", "loss", "prediction", "weighting", "time_sampling", "sampler", "optimizer", "lr_schedule",
        "callbacks", "logger", "precision", "data", "model", "text_space", "tokenizer",
    ],
    "sample": ["sampler", "task"],
}  # fmt: skip
LEFT = ("hydra.", "cache_dir", "data.size")  # another cache, or a larger corpus, only takes time
TINY_SPACE = ["dim=16", "layers=1", "heads=2", "vocab_size=320", "max_steps=2"]


class Route(NamedTuple):
    """One of the scripts, with settings under which everything is small."""

    config: str
    settings: list[str]


class Outcome(NamedTuple):
    """What came of a set: `built`, `refused`, `traceback` or `hang`, and what was said."""

    kind: str
    told: str = ""


class TooLongError(BaseException):
    """A set takes too long; nothing that catches exceptions catches it."""


def routes(place: Path) -> dict[str, Route]:
    """Everything that can be built, small and local; makes an untrained model for sample.py."""
    (place / "words.txt").write_text(corpus(), encoding="utf-8")
    local = [
        "data=text_files", f"data.dir={place}/words.txt", "data.length=12", "data.batch_size=8", "trainer=cpu",
        f"cache_dir={place}/cache",
    ]  # fmt: skip
    space = ["text_space=bart_mini", *(f"text_space.{setting}" for setting in TINY_SPACE)]
    small = ["tokenizer=characters", "text_space.dim=16", "model.width=16", "model.depth=1", "model.heads=2"]
    found = {
        "latent": Route("train", [*space, *local]),
        "embedding": Route("train", ["model=diffusion_lm", *small, *local]),
        "autoencoder": Route("train", ["model=text_autoencoder", *space, *local]),
    }
    for name in ("latent", "embedding"):
        run = place / name
        run.mkdir()
        training = compose_training(composed("train", [*found[name].settings, f"run_dir={run}"]))
        training.trainer.strategy.connect(training.model)
        training.trainer.save_checkpoint(training.run.best, weights_only=True)
        found[f"sample {name}"] = Route("sample", [f"run={run}", f"cache_dir={place}/cache"])
    return found


def corpus() -> str:
    """Four hundred paragraphs of nine words."""
    draw = random.Random(0)
    return "\n\n".join(" ".join(draw.choice(WORDS) for _ in range(9)) for _ in range(400))


def composed(config: str, overrides: list[str]) -> DictConfig:
    """The configuration that a script's job would get."""
    GlobalHydra.instance().clear()
    return configured(*overrides, config=config)


@cache
def settings(config: str, chosen: tuple[str, ...]) -> dict[str, Any]:
    """All settings that there are with these choices, by name."""
    return {
        name: value for name, value in flat_values(composed(config, [*chosen])).items() if not name.startswith(LEFT)
    }


def draw(route: Route, chance: random.Random) -> list[str]:
    """A set: at times an option of some group, then a few values."""
    choices = []
    if chance.random() < 0.5:
        group = chance.choice(CHOICES[route.config])
        choices = [f"{group}={chance.choice(entry.options(group))}"]
        choices += ["data.size=20000"] if choices[0] in ("data=grammar", "data=markov") else []
    try:
        usual = settings(route.config, (*route.settings, *choices))
    except Exception:  # settings of the route that are none of this option's
        usual = settings(route.config, tuple(route.settings))
    return choices + [changed(n, usual[n], chance) for n in chance.sample([*usual], chance.choice((1, 1, 2, 3)))]


def changed(name: str, value: Any, chance: random.Random) -> str:
    """An override: half of the numbers and truth values are like the usual one; at times there is none."""
    kind = chance.random()
    if kind < 0.02:
        return f"~{name}"
    if kind < 0.5 and isinstance(value, bool):
        return f"{name}={chance.choice(('true', 'false'))}"
    if kind < 0.5 and isinstance(value, (int, float)):
        return f"{name}={chance.choice((value + 1, value * 2, value / 2, -value))}"
    return f"{name}={chance.choice(VALUES)}"


def outcome(route: Route, overrides: list[str], run: Path) -> Outcome:
    """Build a set as its script would."""
    run.mkdir()
    place = [f"run_dir={run}"] if route.config == "train" else []
    sys.argv = [f"{route.config}.py", *route.settings, *place, *overrides]
    try:
        with limited(LIMIT):
            cfg = composed(route.config, entry.prepared(sys.argv)[1:])
            build(route, cfg)
        return Outcome("built")
    except TooLongError:
        return Outcome("hang", traceback.format_exc(limit=-3))
    except Exception as error:
        return judged(error)
    finally:
        shutil.rmtree(run)


def build(route: Route, cfg: DictConfig) -> None:
    """What train.py and sample.py do before they train or sample."""
    if route.config == "sample":
        compose_task(cfg)
        return
    with entry.training_job(cfg):
        compose_training(cfg)


def judged(error: Exception) -> Outcome:
    """What a user is told of an error."""
    told = str(error if isinstance(error, UserError) else entry.complaint(error) or "")
    if len(told.splitlines()) == 1:
        return Outcome("refused", told)
    return Outcome("traceback", "".join(traceback.format_exception(error, limit=-4)))


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Inside, what takes longer ends with TooLongError."""

    def stop(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def survey(
    place: Path, sets: int, seed: int, keep: Callable[[dict[str, Any]], None] = lambda row: None
) -> dict[str, Counter[str]]:
    """Draw and build so many sets, as many of each route; how each route's ended."""
    found, chance = routes(place), random.Random(seed)
    counts: dict[str, Counter[str]] = {name: Counter() for name in found}
    for number in range(sets):
        name = [*found][number % len(found)]
        overrides, since = draw(found[name], chance), time.monotonic()
        kind, told = outcome(found[name], overrides, place / "run")
        counts[name][kind] += 1
        seconds = round(time.monotonic() - since, 2)
        keep({"route": name, "overrides": overrides, "outcome": kind, "told": told, "seconds": seconds})
    return counts


def main(argv: list[str]) -> None:
    """Survey, print each fault as it comes, and the counts."""
    _, given = read_arguments(argv, {"sets": 2000, "seed": 0, "out": ""})
    out = Path(given["out"]).resolve() if given["out"] else None
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))

    def keep(row: dict[str, Any]) -> None:
        if out:
            add_row(out, row)
        if row["outcome"] in ("traceback", "hang"):
            print(f"{row['outcome']}: {row['route']} {' '.join(row['overrides'])}\n{row['told']}", flush=True)

    with tempfile.TemporaryDirectory() as place, chdir(place):
        counts = survey(Path(place), given["sets"], given["seed"], keep)
    kinds = ("built", "refused", "traceback", "hang")
    print(table(["route", *kinds], [[name, *(str(count[kind]) for kind in kinds)] for name, count in counts.items()]))
    sys.exit(int(any(count["traceback"] or count["hang"] for count in counts.values())))


if __name__ == "__main__":
    command(main, __doc__)
