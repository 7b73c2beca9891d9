import json
import os
import re

import pytest

from diffusion_text.callbacks.collapse import CollapseMonitor
from diffusion_text.callbacks.speed import Speed
from diffusion_text.models.diffusion_lm import DiffusionLM
from diffusion_text.models.latent_diffusion import LatentDiffusion
from diffusion_text.models.text_autoencoder import TextAutoencoder
from diffusion_text.runs import Run
from diffusion_text.tracking.records import Record, flat


@pytest.fixture
def record(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss,cosine\n0,0.5,\n1,nan,0.25\n2,0.125,\n", encoding="utf-8")
    return Record(Run(tmp_path))


def test_a_run_that_wrote_nothing_is_unfinished_and_empty(tmp_path):
    record = Record(Run(tmp_path))
    assert record.status == "unfinished"
    empty = (record.config, record.changes, record.preflight, record.alarms, record.final, record.history, record.texts)
    assert not any(empty)


def test_a_curve_has_the_steps_at_which_its_metric_was_logged_and_finite(record):
    assert record.curve("loss") == [(0, 0.5), (2, 0.125)]
    assert record.curve("cosine") == [(1, 0.25)]
    assert record.curve("nothing") == []


def test_an_error_makes_a_run_a_failed_one(record):
    record.run.error.write_text("ValueError: too large\n", encoding="utf-8")
    assert (record.status, record.error) == ("failed", "ValueError: too large")


def test_the_newest_samples_are_read(record):
    record.run.samples.mkdir()
    for age, name in enumerate(("trace-2", "trace")):
        file = record.run.samples / f"{name}.jsonl"
        file.write_text(json.dumps({"name": name}) + "\n", encoding="utf-8")
        os.utime(file, (1000 - age, 1000 - age))
    assert record.newest("trace*.jsonl") == [{"name": "trace-2"}]
    assert record.newest("garble*.jsonl") == []
    for age, name in enumerate(("control-2", "control")):
        file = record.run.samples / f"{name}.json"
        file.write_text(json.dumps({"name": name}), encoding="utf-8")
        os.utime(file, (1000 - age, 1000 - age))
    assert record.newest_json("control*.json") == {"name": "control-2"}
    assert record.newest_json("frontier*.json") == {}


def test_what_is_kept_of_a_figure_is_kept_for_all_its_noise_levels(record):
    kept = {"val/skill": {"kind": "exact", "unit": "share"}}
    assert record.figure("val/skill") == {}
    (record.run.metrics).write_text(json.dumps({"figures": kept}), encoding="utf-8")
    again = Record(record.run)
    assert again.figure("val/skill") == again.figure("val/skill/12") == kept["val/skill"]
    assert again.figure("val/skill/x") == {}


def test_final_figures_have_the_names_that_are_logged():
    figures = {
        "val": {"loss": 1, "model": {"noise_cosine": {"overall": 0.5, "bins": [0.25, 0.75]}}},
        "quality": {"entropy": 2.0, "real": {"entropy": 3.0}},
        "verdict": "none",
        "bound": None,
        "alarms": [{"step": 3}],
    }
    assert dict(flat(figures)) == {
        "val/loss": 1.0,
        "val/noise_cosine": 0.5,
        "val/noise_cosine/0": 0.25,
        "val/noise_cosine/1": 0.75,
        "quality/entropy": 2.0,
        "quality/real/entropy": 3.0,
    }


@pytest.mark.parametrize("route", ["latent", "embedding"])
def test_what_a_run_ends_with_has_the_names_of_what_it_logged(finished, route):
    record = finished(route)
    logged = set().union(*record.history)
    assert record.status == "finished"
    assert record.final["step"] == 6
    shared = {name for name in record.final if name.startswith("val/")}
    assert len(shared) > 100
    assert shared <= logged
    if route == "embedding":
        assert {name for name in record.final if re.match(r"quality/(real/)?\w+$", name)} <= logged


@pytest.mark.parametrize(
    ("route", "model"), [("latent", LatentDiffusion), ("embedding", DiffusionLM), ("autoencoder", TextAutoencoder)]
)
def test_what_a_callback_may_follow_is_what_is_logged(finished, route, model):
    columns = {column for row in finished(route).history for column in row} - {"step", "epoch"}
    overall = {re.sub(r"/\d+$", "", column) for column in columns}
    followed = {*model.LOGGED, *Speed.LOGGED, *(CollapseMonitor.LOGGED if route == "embedding" else ())}
    assert overall <= followed
    assert followed <= overall | {"train/bound", "val/bound"}


@pytest.mark.parametrize("route", ["latent", "embedding", "autoencoder"])
def test_every_final_figure_has_a_kind_a_unit_and_a_ruler(finished, route):
    record = finished(route)
    overall = {name for name in record.final if not name.rpartition("/")[2].isdigit()}
    assert overall == set(record.figures["figures"])
    for name in overall:
        figure = record.figure(name)
        assert figure["kind"] in ("exact", "bound", "estimate")
        assert figure["unit"]
        assert all(figure["ruler"].values())
    if route != "autoencoder":
        assert "schedule" not in record.figure("val/information")["ruler"]
        assert "schedule" in record.figure("val/noise_cosine")["ruler"]
        assert record.figure("val/noise_cosine/3") == record.figure("val/noise_cosine")
