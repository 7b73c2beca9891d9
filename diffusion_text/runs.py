"""The run directory: what lies where, and how a run is found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from diffusion_text.errors import UserError
from diffusion_text.storage import is_stored, not_written

EXPORTED = "model.safetensors"
ON_THE_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")  # a branch, a tag or a commit after @


@dataclass(frozen=True)
class Run:
    """A run directory, `outputs/<date>/<time>-<name>`, or the export of a run."""

    directory: Path

    @property
    def overrides(self) -> Path:
        """What was asked for, as it was written."""
        return self.directory / ".hydra" / "overrides.yaml"

    @property
    def choices(self) -> Path:
        """The option chosen in each group, where Hydra would keep it."""
        return self.directory / ".hydra" / "hydra.yaml"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.directory / "config.yaml"

    @property
    def changes(self) -> Path:
        """What of the configuration differs from the defaults."""
        return self.directory / "changes.json"

    @property
    def environment(self) -> Path:
        """Which code ran on which machine."""
        return self.directory / "environment.json"

    @property
    def history(self) -> Path:
        """All that was logged, a row a step."""
        return self.directory / "metrics.csv"

    @property
    def error(self) -> Path:
        """Why the run failed, if it did."""
        return self.directory / "error.txt"

    @property
    def report(self) -> Path:
        """All of it on one page."""
        return self.directory / "report.html"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def best(self) -> Path:
        """The checkpoint with the lowest validation loss."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.checkpoints / "last.ckpt"

    @property
    def exported(self) -> Path:
        """The weights, where it is an export."""
        return self.directory / EXPORTED

    @property
    def text_space(self) -> Path:
        """The pretrained backbone, where this project made it."""
        return self.directory / "text_space"

    @property
    def preflight(self) -> Path:
        """What was checked before training."""
        return self.directory / "preflight.json"

    @property
    def alarms(self) -> Path:
        """What the collapse monitor raised, one alarm a line."""
        return self.directory / "alarms.jsonl"

    @property
    def samples(self) -> Path:
        return self.directory / "samples"

    @property
    def texts(self) -> Path:
        """Texts sampled at validations, one validation a line."""
        return self.samples / "validation.jsonl"

    @property
    def metrics(self) -> Path:
        """The final figures."""
        return self.directory / "metrics.json"

    @property
    def plot(self) -> Path:
        """The final figures by noise level, as a picture."""
        return self.directory / "noise_prediction.png"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside, no other process trains here; raises UserError where one does."""
        lock = FileLock(self.directory / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"another process is training in {self.directory}: choose another hydra.run.dir") from error
        except OSError as error:
            raise not_written(self.directory, error) from error
        try:
            yield
        finally:
            lock.release()

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> Run:
        """The run that a checkpoint, or the weights of an export, belong to."""
        if checkpoint.name == EXPORTED:
            return cls(checkpoint.parent.resolve())  # the hub's cache has links to its files
        return cls(checkpoint.resolve().parent.parent)

    @classmethod
    def newest(cls, outputs: Path) -> Run:
        """The run below `outputs` that was trained last."""
        checkpoints = sorted(outputs.glob("**/checkpoints/*.ckpt"), key=lambda file: file.stat().st_mtime)
        if not checkpoints:
            raise UserError(f"there is no run below {outputs}: train one with python train.py, or name it with run=DIR")
        return cls.of_checkpoint(checkpoints[-1])


def find_checkpoint(run: str | None, ckpt: str | None, outputs: str) -> Path:
    """The checkpoint that a user means: `ckpt` itself, or the best of `run`, or that of the newest run; where `run` is
    an export, or the name of one on the hub, its weights.
    """
    if ckpt is not None:
        if not Path(ckpt).is_file():
            raise UserError(f"ckpt={ckpt} is no file; a run's checkpoints lie in RUN/checkpoints")
        return Path(ckpt)
    chosen = Run.newest(Path(outputs)) if run is None else Run(located(run))
    for checkpoint in (chosen.best, chosen.last):
        if is_stored(checkpoint):
            return checkpoint
    if chosen.exported.is_file():
        return chosen.exported
    raise UserError(f"run={run} is no run: it has no checkpoints/best.ckpt; runs lie in {outputs}/DATE/TIME-NAME")


def located(run: str) -> Path:
    """Where a run lies: its directory, or that to which an export's files are downloaded from the hub."""
    if Path(run).exists() or not ON_THE_HUB.fullmatch(run):
        return Path(run)
    from diffusion_text.hub import download

    return download(run, "run")
