"""The logger that every run has."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from diffusion_text.storage import appending, read_csv, write_text
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
    """Lightning's writer, which adds to the rows of before, each row once, and never leaves the file without them."""

    def __init__(self, log_dir: str):
        super().__init__(log_dir)
        self.file = Path(self.metrics_file_path)
        self.header: list[str] = []  # of the file
        if rows := self.rows():
            self.metrics_keys = list(rows[0])
            self.rewrite(rows)

    def rows(self) -> list[dict[str, str]]:
        """What is in the file."""
        return read_csv(self.file) if self.file.is_file() else []

    def rewrite(self, rows: list[dict[str, str]]) -> None:
        """Put these rows in the file's place."""
        header = dict(zip(self.metrics_keys, self.metrics_keys, strict=True))
        write_text(self.file, self.lines([header, *rows]))
        self.header = list(header)

    def save(self) -> None:
        if self.metrics:
            self._record_new_keys()
            if self.header != self.metrics_keys:
                self.rewrite(self.rows())
            with appending(self.file) as stream:
                stream.write(self.lines(self.metrics).encode())
            self.metrics = []

    def lines(self, rows: list[dict[str, Any]]) -> str:
        """Rows as they stand in the file."""
        text = io.StringIO(newline="")
        csv.DictWriter(text, self.metrics_keys).writerows(rows)
        return text.getvalue()

    def _check_log_dir_exists(self) -> None:
        """The run directory is there, and what is in it stays."""
