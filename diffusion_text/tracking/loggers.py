"""Loggers that write into a run directory and lose nothing when a run is resumed."""

import csv
import netrc
import os
import sys
import warnings
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, WandbLogger


class RunCSVLogger(CSVLogger):
    """`metrics.csv` in the run directory. A resumed run goes on in the same file."""

    def __init__(self, run_dir: str):
        super().__init__(run_dir, name="", version="")
        self.earlier: list[dict[str, str]] = []
        file = Path(run_dir) / "metrics.csv"
        if file.exists():
            with file.open(newline="", encoding="utf-8") as stream:
                self.earlier = list(csv.DictReader(stream))

    @property
    def experiment(self):
        if self._experiment is None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Experiment logs directory")  # the earlier rows are kept
                writer = super().experiment
            writer.metrics = [{k: v for k, v in row.items() if v} for row in self.earlier]
            writer.save()
        return super().experiment


def wandb_logger(run_dir: str, project: str, mode: str | None = None) -> WandbLogger:
    """A W&B run that is offline unless `mode` says otherwise or an API key is at hand."""
    if mode not in (None, "online", "offline"):
        raise ValueError(f"logger.wandb.mode must be online, offline or null, not {mode}")
    offline = mode == "offline" if mode else not has_api_key()
    return WandbLogger(save_dir=run_dir, project=project, name=Path(run_dir).name, offline=offline)


def has_api_key() -> bool:
    """Whether W&B could log in without asking."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def finish(failed: bool) -> None:
    """End the W&B run, if there is one; otherwise the next job of a sweep would go on in it."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish(exit_code=int(failed))
