"""The logger that every run has."""

import csv
import warnings
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger


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
