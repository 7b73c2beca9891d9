"""Two processes on this machine train, validate, sample, save and go on, as several GPUs would."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import forked
import pytest
import torch
from torch.testing import assert_close

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
    return forked.call(ROOT / "train.py", *arguments, cwd=ROOT)


def weights(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["current_model_state"]


def losses(run):
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        return [float(row["train/loss"]) for row in csv.DictReader(stream) if row["train/loss"]]


def test_two_processes_train_as_one_with_as_many_texts_a_step_validate_sample_save_and_go_on(route, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    settings = [*route, *SHORT, "route.self_conditioning=0.5"]
    for run, parts in ((one, ["trainer=cpu", "data.batch_size=8"]), (two, [*TWO, "data.batch_size=4"])):
        ended = train(*settings, *parts, f"hydra.run.dir={run}")
        assert ended.returncode == 0, ended.stderr
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    for name, expected in weights(one).items():
        assert_close(weights(two)[name], expected, rtol=1e-3, atol=1e-4, equal_nan=True, msg=name)
    ended = train(f"resume={two}", "trainer.max_steps=8")
    assert ended.returncode == 0, ended.stderr
    assert torch.load(two / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8
    assert json.loads((two / "metrics.json").read_text(encoding="utf-8"))["step"] == 8
    steps = [json.loads(line)["step"] for line in (two / "samples" / "validation.jsonl").read_text().splitlines()]
    assert steps == [3, 6, 8]


@pytest.mark.parametrize("victim", [0, 1])
def test_one_process_killed_ends_both_within_half_a_minute(small_lm, tmp_path, victim):
    run = tmp_path / "run"
    settings = [*small_lm, *TWO, "preflight=off", "trainer.max_steps=100000", "trainer.val_check_interval=100000"]
    settings += ["trainer.log_every_n_steps=1", f"hydra.run.dir={run}", "callbacks.samples=null"]
    with forked.started(ROOT / "train.py", *settings, cwd=ROOT) as first:
        wait_for(lambda: "Step 10 of" in history(run) or not first.is_alive(), 120)
        assert first.is_alive()
        [second] = children(first.pid)
        os.kill((first.pid, second)[victim], signal.SIGKILL)
        first.join(30)
        assert first.exitcode not in (0, None)
        wait_for(lambda: not Path(f"/proc/{second}").exists() or state(second) == "Z", 30)


def history(run):
    file = run / "train.log"
    return file.read_text() if file.exists() else ""


def state(process):
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def children(process):
    """The training processes that a process started."""
    started = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in started if b"train.py" in Path(f"/proc/{child}/cmdline").read_bytes()]


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.1)
