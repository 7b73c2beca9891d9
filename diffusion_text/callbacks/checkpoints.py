"""Checkpoints that belong to a run directory, wherever it lies, and that survive whatever ends the process."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from diffusion_text import values
from diffusion_text.callbacks.monitoring import check_followed
from diffusion_text.errors import StoppedError
from diffusion_text.models.base import NotFiniteError, ends_step
from diffusion_text.models.resuming import is_validated
from diffusion_text.runs import Run
from diffusion_text.storage import older
from diffusion_text.tensors import read_tensors, write_tensors

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class SealedCheckpointIO(CheckpointIO):
    """Lightning's way to the disk, through this project's sealed files of tensors and plain values."""

    def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
        write_tensors(Path(path), checkpoint)

    def load_checkpoint(self, path, map_location=None, weights_only=None):
        return read_tensors(Path(path))

    def remove_checkpoint(self, path) -> None:
        for file in (Path(path), older(Path(path))):
            file.unlink(missing_ok=True)


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, except that a run that was moved still knows its best score: else a worse one would replace it."""

    def __init__(
        self, dirpath: str, filename: str, monitor: str | None, enable_version_counter: bool = False, **settings: Any
    ):
        super().__init__(
            values.words(dirpath, "callbacks.best.dirpath"),
            values.words(filename, "callbacks.best.filename"),
            values.or_null(values.words, monitor, "callbacks.best.monitor"),
            enable_version_counter=values.flag(enable_version_counter, "callbacks.best.enable_version_counter"),
            **settings,
        )

    def on_validation_end(self, trainer, pl_module) -> None:
        if self.monitor is not None:
            check_followed(self.monitor, "callbacks.best.monitor", trainer)
        super().on_validation_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(self.dirpath or ".") / Path(path).name) if path else path

        paths = ("best_model_path", "last_model_path", "kth_best_model_path")
        moved = {name: here(state_dict[name]) for name in paths}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | moved | {"best_k_models": scores, "dirpath": self.dirpath})


class LastCheckpoint(Checkpoint):
    """The checkpoint to go on from: last.ckpt in the run directory.

    Saved after each validation, before each (what is stopped in one goes on from there), and every so many `minutes`.
    SIGTERM or Ctrl-C ends training after the step that is being made, saved; with several processes after the next
    step that is logged, where they agree. A second one ends the process at once. A failure saves too, unless it came
    in the middle of a step, before the end of a validation, or to one of several processes.
    """

    def __init__(self, run_dir: str, minutes: float = 10.0):
        self.path = Run(Path(values.words(run_dir, "callbacks.last.run_dir"))).last
        self.seconds = 60 * values.number(minutes, "callbacks.last.minutes", above=0)
        self.whole, self.saved_at = False, 0.0
        self.received: int | None = None

    def on_train_start(self, trainer, pl_module) -> None:
        self.whole, self.saved_at = True, time.monotonic()
        for number in SIGNALS:
            signal.signal(number, self.receive)  # Lightning puts back in the end what was there before it

    def receive(self, number: int, frame: object) -> None:
        """Remember the first signal; leave the next to the system."""
        if self.received is None:
            self.received = number
            log.info("Stopping after this step; another %s ends it at once", signal.Signals(number).name)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.whole = False

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if not ends_step(trainer, batch_idx):
            return
        step = trainer.global_step
        self.whole = not is_validated(trainer, step)
        together = trainer.world_size == 1 or step % trainer.log_every_n_steps == 0
        late = together and trainer.strategy.broadcast(time.monotonic() - self.saved_at > self.seconds)
        if self.whole and (late or is_validated(trainer, step + 1)):
            self.save(trainer)
        if together:
            self.stop_if_told(trainer)

    def stop_if_told(self, trainer: Trainer) -> None:
        """End training in all processes where one received a signal."""
        if trainer.strategy.reduce_boolean_decision(self.received is not None, all=False):
            raise StoppedError(trainer.global_step, self.received or signal.SIGTERM)

    def on_train_end(self, trainer, pl_module) -> None:
        self.whole = False  # it was saved, and averages now stand for the weights
        self.stop_if_told(trainer)  # else what came in the last validation would stop nothing

    def on_validation_start(self, trainer, pl_module) -> None:
        self.whole = False

    def on_validation_end(self, trainer, pl_module) -> None:
        self.whole = True
        self.save(trainer)

    def on_exception(self, trainer, pl_module, exception) -> None:
        agreed = trainer.world_size == 1 or isinstance(exception, StoppedError)
        if self.whole and agreed and not isinstance(exception, NotFiniteError):
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save training as it is now; first what was logged, as who goes on from here logs only what follows."""
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path)
        self.saved_at = time.monotonic()
