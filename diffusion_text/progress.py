"""A bar where someone watches, lines where nobody does."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich import progress
from rich.console import Console

log = logging.getLogger(__name__)
Item = TypeVar("Item")
SHORTER = {
    "train/": "",
    "val/": "val ",
    "information": "info",
    "token_accuracy": "tokens read",
    "noise_cosine": "cos ε",
    "noise_magnitude": "mag ε",
}


class Bar(RichProgressBar):
    """Rich's bar over the whole training, with names that fit a terminal."""

    def _get_train_description(self, current_epoch):
        return "Training"

    def get_metrics(self, trainer, pl_module):
        return {short(name): value for name, value in super().get_metrics(trainer, pl_module).items()}


def short(name: str) -> str:
    """A metric's name, as tables have it: `val cos ε` for `val/noise_cosine`."""
    for whole, part in SHORTER.items():
        name = name.replace(whole, part)
    return name


class ProgressLines(ProgressBar):
    """The progress bar's figures as lines of the log, one for every ten steps that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.since: tuple[float, int] | None = None

    def disable(self) -> None:
        """Lightning calls this on every rank but the first."""

    def on_train_start(self, trainer, pl_module):
        self.since = (time.monotonic(), trainer.global_step)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        step, every = trainer.global_step, 10 * trainer.log_every_n_steps
        if not trainer.is_global_zero or step % every or step == self.since[1]:
            return  # several batches make a step when they accumulate
        rate = (step - self.since[1]) / (time.monotonic() - self.since[0])
        left = (trainer.max_steps - step) / rate
        figures = "  ".join(f"{name} {value:.3f}" for name, value in self.get_metrics(trainer, pl_module).items())
        log.info("Step %d of %s, %.1f it/s, %s left  %s", step, trainer.max_steps, rate, remaining(left), figures)

    def get_metrics(self, trainer, pl_module):
        return {k: v for k, v in super().get_metrics(trainer, pl_module).items() if isinstance(v, float)}


def remaining(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{seconds // 60:.0f}:{seconds % 60:02.0f}"


def progress_bar() -> ProgressBar:
    """Rich's bar on a terminal, lines elsewhere."""
    return Bar() if sys.stdout.isatty() else ProgressLines()


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A function that is told how much more is done of something long; shown with rate and time left on a terminal."""
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Rate(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(), disable=not sys.stdout.isatty(), transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.advance(task, done)


def counted(items: Iterable[Item], done: Callable[[int], None]) -> Iterator[Item]:
    """The same items, each counted."""
    for item in items:
        yield item
        done(1)


class Rate(progress.ProgressColumn):
    """How many are done in a second."""

    def render(self, task):
        return f"{task.speed:.1f} a second" if task.speed else ""
