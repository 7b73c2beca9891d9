import copy
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import forked
import pytest

from diffusion_text.composition import compose_training
from diffusion_text.runs import Run
from diffusion_text.tracking.records import Record
from diffusion_text.training import train

ROOT = Path(__file__).parents[2]
TINY = [
    "preflight=off", "trainer=cpu", "trainer.val_check_interval=2", "trainer.log_every_n_steps=2",
    "data.batch_size=64", "sampler.num_steps=2", "num_samples=2", "logger=wandb", "logger.wandb.mode=offline",
    "report.quality=4", "report.garbled=2", "report.trace_steps=2",
]  # fmt: skip


def read_back(directory):
    """What W&B's own reader finds in a run's log."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(directory)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    of = {kind: [record[kind] for record in records if record["type"] == kind] for kind in {r["type"] for r in records}}
    read = SimpleNamespace(directory=directory, **of["run"][0], exit_code=of["exit"][0].get("exit_code", 0))
    read.history = [nested(record["item"]) for record in of.get("history", [])]
    read.summary = {name: value for record in of["summary"] for name, value in record["update"].items()}
    read.settings = {name: value for record in of["config"] for name, value in record["update"].items()}
    read.axes = {m["name"]: m.get("step_metric") for m in of["metric"] if "name" in m}
    return read


def nested(row):
    """With what was logged as a table, an image or a page, whose parts come as `name.part`, in one piece."""
    found = {}
    for key, value in row.items():
        name, _, part = key.partition(".")
        if part:
            found.setdefault(name, {})[part] = value
        else:
            found[name] = value
    return found


def wandb_runs(run):
    """The W&B runs of a run directory, first to last."""
    return [read_back(directory) for directory in sorted(run.directory.glob("wandb/offline-run-*"))]


@pytest.fixture(scope="module")
def latent(composed_once, local, bart_directory, tmp_path_factory):
    """A training of the latent route, which is resumed."""
    run = Run(tmp_path_factory.mktemp("latent") / "run")
    run.directory.mkdir()
    parts = ["prediction=epsilon", "route.reads=0.5"]
    backbone = ["text_space=bart_base", f"text_space.pretrained={bart_directory}", *parts]
    for steps in (2, 4):
        overrides = [*backbone, *local, *TINY, f"run_dir={run.directory}", f"trainer.max_steps={steps}"]
        train(compose_training(composed_once(*overrides)))
    return run


@pytest.fixture(scope="module")
def twice(latent):
    """Its W&B runs: that of the beginning, and that of the resumed training."""
    return wandb_runs(latent)


@pytest.fixture(scope="module")
def sweep(small_lm, tmp_path_factory):
    """A sweep of the embedding route: a job that fails while training, one that fails before, and one that is well."""
    elsewhere = tmp_path_factory.mktemp("sweep")
    overrides = [
        *small_lm, *TINY, "trainer.max_steps=2",
        "callbacks.collapse.every_n_steps=2", "callbacks.collapse.num_samples=4",
        "sampler.score_temperature=0.5,0,1",  # needs logits, which shows when it samples; cannot be; is well
        f"hydra.sweep.dir={elsewhere}/temperatures", "hydra.sweep.subdir=${hydra.job.num}",
    ]  # fmt: skip
    shown = forked.call(ROOT / "train.py", "-m", *overrides, cwd=elsewhere)
    assert shown.returncode == 1, shown.stderr
    jobs = [wandb_runs(Run(elsewhere / "temperatures" / str(number))) for number in range(3)]
    return SimpleNamespace(jobs=jobs, printed=shown.stdout + shown.stderr)


# ---- runs of a sweep


def test_each_job_of_a_sweep_has_a_run_of_its_own_in_one_group(sweep):
    (failed,), unbuilt, (well,) = sweep.jobs
    assert unbuilt == []
    assert failed.run_id != well.run_id
    assert (failed.display_name, well.display_name) == ("0", "2")
    assert failed.run_group == well.run_group == "temperatures"
    assert {row["trainer/global_step"] for row in well.history if "train/loss" in row} == {1}


def test_a_job_that_fails_is_told_from_one_that_is_well(sweep):
    (failed,), _, (well,) = sweep.jobs
    assert failed.exit_code == 1
    assert well.exit_code == 0


def test_the_command_that_uploads_is_printed_and_hardly_more(sweep):
    commands = [line.partition("upload it: ")[2] for line in sweep.printed.splitlines() if "upload it: " in line]
    assert commands == [f"wandb sync {job.directory}" for job_runs in sweep.jobs for job in job_runs]
    assert "wandb: " not in sweep.printed


# ---- runs that are resumed


def test_a_resumed_run_is_a_new_one_offline_that_has_all_history(latent, twice):
    first, second = twice
    assert first.run_id != second.run_id
    assert first.run_group == second.run_group == "run"
    kept = [(row["step"], row["train/loss"]) for row in Record(latent).history if "train/loss" in row]
    seen = [(row["trainer/global_step"], row["train/loss"]) for row in second.history if "train/loss" in row]
    assert [step for step, _ in seen] == [1, 3]
    assert seen == kept
    assert [step for step, _ in seen[:1]] == [
        row["trainer/global_step"] for row in first.history if "train/loss" in row
    ]


# ---- what is logged


def test_diagnostics_have_their_own_axis(latent, twice):
    figures = Record(latent).figures
    rows = [row for row in twice[1].history if "diagnostics/t" in row]
    assert [row["diagnostics/t"] for row in rows] == pytest.approx([0.05 + i / 10 for i in range(10)])
    assert not [row for row in rows if "trainer/global_step" in row]
    for name, prefix in {"model": "", "do_nothing": "do_nothing/", "linear": "linear/"}.items():
        for quantity, measured in figures["val"][name].items():
            metric = f"diagnostics/{prefix}{quantity}"
            assert twice[1].axes[metric] == "diagnostics/t"
            assert [row[metric] for row in rows] == pytest.approx(measured["bins"])
    assert {row["diagnostics/bound"] for row in rows} == {figures["bound"]}


def table(run, name):
    """The last table that was logged by this name."""
    [*_, logged] = [row[name] for row in run.history if name in row]
    assert logged["_type"] == "table-file"
    return json.loads((run.directory / "files" / logged["path"]).read_text(encoding="utf-8"))


def test_texts_are_in_tables(latent, twice):
    run, record = twice[1], Record(latent)
    sampled, garbled, trace = (table(run, f"texts/{name}") for name in ("sampled", "garbled", "trace"))
    assert sampled["data"] == [[line["step"], *line["texts"]] for line in record.texts]
    assert [row[0] for row in sampled["data"]] == [2, 4]
    _, *garbles = record.newest("garble*.jsonl")
    assert garbled["columns"] == ["original", "garbled", "do nothing", "restored", "by n-grams"]
    assert garbled["data"] == [list(row.values()) for row in garbles]
    steps = record.newest("trace*.jsonl")
    assert [row[trace["columns"].index("text")] for row in trace["data"]] == [row["text"] for row in steps]


def test_texts_are_logged_at_validation_and_at_the_end(twice):
    steps = [row["trainer/global_step"] for row in twice[0].history if "texts/sampled" in row]
    assert steps == [2, 2]


def test_pages_and_plots_are_logged_as_they_are(latent, twice):
    [*_, last] = [row for row in twice[1].history if "pages/report" in row]
    files = {
        name: twice[1].directory / "files" / last[name]["path"]
        for name in last
        if "/" in name and "path" in str(last[name])
    }
    page = Record(latent).newest_file("trace*.html")
    assert files["pages/report"].read_bytes() == latent.report.read_bytes()
    assert files["texts/trace_page"].read_bytes() == page.read_bytes()
    assert files["plots/noise_prediction"].read_bytes() == latent.plot.read_bytes()


def test_final_figures_are_in_the_summary_and_settings_in_the_configuration(latent, twice):
    record = Record(latent)
    assert record.final["parameters"] > 0
    for name, value in record.final.items():
        assert twice[1].summary[name] == pytest.approx(value, nan_ok=True), name
    assert twice[1].settings["trainer"]["max_steps"] == 4
    assert twice[1].settings["environment"] == record.environment


# ---- the dashboard


def named(view):
    """Every metric, axis, table and medium that a view's panels show."""
    names = set()
    for section in view["spec"]["section"]["panelBankConfig"]["sections"]:
        for panel in section["panels"]:
            config = panel["config"]
            if panel["viewType"] == "Run History Line Plot":
                names |= {*config["metrics"], config["xAxis"]}
            elif panel["viewType"] == "Media Browser":
                names |= {*config["mediaKeys"]}
            else:
                assert panel["viewType"] == "Weave"
                names.add(config["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"])
    return names


@pytest.fixture(scope="module")
def view(tmp_path_factory):
    """The dashboard, as it is written without network or login."""
    file = tmp_path_factory.mktemp("dashboard") / "view.json"
    module = [sys.executable, "-m", "diffusion_text.tracking.dashboard"]
    subprocess.run([*module, "entity=me", "dry_run=true", f"file={file}"], cwd=ROOT, check=True, timeout=60)
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def logged(twice, sweep):
    """The names of everything that trainings of the two routes logged."""
    return {name for run in (twice[1], *sweep.jobs[2]) for row in run.history for name in row}


def test_everything_that_the_dashboard_names_is_logged(view, logged):
    assert len(named(view)) > 80
    assert named(view) - logged == set()


@pytest.mark.parametrize(
    ("kind", "key"),
    [("Run History Line Plot", "metrics"), ("Run History Line Plot", "xAxis"), ("Media Browser", "mediaKeys")],
)
def test_a_misspelt_metric_does_not_pass(view, logged, kind, key):
    wrong = copy.deepcopy(view)
    sections = wrong["spec"]["section"]["panelBankConfig"]["sections"]
    panel = next(panel for section in sections for panel in section["panels"] if panel["viewType"] == kind)
    panel["config"][key] = "train/los" if key == "xAxis" else [*panel["config"][key], "train/los"]
    assert named(wrong) - logged == {"train/los"}
