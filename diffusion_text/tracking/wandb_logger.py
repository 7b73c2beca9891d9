"""The logger for W&B, and the end of its run."""

from __future__ import annotations

import json
import logging
import netrc
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger

from diffusion_text.runs import Run
from diffusion_text.tracking.records import Record
from diffusion_text.values import one_of, or_null, words

log = logging.getLogger(__name__)


class RunWandbLogger(WandbLogger):
    """A W&B run for a run directory, offline unless `mode` says otherwise or an API key is at hand.

    A run that is resumed loses no history. Where the W&B run that it had last is online, and this one is to be online
    too, it goes on in the same one. Otherwise it has a new W&B run, in which everything that metrics.csv holds is
    logged first: whichever is synced last is complete. They share a group: `group`, or that of the W&B run before, or
    `sweep_dir`'s name if the run directory lies in there, or the run directory's.
    """

    def __init__(
        self, run_dir: str, project: str, mode: str | None = None, group: str | None = None, sweep_dir: str = ""
    ):
        or_null(one_of, mode, "logger.wandb.mode", options=("online", "offline"))
        words(project, "logger.wandb.project"), or_null(words, group, "logger.wandb.group")
        directory = Path(words(run_dir, "logger.wandb.run_dir"))
        in_sweep = sweep_dir and directory.resolve().is_relative_to(Path(sweep_dir).resolve())
        self.run, self.kept = Run(directory), directory / "wandb" / "run.json"
        before = json.loads(self.kept.read_text(encoding="utf-8")) if self.kept.is_file() else {}
        self.mode = mode or ("online" if has_api_key() else "offline")
        self.goes_on = self.mode == before.get("mode") == "online"
        self.group = group or before.get("group") or Path(sweep_dir if in_sweep else run_dir).name
        self.started = False
        super().__init__(
            save_dir=run_dir,
            project=project,
            name=directory.name,
            group=self.group,
            id=before["id"] if self.goes_on else None,
            mode=self.mode,
            settings={"console": "off", "silent": True},  # the end of a run is told by `finish`
        )
        del self._wandb_init["anonymous"]  # Lightning 2.6 passes it and wandb 0.31 warns of it

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run."""
        run = super().experiment
        if not self.started:  # in a spawned process it is
            self.started = True
            self.start(run)
        return run

    def start(self, run: Any) -> None:
        """What is known of the run before it trains."""
        self.kept.write_text(
            json.dumps({"id": run.id, "mode": self.mode, "group": self.group}) + "\n", encoding="utf-8"
        )
        record = Record(self.run)
        run.config.update(record.config | {"environment": record.environment}, allow_val_change=True)
        for row in [] if self.goes_on else record.history:
            self.log_metrics({name: value for name, value in row.items() if name != "step"}, int(row["step"]))


def has_api_key() -> bool:
    """Whether W&B could log in without asking."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def finish(failed: bool) -> None:
    """End the W&B run, if there is one; otherwise the next job of a sweep would go on in it. Say where it is."""
    run = sys.modules["wandb"].run if "wandb" in sys.modules else None
    if run is None:
        return
    run.finish(exit_code=int(failed))
    if run.offline:
        log.info("Kept for W&B; to upload it: wandb sync %s", shlex.quote(run.settings.sync_dir))
    else:
        log.info("On W&B: %s", run.url)
