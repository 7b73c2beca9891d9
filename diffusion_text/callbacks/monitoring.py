"""What callbacks ask of what they are to follow: a model that writes text, a figure that is logged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import callbacks

from diffusion_text.commands import nearest
from diffusion_text.errors import UserError
from diffusion_text.models.writing import Writer
from diffusion_text.values import number, or_null, whole, words


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's, which says in one line that a figure is not logged."""

    def __init__(
        self,
        monitor: str,
        patience: int = 3,
        min_delta: float = 0.0,
        stopping_threshold: float | None = None,
        **settings: Any,
    ):
        super().__init__(
            words(monitor, "callbacks.early_stopping.monitor"),
            number(min_delta, "callbacks.early_stopping.min_delta", least=0),
            whole(patience, "callbacks.early_stopping.patience", 1),
            stopping_threshold=or_null(number, stopping_threshold, "callbacks.early_stopping.stopping_threshold"),
            **settings,
        )

    def on_validation_end(self, trainer, pl_module) -> None:
        check_followed(self.monitor, "callbacks.early_stopping.monitor", trainer)
        super().on_validation_end(trainer, pl_module)


def check_writes(model: LightningModule, setting: str) -> None:
    """Raise UserError where a callback is to look at the texts of a model that writes none."""
    if not isinstance(model, Writer):
        raise UserError(f"{setting} looks at sampled texts and {type(model).__name__} writes none: use {setting}=null")


def check_followed(monitor: str, setting: str, trainer: Trainer) -> None:
    """Raise UserError where `setting` names a figure that was not logged up to now."""
    check_monitor(monitor, setting, trainer.callback_metrics, f"was logged by step {trainer.global_step}")


def check_monitor(monitor: str, setting: str, logged: Iterable[str], told: str = "is logged") -> None:
    """Raise UserError where `setting` names a figure that is not among those that are logged."""
    whole_range, _, time_bin = monitor.rpartition("/")
    names = list(logged)
    if monitor not in names and not (time_bin.isdigit() and whole_range in names):
        raise UserError(f"{setting}={monitor}: no figure of that name {told}{nearest(monitor, names)}")
