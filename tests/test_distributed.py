"""Two processes on this machine train, validate, sample, save and go on, as several GPUs would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
SHORT = [
    "trainer.max_steps=6", "trainer.val_check_interval=3", "trainer.log_every_n_steps=1", "sampler.num_steps=2",
    "preflight=warn", "num_samples=2", "report.quality=4", "report.frontier=0", "report.garbled=0",
    "report.trace_steps=0",
]  # fmt: skip


@pytest.fixture(params=["latent", "embedding"])
def route(request, local, small_lm, bart_directory):
    """Overrides of a route, local and small."""
    if request.param == "latent":
        return ["text_space=bart_base", f"text_space.pretrained={bart_directory}", *local]
    return [*small_lm, "callbacks.collapse.every_n_steps=2", "callbacks.collapse.num_samples=4"]


def train(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def test_two_processes_train_validate_sample_save_and_go_on(route, tmp_path):
    run = tmp_path / "run"
    ended = train(*route, *TWO, *SHORT, f"hydra.run.dir={run}")
    assert ended.returncode == 0, ended.stderr
    ended = train(f"resume={run}", "trainer.max_steps=8")
    assert ended.returncode == 0, ended.stderr
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 8
    figures = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert figures["step"] == 8
    steps = [json.loads(line)["step"] for line in (run / "samples" / "validation.jsonl").read_text().splitlines()]
    assert steps == [3, 6, 8]
