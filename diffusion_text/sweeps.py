"""What a sweep hands to its sweeper, and what it leaves when it ends."""

from __future__ import annotations

import atexit
import logging
import math
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, read_write

from diffusion_text.entry import fail
from diffusion_text.errors import UserError

log = logging.getLogger(__name__)


def objective(run_dir: str, metric: str) -> float | None:
    """A finished run's final figure; None where the run failed, or has no number of that name."""
    from diffusion_text.runs import Run
    from diffusion_text.tracking.comparison import nearest_figures
    from diffusion_text.tracking.records import Record

    record = Record(Run(Path(run_dir)))
    if record.status != "finished":
        return None
    value = record.final.get(metric)
    if value is None and HydraConfig.get().mode == RunMode.MULTIRUN:
        log.warning("objective.metric=%s: this run has none; %s", metric, nearest_figures(metric, set(record.final)))
    return value if value is not None and math.isfinite(value) else None


class Summary(Callback):
    """Shows how a sweep's runs compare when it ends: a table, SWEEP/summary.csv and SWEEP/sweep.html.

    A sweep in which a job failed exits with code 1.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the objective's direction; a sweeper that has a direction takes it, and bears failures."""
        direction = config.objective.direction
        if direction not in ("maximize", "minimize"):
            fail(f"objective.direction={direction} is neither maximize nor minimize")
        sweeper = config.hydra.sweeper
        wanted = {"direction": direction, "max_failure_rate": 1.0}  # Optuna's has both
        with read_write(config):
            sweeper.update({name: value for name, value in wanted.items() if name in sweeper})
        atexit.register(self.summarise, config)  # a killed job, or Ctrl-C, is the end of Hydra too

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Summarise; end with code 1 if a job failed."""
        atexit.unregister(self.summarise)
        try:
            failed = self.summarise(config)
        except UserError as error:
            fail(str(error))
        except Exception:
            sys.excepthook(*sys.exc_info())  # Hydra would make it a warning and exit with 0
            sys.exit(1)
        if failed:
            sys.exit(1)

    @staticmethod
    def summarise(config: DictConfig) -> bool:
        """Show what has come of the sweep so far; return whether a job of it failed."""
        from diffusion_text.tracking.compare import show
        from diffusion_text.tracking.comparison import Comparison, runs_below

        sweep = Path(config.hydra.sweep.dir)
        records = runs_below(sweep)
        if not records:  # refused before its first job
            return False
        try:
            comparison = Comparison(records, config.objective.metric, config.objective.direction)
        except UserError as error:
            again = f"python -m diffusion_text.tracking.compare {sweep} metric=NAME"
            raise UserError(f"objective.metric: {error}; {again} compares these runs") from error
        show(comparison, sweep.name, sweep / "summary.csv", sweep / "sweep.html")
        return any(record.status == "failed" for record in records)
