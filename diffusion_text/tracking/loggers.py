"""The logger that every run has."""

import csv
import io
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from diffusion_text.storage import read_csv, write_text
from diffusion_text.values import words


class RunCSVLogger(CSVLogger):
    """`metrics.csv` in the run directory. A resumed run goes on in the same file."""

    def __init__(self, run_dir: str):
        super().__init__(words(run_dir, "logger.csv.run_dir"), name="", version="")

    @property
    def experiment(self):
        if self._experiment is None:
            self._experiment = RunWriter(self.log_dir)
        return super().experiment

    def keep(self, step: int) -> None:
        """Drop the rows that come after `step` steps: a run that goes on from there logs them again."""
        rows = self.experiment.rows()
        kept = [row for row in rows if int(float(row["step"])) < step]
        if kept != rows:
            self.experiment.rewrite(kept)


class RunWriter(ExperimentWriter):
    """Lightning's writer, which adds to the rows of before and never leaves the file without them."""

    def __init__(self, log_dir: str):
        super().__init__(log_dir)
        self.file = Path(self.metrics_file_path)
        if rows := self.rows():
            self.metrics_keys = list(rows[0])
            self.rewrite(rows)

    def rows(self) -> list[dict[str, str]]:
        """What is in the file."""
        return read_csv(self.file) if self.file.is_file() else []

    def rewrite(self, rows: list[dict[str, str]]) -> None:
        """Put these rows in the file's place."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.metrics_keys)
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.file, text.getvalue())

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self.rewrite(self.rows())

    def _check_log_dir_exists(self) -> None:
        """The run directory is there, and what is in it stays."""
