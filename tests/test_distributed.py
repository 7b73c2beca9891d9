"""Two processes on this machine train, validate, sample, save and go on, as several GPUs would."""

import csv
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import forked
import pytest
from hydra.core.hydra_config import HydraConfig
from torch.testing import assert_close

from diffusion_text.tensors import read_tensors

ROOT = Path(__file__).parents[1]
ALONE = ["trainer=cpu", "trainer.devices=1"]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
SHARED = ["trainer=fsdp", *TWO[1:]]
SHORT = [
    "trainer.max_steps=6", "trainer.val_check_interval=3", "trainer.log_every_n_steps=1", "sampler.num_steps=2",
    "preflight=warn", "num_samples=3", "report.quality=4", "report.frontier=0", "report.garbled=0",
    "report.trace_steps=0", "data.global_batch_size=8", "data.batch_size=5", "data.eval_texts=27",
]  # fmt: skip


def train(*arguments):
    return forked.call(ROOT / "train.py", *arguments, cwd=ROOT)


def train_together(*arguments):
    return forked.srun(ROOT / "train.py", *arguments, cwd=ROOT)


@pytest.fixture(scope="module")
def trained(local, small_lm, bart_directory, tmp_path_factory):
    """A function from a route, and how many processes train it in which way, to the run, which is made once."""
    place = tmp_path_factory.mktemp("runs")
    doubting = ["route.self_conditioning=0.5"]
    collapse = ["callbacks.collapse.every_n_steps=2", "callbacks.collapse.num_samples=3"]
    routes = {
        "latent": ["text_space=bart_base", f"text_space.pretrained={bart_directory}", *doubting, *local],
        "embedding": [*small_lm, *doubting, *collapse],
        "masked": [*small_lm, "model=masked_diffusion"],
    }

    def trained(route, how):
        run = place / f"{route}-{how[0].partition('=')[2]}"
        if not run.exists():
            settings = [*routes[route], *SHORT, *how, f"hydra.run.dir={run}"]
            for ended in [train(*settings)] if how == ALONE else train_together(*settings):
                assert ended.returncode == 0, ended.stderr
        return run

    return trained


def curve(run, name):
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row[name]]


def checkpoint(run):
    return read_tensors(run / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize(
    ("route", "how"),
    [("latent", TWO), ("embedding", TWO), ("masked", TWO), ("latent", SHARED), ("embedding", SHARED)],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_two_processes_train_evaluate_and_sample_as_one_does(trained, route, how):
    one, two = trained(route, ALONE), trained(route, how)
    for name, points in (("train/loss", 6), ("train/gradient_norm", 6), ("val/loss", 2)):
        assert len(curve(one, name)) == points
        assert curve(two, name) == pytest.approx(curve(one, name), rel=1e-5), name
    for part in ("current_model_state", "state_dict"):
        assert_close(checkpoint(two)[part], checkpoint(one)[part], rtol=1e-3, atol=1e-4, equal_nan=True)
    figures = [json.loads((run / "metrics.json").read_text(encoding="utf-8")) for run in (one, two)]
    assert figures[1]["test"]["loss"] == pytest.approx(figures[0]["test"]["loss"], rel=1e-5)
    assert figures[1]["quality"] == figures[0]["quality"]
    texts = [{file.name: file.read_text() for file in (run / "samples").glob("*.jsonl")} for run in (one, two)]
    assert texts[0] == texts[1]
    assert len(texts[0]["validation.jsonl"].splitlines()) == 2
    alarms = [run / "alarms.jsonl" for run in (one, two)]
    assert alarms[0].exists() == alarms[1].exists()


def test_any_number_of_processes_goes_on_from_what_another_saved(trained, tmp_path):
    """One from two that share the weights; two that do from one; two that Lightning starts."""
    begun = (ALONE, SHARED, ALONE, TWO)
    runs = [shutil.copytree(trained("embedding", how), tmp_path / str(i)) for i, how in enumerate(begun)]
    more = ["trainer.max_steps=9", "num_samples=0", "report.quality=0"]
    for run, how in zip(runs, (ALONE, ALONE, SHARED, []), strict=True):
        settings = [f"resume={run}", *more, *how]
        for ended in train_together(*settings) if how == SHARED else [train(*settings)]:
            assert ended.returncode == 0, ended.stderr
    for run in runs:
        assert checkpoint(run)["global_step"] == 9
        assert curve(run, "train/loss") == pytest.approx(curve(runs[0], "train/loss"), rel=1e-5)
        assert curve(run, "val/loss") == pytest.approx(curve(runs[0], "val/loss"), rel=1e-5)
    moments = [checkpoint(run)["optimizer_states"][0]["state"] for run in runs]
    for other in moments[1:]:
        assert_close(other, moments[0], rtol=1e-3, atol=1e-5)


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


# ---- SLURM, as far as this machine goes: its commands start the tasks here, at once

COMMANDS = {
    "sbatch": """
        tasks=$(sed -n 's/^#SBATCH --ntasks-per-node=//p' "$1")
        export SLURM_NTASKS=$tasks SLURM_NTASKS_PER_NODE=$tasks
        export SLURM_JOB_NAME=train SLURM_JOB_NODELIST=localhost SLURM_JOB_NUM_NODES=1 SLURM_NNODES=1
        sh -c 'export SLURM_JOB_ID=$$; exec sh "$0"' "$1" > /dev/null 2>&1 &
        echo "Submitted batch job $!"
    """,
    "srun": """
        while [ "$1" != "$PYTHON" ]; do
            if [ "$1" = --error ]; then log=$2; fi
            shift
        done
        for task in $(seq 0 $((SLURM_NTASKS - 1))); do
            SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" \
                > "$(echo "$log" | sed "s/%j/$SLURM_JOB_ID/g; s/%t/$task/")" 2>&1 &
        done
        wait
    """,
    "sacct": """
        echo 'JobID|State|NodeList'
        for job; do
            case $job in *[!0-9]*) ;; *) kill -0 "$job" || echo "$job|COMPLETED|localhost" ;; esac
        done
    """,
}


@pytest.fixture
def cluster(tmp_path):
    """An environment in which SLURM's commands are these."""
    for name, script in COMMANDS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
        (tmp_path / name).chmod(0o700)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
    return os.environ | path


def test_a_sweep_whose_runs_are_jobs_of_several_processes(trained, small_lm, cluster, tmp_path):
    sweep = ["-m", "hydra/launcher=slurm", "hydra.launcher.gpus_per_node=2", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    brief = ["preflight=off", "num_samples=0", "report.quality=0", "trainer.max_steps=3", "callbacks.samples=null"]
    settings = [*small_lm, "route.self_conditioning=0.5", *SHORT, *TWO, *brief]
    ended = forked.call(ROOT / "train.py", *sweep, *settings, cwd=ROOT, env=cluster)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [run] = (tmp_path / "sweep").glob("0-*")
    assert json.loads((run / "metrics.json").read_text(encoding="utf-8"))["step"] == 3
    assert curve(run, "train/loss")[:2] == pytest.approx(curve(trained("embedding", ALONE), "train/loss")[:2], rel=1e-5)
    assert (tmp_path / "sweep" / "summary.csv").exists()


@pytest.mark.parametrize("how", [TWO, SHARED], ids=["ddp", "fsdp"])
def test_a_sweep_on_this_machine_of_trainings_that_start_processes_is_refused(small_lm, tmp_path, how):
    ended = train("-m", *small_lm, *SHORT, *how, f"hydra.sweep.dir={tmp_path}")
    assert ended.returncode == 1
    assert "in a sweep would run the whole sweep again on every other GPU: use hydra/launcher=slurm" in " ".join(
        ended.stdout.split()
    )
    assert not list(tmp_path.glob("*/checkpoints"))


def test_a_job_knows_its_nodes_and_starts_a_task_for_each_gpu(composed, monkeypatch):
    monkeypatch.setenv("SLURM_NNODES", "3")
    cfg = composed("hydra/launcher=slurm", "hydra.launcher.gpus_per_node=4", "hydra.launcher.nodes=3", "trainer=ddp")
    launcher = HydraConfig.get().launcher
    assert (cfg.trainer.num_nodes, cfg.trainer.devices) == (3, "auto")
    assert (launcher.nodes, launcher.tasks_per_node, launcher.gpus_per_node) == (3, 4, 4)
    monkeypatch.delenv("SLURM_NNODES")
    assert composed("trainer=fsdp").trainer.num_nodes == 1
