"""Damage checkpoints, run directories and exports, and read them:
python -m benchmarks.mutations [checkpoints=10000] [runs=2000] [exports=2000]

A checkpoint is damaged as a disk would (bytes of the file change, or are missing), and as a stranger would (a value in
it changes, and the checksum is right again); and so is an export. A run directory is damaged in one of its files. What
is read must be what was written, or end in one line; nothing may run, take 2 seconds of CPU time or a GiB more.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.kills import ROUTES, SHORT, in_child
from benchmarks.rows import configured
from diffusion_text.checkpoints import load, restore, restored
from diffusion_text.commands import arguments, command
from diffusion_text.composition import compose_training, quiet_libraries
from diffusion_text.entry import complaint
from diffusion_text.errors import UserError
from diffusion_text.exports import write_export
from diffusion_text.recorded import read_record
from diffusion_text.runs import Run
from diffusion_text.storage import MANIFEST, README, older, seal_directory
from diffusion_text.tensors import read_tensors, write_tensors
from diffusion_text.tracking.compare import main as compare
from diffusion_text.training import train

STRANGE = (
    None, True, -1, 0, 10**9, 10**30, float("nan"), float("inf"), "", "x", "${oc.env:HOME}", [], {}, [[1]], (),
    {"component": "os.mkdir", "path": "VICTIM"}, {"_target_": "os.mkdir", "path": "VICTIM"}, torch.zeros(0),
    torch.full((3,), torch.nan), torch.zeros(1, dtype=torch.float16),
)  # fmt: skip
STRANGE_JSON = [value for value in STRANGE if not isinstance(value, (torch.Tensor, tuple))]
LEFT_OUT = 0.05  # of the values that are damaged
FINE = {
    "checkpoints": ("refused", "as it was", "another"),  # weights, where a stranger changed and sealed them
    "runs": ("refused", "as it was", "the older generation"),
    "exports": ("refused", "as it was", "another"),
}


def main(argv: list[str]) -> None:
    quiet_libraries()
    _, chosen = arguments(argv, {"checkpoints": 10_000, "runs": 2_000, "exports": 2_000, "seed": 0})
    bad = 0
    for route in ROUTES:
        with tempfile.TemporaryDirectory() as place:
            os.chdir(place)
            run = made(route, Path(place))
            for kind in FINE:
                source = exported(run) if kind == "exports" else run
                outcomes = read_all(source, kind, chosen[kind] // len(ROUTES), chosen["seed"])
                print(f"{route}, {kind}: {', '.join(f'{many} {what}' for what, many in sorted(outcomes.items()))}")
                bad += sum(many for what, many in outcomes.items() if what not in FINE[kind])
    sys.exit(bool(bad))


def made(route: str, place: Path) -> Run:
    """A finished run."""
    run = Run(place / "run")
    run.directory.mkdir()
    places = [f"run_dir={run.directory}", f"cache_dir={place / 'cache'}", "report.quality=4", "report.frontier=0"]
    small = ["num_samples=1", "report.garbled=2", "report.trace_steps=2", "sampler.num_steps=2"]
    in_child(lambda: train(compose_training(configured(*SHORT, *ROUTES[route], *places, *small))) or ["trained"])
    return run


def exported(run: Run) -> Run:
    """The export of a run."""
    model, config, step = restored(run.best)
    weights, save = model.state_dict(), model.text_space.save
    write_export(run.directory.with_name("export"), config, weights, step, save, {}, "")
    return Run(run.directory.with_name("export"))


def read_all(run: Run, kind: str, many: int, seed: int) -> Counter[str]:
    """What comes of so many damages; those that are not as they should be are printed."""
    outcomes: Counter[str] = Counter()
    damage, read = {
        "checkpoints": (damaged_checkpoint, read_checkpoint),
        "runs": (damaged_run, read_run),
        "exports": (damaged_export, read_export),
    }[kind]
    for number in range(many):
        chance = random.Random(f"{seed} {number}")
        copy = Run(run.directory.with_name("copy"))
        shutil.rmtree(copy.directory, ignore_errors=True)
        shutil.copytree(run.directory, copy.directory)
        what = damage(copy, chance)
        outcome = outcome_of(partial(read, copy, run))
        outcomes[outcome.partition(":")[0]] += 1
        if outcome not in FINE[kind]:
            print(f"  {kind} {number}, {what}: {outcome}")
    return outcomes


def outcome_of(read: Callable[[], str]) -> str:
    """How reading something ends."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with redirect_stdout(io.StringIO()):
            outcome = read()
    except UserError as error:
        outcome = "refused" if "\n" not in str(error) else f"several lines: {error!r}"
    except Exception as error:
        outcome = f"traceback: {type(error).__name__} {error!r}"[:300]
    if Path("VICTIM").exists():
        shutil.rmtree("VICTIM")
        return "executed"
    if time.process_time() - began > 2:
        return f"slow: {time.process_time() - began:.1f} s"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return f"hungry: {grown / 2**20:.1f} GiB" if grown > 2**20 else outcome


# ---- damages


def damaged_checkpoint(run: Run, chance: random.Random) -> str:
    """Damage best.ckpt, of which there is no other generation."""
    for file in run.checkpoints.glob("*.older.ckpt"):
        file.unlink()
    return damaged_bytes(run.best, chance) if chance.random() < 0.5 else damaged_value(run.best, chance)


def damaged_bytes(file: Path, chance: random.Random) -> str:
    """Change some bytes of a file, cut it, or lengthen it."""
    content = bytearray(file.read_bytes())
    how = chance.choice(("bytes", "bytes", "cut", "zeros", "longer"))
    start = chance.randrange(len(content) + 1)
    if how == "bytes":
        for _ in range(chance.choice((1, 1, 10))):
            if content:
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif how == "cut":
        del content[start:]
    elif how == "zeros":
        content[start : start + 512] = bytes(len(content[start : start + 512]))
    else:
        content += chance.randbytes(20)
    file.write_bytes(content)
    return f"{how} of {file.name}"


def damaged_value(file: Path, chance: random.Random) -> str:
    """Change a value somewhere in a checkpoint, and seal it."""
    content = deepcopy(read_tensors(file))
    what = changed(content, STRANGE, chance)
    write_tensors(file, content)
    return what


def changed(content: dict[str, Any], values: Sequence[Any], chance: random.Random) -> str:
    """Put one of these values somewhere, or leave out what is there."""
    node, path = content, []
    while True:
        key = chance.choice(list(node) if isinstance(node, dict) else list(range(len(node))))
        path.append(str(key))
        if not isinstance(node[key], (dict, list)) or not node[key] or chance.random() < 0.2:
            break
        node = node[key]
    value = chance.choice(values)
    if chance.random() < LEFT_OUT:
        del node[key]
    else:
        node[key] = value
    return f"{'.'.join(path)} = {str(value)[:40]}"


def damaged_run(run: Run, chance: random.Random) -> str:
    """Damage one file of a run directory."""
    files = sorted(file for file in run.directory.rglob("*") if file.is_file() and file.name != ".lock")
    file = chance.choice(files)
    if file.suffix == ".json" and chance.random() < 0.5:
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content:
            key = chance.choice([*content, "hydra.run.dir", "x._target_"])
            content[key] = chance.choice(STRANGE_JSON)
            file.write_text(json.dumps(content), encoding="utf-8")
            return f"{file.relative_to(run.directory)}: {key} = {content[key]}"
    if chance.random() < 0.1:
        file.unlink()
        return f"no {file.relative_to(run.directory)}"
    return damaged_bytes(file, chance)


def damaged_export(run: Run, chance: random.Random) -> str:
    """Damage one file of an export; or change a value or a tensor in it, and seal it."""
    files = sorted(file for file in run.directory.rglob("*") if file.is_file() and file.name != README)
    file = chance.choice(files)
    if chance.random() < 0.4:
        return damaged_bytes(file, chance)
    if file.suffix == ".json":
        content = {"": json.loads(file.read_text(encoding="utf-8"))}
        what = changed(content, STRANGE_JSON, chance)
        file.write_text(json.dumps(content.get("")), encoding="utf-8")
    else:
        tensors = load_file(file)
        what = changed(tensors, [value for value in STRANGE if isinstance(value, torch.Tensor)], chance)
        save_file(tensors, file)
    for place in (run.text_space, run.directory):
        if file.name != MANIFEST:
            (place / MANIFEST).unlink()
            seal_directory(place)
    return f"{file.relative_to(run.directory)}: {what}"


# ---- reading


def read_checkpoint(run: Run, whole: Run) -> str:
    """Restore a checkpoint; whether its weights are those of the whole one."""
    config, weights, _ = load(run.best)
    model = restore(run.best, config, weights)
    if not all(tensor.isfinite().all() for tensor in model.parameters()):
        return "wrong weights: not finite"
    return compared(weights, load(whole.best)[1])


def read_export(run: Run, whole: Run) -> str:
    """Restore an export; whether its weights are those of the whole one."""
    restored(run.exported)
    return compared(load(run.exported)[1], load(whole.exported)[1])


def read_run(run: Run, whole: Run) -> str:
    """Read a run in every way that there is: to compare it with another, to go on with it, to sample it."""
    for read in (lambda: compare([str(run.directory), str(whole.directory)]), lambda: configured(*read_record(run))):
        try:
            read()
        except UserError:
            continue
        except Exception as error:
            if not complaint(error):
                raise
    outcome = read_checkpoint(run, whole)
    if outcome == "another" and compared(load(run.best)[1], load(older(whole.best))[1]) == "as it was":
        return "the older generation"
    return outcome


def compared(weights: dict[str, Any], expected: dict[str, Any]) -> str:
    """Whether weights are the expected ones; a stranger's sealed ones may be others."""
    same = all(torch.equal(weights[name].nan_to_num(), expected[name].nan_to_num()) for name in expected)
    return "as it was" if same else "another"


if __name__ == "__main__":
    command(main, __doc__ or "")
