import csv
import errno
import io
import os
from pathlib import Path

import pytest
import torch

from diffusion_text.errors import UserError
from diffusion_text.tracking.loggers import RunCSVLogger


def rows(run):
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(stream)]


@pytest.fixture
def run(tmp_path):
    """A run directory with two rows of metrics."""
    first = RunCSVLogger(str(tmp_path))
    first.log_metrics({"loss": torch.tensor(0.5)}, 1)
    first.log_metrics({"loss": 0.25}, 2)
    first.save()
    return tmp_path


EARLIER = [{"step": "1", "loss": "0.5"}, {"step": "2", "loss": "0.25"}]


def test_metrics_lie_in_the_run_directory(run):
    assert rows(run) == EARLIER


def test_a_resumed_run_goes_on_in_the_same_file(run):
    for step, metrics in ((3, {"loss": 0.125}), (4, {"cosine": 0.5})):
        logger = RunCSVLogger(str(run))
        logger.log_metrics(metrics, step)
        logger.save()
    assert rows(run) == [*EARLIER, {"step": "3", "loss": "0.125"}, {"step": "4", "cosine": "0.5"}]


def test_a_resumed_run_that_is_killed_at_once_loses_nothing(run):
    RunCSVLogger(str(run)).log_metrics({"loss": 0.125}, 3)  # and never comes to save()
    assert rows(run)[:2] == EARLIER


@pytest.mark.parametrize(("step", "kept"), [(0, 0), (1, 0), (2, 1), (3, 2), (9, 2)])
def test_what_a_killed_run_logged_after_its_checkpoint_is_dropped(run, step, kept):
    logger = RunCSVLogger(str(run))
    logger.keep(step)
    assert rows(run) == EARLIER[:kept]
    logger.log_metrics({"loss": 0.5, "cosine": 1.0}, step)
    logger.save()
    assert rows(run) == [*EARLIER[:kept], {"step": str(step), "loss": "0.5", "cosine": "1.0"}]


def test_half_a_row_is_dropped(run):
    with (run / "metrics.csv").open("a") as stream:
        stream.write("0.12")
    logger = RunCSVLogger(str(run))
    logger.log_metrics({"loss": 0.125}, 3)
    logger.save()
    assert rows(run) == [*EARLIER, {"step": "3", "loss": "0.125"}]


@pytest.mark.parametrize("row", [{"loss": 0.125}, {"loss": 0.125, "cosine": 0.5}], ids=["row", "header"])
def test_a_row_that_could_not_be_written_is_in_the_file_once(run, monkeypatch, row):
    logger = RunCSVLogger(str(run))
    logger.log_metrics(row, 3)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(UserError, match="No space left on device"):
            logger.save()
    assert rows(run) == EARLIER
    logger.save()
    assert rows(run) == [*EARLIER, {"step": "3"} | {name: str(value) for name, value in row.items()}]


def opened(path, mode="r", **text):
    return open(path, mode, **text) if mode == "r" else Refusing(path, mode)  # noqa: PTH123


class Refusing(io.FileIO):
    """A file on a disk that has no room for the end of what is written."""

    def write(self, data):
        super().write(data[:-5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
