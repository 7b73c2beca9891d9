import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import yaml

from diffusion_text.entry import prepared
from diffusion_text.runs import Run
from diffusion_text.sweeps import objective
from diffusion_text.tracking.records import Record

ROOT = Path(__file__).parents[1]
PRESETS = [file.stem for file in sorted((ROOT / "conf" / "sweep").glob("*.yaml"))]
TINY = [
    "trainer=cpu", "trainer.max_steps=1", "trainer.val_check_interval=1", "preflight=off",
    "sampler.num_steps=1", "num_samples=0", "report.quality=0", "report.frontier=0", "report.garbled=0",
    "report.trace_steps=0",
]  # fmt: skip

PRINTED = {"capture_output": True, "text": True, "timeout": 120, "check": False}
FAILING = ["-m", "optimizer.lr=1e-2,-1,1e-3"]

JOB = """
import json
from pathlib import Path

import hydra

from diffusion_text.entry import run, training_job, user_errors
from diffusion_text.errors import UserError
from diffusion_text.sweeps import objective

@hydra.main(version_base="1.3", config_path="CONF", config_name="train")
def main(cfg):
    with user_errors(), training_job(cfg) as unfinished:
        if not unfinished:
            raise UserError("a sweep's own directory is new")
        if cfg.seed == 1:
            raise UserError("seed=1 is bad luck: take another")
        if cfg.seed == 2:
            raise KeyError("worse luck")
        figures = {"val": {"information": {"overall": cfg.seed / 10}}}
        (Path(cfg.run_dir) / "metrics.json").write_text(json.dumps(figures))
    return objective(cfg.run_dir, cfg.objective.metric)

run(main)
"""  # a job that takes no time and has train.py's ends


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A function that sweeps with a script from the command line; returns how it ended and the sweep's directory."""
    place = tmp_path_factory.mktemp("sweeps")
    (place / "job.py").write_text(JOB.replace("CONF", str(ROOT / "conf")), encoding="utf-8")
    environment = os.environ | {"COLUMNS": "100", "PYTHONPATH": str(ROOT)}

    def sweep(name, *arguments, script="job.py"):
        words = [place / script, *arguments, f"hydra.sweep.dir={place / name}"]
        if "hydra/launcher=joblib" in arguments:  # whose own processes never start in a forked one
            ended = subprocess.run([sys.executable, *words], cwd=place, env=environment, **PRINTED)
        else:
            ended = forked.call(*words, cwd=place, env=environment)
        return ended, place / name

    return sweep


@pytest.fixture(scope="module")
def swept(sweep, small_lm):
    """Three trainings, one after another, of which the second fails."""
    return sweep("basic", *FAILING, *small_lm, *TINY, script=ROOT / "train.py")


def summary(directory):
    """The rows of a sweep's summary.csv."""
    with (directory / "summary.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# ---- a sweep on the command line


def test_a_failed_job_does_not_keep_the_others_from_finishing(swept):
    ended, directory = swept
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    assert {row["optimizer.lr"]: row["status"] for row in summary(directory)} == {
        "0.01": "finished", "0.001": "finished", "-1": "failed",
    }  # fmt: skip


def test_a_sweep_ends_with_its_runs_best_first_and_why_one_failed(swept):
    ended, directory = swept
    lines = ended.stdout[ended.stdout.rindex("┏") :].splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    cosines = {row["optimizer.lr"]: row["val/information"] for row in summary(directory)}
    best, other = sorted(("0.01", "0.001"), key=lambda name: -float(cosines[name]))
    assert [row[1] for row in rows] == [best, other, "-1"]
    assert rows[0][2] == f"{float(cosines[best]):.4g}"
    assert rows[2][2] == "failed"
    assert "1 failed: optimizer.lr=-1 is not a finite number of at least 0" in lines
    assert lines[-1] == str(directory / "sweep.html")


def test_the_summary_has_the_final_figures(swept):
    _, directory = swept
    [row] = [row for row in summary(directory) if row["optimizer.lr"] == "0.01"]
    figures = json.loads((directory / row["run"] / "metrics.json").read_text(encoding="utf-8"))
    assert float(row["val/information"]) == figures["val"]["information"]["overall"]
    assert float(row["test/loss"]) == figures["test"]["loss"]


def test_the_sweeps_page_is_drawn(swept, browser):
    browser.get((swept[1] / "sweep.html").as_uri())
    assert browser.execute_script(
        "return document.querySelectorAll('[data-chart=\"setting optimizer.lr\"] svg').length"
    )
    assert browser.get_log("browser") == []
    assert "optimizer.lr=-1 is not a finite number" in browser.page_source


@pytest.mark.parametrize(
    ("direction", "best", "launcher"),
    [("maximize", max, ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]), ("minimize", min, [])],
    ids=["joblib", "basic"],
)
def test_optuna_follows_the_objectives_direction_and_bears_failed_jobs(sweep, direction, best, launcher):
    optuna = ["hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=0", "hydra.sweeper.n_trials=6"]
    ended, directory = sweep(
        direction, "-m", *optuna, *launcher, f"objective.direction={direction}", "seed=1,2,3,4,5,6"
    )
    rows = summary(directory)
    assert ended.returncode == 1, ended.stderr
    assert len(rows) == 6
    worth = [int(row["seed"]) for row in rows if row["status"] == "finished"]
    errors = {row["error"] for row in rows if row["status"] == "failed"}
    assert errors, "this sampler seed draws one of the seeds that fail"
    assert errors <= {"UserError: seed=1 is bad luck: take another", "KeyError: 'worse luck'"}
    assert len(set(worth)) > 1
    found = yaml.safe_load((directory / "optimization_results.yaml").read_text(encoding="utf-8"))
    assert int(found["best_params"]["seed"]) == worth[0] == best(worth)


def test_submitit_sums_up_a_preset_too(sweep):
    ended, directory = sweep(
        "submitit", "sweep=schedules", "schedule=sqrt", "seed=1,5", "hydra/launcher=submitit_local"
    )
    assert ended.returncode == 1, ended.stderr
    assert [(row["seed"], row["status"]) for row in summary(directory)] == [("5", "finished"), ("1", "failed")]


def test_a_sweep_in_which_all_jobs_finish_exits_with_0(sweep):
    ended, directory = sweep("well", "-m", "seed=3,4")
    assert ended.returncode == 0, ended.stderr
    assert [row["seed"] for row in summary(directory)] == ["4", "3"]


def test_a_figure_that_no_run_has_is_named_with_the_nearest(sweep):
    ended, directory = sweep("misspelt", "-m", "seed=3,4", "objective.metric=val/inormation")
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert "objective.metric: no run has a figure val/inormation; the nearest are val/information" in line
    assert f"python -m diffusion_text.tracking.compare {directory} metric=NAME" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["prediction=x0,w"], "prediction=w: there is no such option"),
        (["objective.direction=up"], "objective.direction=up is neither maximize nor minimize"),
        (["hydra/launcher=joblip"], "hydra/launcher=joblip: there is no such option; joblib and submitit launchers"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused_in_one_line_before_its_first_job(sweep, arguments, says):
    ended, directory = sweep("refused", "-m", *arguments)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"job.py: {says}")
    assert not list(directory.glob("*/.hydra"))
    assert not (directory / "sweep.html").exists()


# ---- what a job is worth


@pytest.mark.parametrize(
    ("figures", "error", "worth"),
    [
        ({"val": {"information": {"overall": 0.5}}}, None, 0.5),
        ({"val": {"information": {"overall": 0.5}}}, "KeyError: 'x'", None),
        ({"val": {"information": {"overall": float("nan")}}}, None, None),
        (None, None, None),
    ],
    ids=["finished", "failed", "diverged", "unfinished"],
)
def test_only_a_finished_run_with_a_number_is_worth_something(tmp_path, figures, error, worth):
    run = Run(tmp_path)
    if figures:
        run.metrics.write_text(json.dumps(figures), encoding="utf-8")
    if error:
        run.error.write_text(error, encoding="utf-8")
    assert objective(str(tmp_path), "val/information") == worth


# ---- presets


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("base", [[], ["experiment=latent_diffusion", "trainer=cpu"]], ids=["default", "recipe"])
def test_every_job_of_a_preset_can_be_built(composed, preset, base):
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from diffusion_text.building import build
    from diffusion_text.checkpoints import PARTS, estimates_read
    from diffusion_text.refusals import check_parts

    composed(f"sweep={preset}")
    hydra = HydraConfig.get()
    assert hydra.mode.name == "MULTIRUN"
    overrides = OverridesParser.create().parse_overrides([f"{k}={v}" for k, v in hydra.sweeper.params.items()])
    [jobs] = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    assert len(jobs) >= 3
    for job in jobs:
        cfg = composed(*base, f"sweep={preset}", *job)
        check_parts(cfg, {name: build(cfg, name) for name in PARTS})
        assert build(cfg, "model", dim=64, estimates=estimates_read(cfg.route)).output_width > 0
        assert build(cfg, "optimizer").keywords["lr"] > 0


def test_a_job_of_a_sweep_is_resumed_as_a_run_of_its_own(swept):
    directory = next(swept[1].glob("0-*"))
    assert Record(Run(directory)).overrides["optimizer.lr"] == "0.01"
    argv = prepared(["train.py", f"resume={directory}"])
    assert "hydra.mode=RUN" in argv


def test_a_sweep_that_is_started_again_does_what_is_left(sweep, swept, small_lm):
    directory = Path(shutil.copytree(swept[1], swept[1].with_name("again")))
    broken_off, finished = (next(directory.glob(f"{job}-*")) / "metrics.json" for job in (0, 2))
    broken_off.unlink()  # as if it had been killed before its end
    before = finished.stat().st_mtime_ns
    again, _ = sweep("again", *FAILING, *small_lm, *TINY, script=ROOT / "train.py")
    assert "last.ckpt, step 1" in again.stdout + again.stderr
    assert f"{finished.parent} is finished" in again.stdout + again.stderr
    assert (broken_off.is_file(), finished.stat().st_mtime_ns) == (True, before)
    assert len(summary(directory)) == 3
