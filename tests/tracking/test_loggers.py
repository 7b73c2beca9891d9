import csv

import pytest
import torch

from diffusion_text.tracking import loggers
from diffusion_text.tracking.loggers import RunCSVLogger, wandb_logger


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


@pytest.mark.parametrize(
    ("mode", "key", "offline"),
    [(None, "", True), (None, "secret", False), ("offline", "secret", True), ("online", "", False)],
)
def test_wandb_is_offline_unless_there_is_a_key(monkeypatch, tmp_path, mode, key, offline):
    built = {}
    monkeypatch.setattr(loggers, "WandbLogger", lambda **settings: built.update(settings))
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setattr(loggers.netrc, "netrc", lambda: (_ for _ in ()).throw(FileNotFoundError()))
    wandb_logger(str(tmp_path), "project", mode)
    assert built["offline"] is offline
    assert built["save_dir"] == str(tmp_path)


def test_a_login_in_netrc_is_a_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".netrc"
    file.write_text("machine example.org login me password x\n", encoding="utf-8")
    file.chmod(0o600)
    assert not loggers.has_api_key()
    file.write_text("machine api.wandb.ai login user password x\n", encoding="utf-8")
    assert loggers.has_api_key()


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"logger\.wandb\.mode must be online, offline or null, not on"):
        wandb_logger(str(tmp_path), "project", "on")
