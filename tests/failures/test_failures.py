"""Every failure and every repair is trained as README has it, whole; only the reports are left out, and the training of
four failures that preflight tells. A failure is told by its own sign and no other, and a repair has none: what
benchmarks/failures.py asks of all, whole.
"""

import csv
import io
import json
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from benchmarks import failures as benchmark
from diffusion_text.composition import compose_task, compose_training
from diffusion_text.errors import UserError
from diffusion_text.tracking.comparison import Comparison
from diffusion_text.tracking.records import Record
from diffusion_text.training import train

TOLD = {f"failure/{name}" for name in ("padding", "snap_space", "positions", "cosine_rounding")}  # before training
BRIEF = [
    "trainer=cpu", "data.eval_texts=128", "report.quality=0", "report.frontier=0", "report.garbled=0",
    "report.trace_steps=0",
]  # fmt: skip

pytestmark = pytest.mark.usefixtures("shapes_unchecked")


@pytest.fixture(scope="module")
def ended(composed_once, tmp_path_factory):
    """A function that trains a preset, those that differ in name and objective alone once; returns its run."""
    place, trained = tmp_path_factory.mktemp("presets"), {}

    def ended(name, *overrides):
        only = ["preflight=only"] if name in TOLD else []
        cfg = composed_once(f"experiment={name}", f"cache_dir={place}/cache", "run_dir=???", *BRIEF, *overrides, *only)
        recipe = OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, cfg.keys() - {"name", "objective"}))
        if recipe not in trained:
            cfg.run_dir = str(place / re.sub("[/=]", "-", "-".join([name, *overrides])))
            Path(cfg.run_dir).mkdir()
            training = compose_training(cfg)
            with pytest.raises(UserError, match=r"^preflight: ") if only else nullcontext():
                train(training)
            trained[recipe] = training.run
        return trained[recipe]

    return ended


@pytest.fixture
def figures(ended):
    """A function from a preset to its final figures."""
    return lambda name: json.loads(ended(name).metrics.read_text(encoding="utf-8"))


def checks(run):
    return {check["name"]: check for check in json.loads(run.preflight.read_text(encoding="utf-8"))}


def percent(check):
    return float(check["measured"].split("%")[0]) / 100


@pytest.mark.parametrize("name", [name for name in benchmark.SIGNS if name not in benchmark.REFUSED])
def test_a_failure_is_told_by_its_own_sign_and_its_repair_has_none(ended, name):
    outcomes = {
        f"{side}/{name}": benchmark.outcome(ended(f"{side}/{name}").directory, 0, "") for side in ("failure", "fix")
    }
    assert benchmark.complaints(outcomes, [name]) == []


def test_every_preset_is_in_the_table():
    presets = (benchmark.ROOT / "conf" / "experiment").glob("f*/*.yaml")
    assert {f"{file.parent.name}/{file.stem}" for file in presets} == {
        f"{side}/{name}" for name in benchmark.SIGNS for side in ("failure", "fix")
    }


def test_rank_bound(ended, figures):
    failing = figures("failure/rank_bound")
    assert "cosine ≤ 0.612" in checks(ended("failure/rank_bound"))["rank of the output"]["measured"]
    ours, nothing = (failing["val"][name]["noise_cosine"]["overall"] for name in ("model", "do_nothing"))
    assert failing["bound"] == pytest.approx((24 / 64) ** 0.5)
    assert ours <= failing["bound"] < nothing
    assert "√(24/64) = 0.612" in failing["verdict"]
    assert failing["information_verdict"].startswith("Knows no more than")

    fixed = figures("fix/rank_bound")
    assert fixed["bound"] is None
    assert fixed["val"]["model"]["noise_cosine"]["overall"] > nothing
    assert fixed["val"]["information"]["overall"] > 10 * fixed["val"]["information_error"]


def test_padding(ended):
    failing, fixed = (checks(ended(f"{side}/padding"))["padding in the loss"] for side in ("failure", "fix"))
    assert percent(failing) > 0.3
    assert fixed["measured"] == "0.0% of its gradient"


def test_statistics(ended, composed, caplog):
    failing = ended("failure/statistics")
    check = checks(failing)["kept in the checkpoint"]
    assert (check["verdict"], check["measured"]) == ("fail", "1 of 3 statistics")
    assert "mean, std" in check["advice"]
    with pytest.raises(UserError, match=r"text_space\.mean"):
        compose_task(composed(f"run={failing.directory}", config="sample"))
    compose_task(composed(f"run={ended('fix/statistics').directory}", config="sample"))


def test_blow_up(figures):
    failing, fixed = (figures(f"{side}/blow_up")["samples"] for side in ("failure", "fix"))
    assert failing["rms"] > 100
    assert fixed["rms"] < 3
    assert ("blew up" in failing["verdict"], "blew up" in fixed["verdict"]) == (True, False)


def test_scale(ended, figures):
    assert float(checks(ended("failure/scale"))["loss without context"]["measured"]) < 0.05
    assert "Nothing was learned from context" in figures("failure/scale")["loss_verdict"]
    assert float(checks(ended("fix/scale"))["loss without context"]["measured"]) > 0.1


def test_clean_rounding(figures):
    assert figures("failure/clean_rounding")["samples"]["rms"] < 0.4
    assert figures("fix/clean_rounding")["samples"]["rms"] > 0.8


def test_cosine_rounding(ended):
    fixed = checks(ended("fix/cosine_rounding"))["rounding of noisy x_0"]
    by_angle, by_distance = (float(share) for share in re.findall(r"([0-9.]+)%", fixed["measured"]))
    assert by_angle == by_distance, "of rows of one length the nearest by angle is the nearest"


def test_ignored_condition(figures):
    failing, fixed = (figures(f"{side}/ignored_condition") for side in ("failure", "fix"))
    assert failing["telling_verdict"].startswith("It ignores what it is told")
    telling = fixed["val"]["telling"]
    assert telling["information"]["overall"] > 10 * telling["information_error"]
    assert fixed["telling_verdict"].startswith("What it is told is worth ")


def test_ruler(ended, composed):
    """Noise cosine would put first what information puts last, and is refused with the reason."""
    runs = [ended("fix/ruler", f"schedule={schedule}") for schedule in ("sqrt", "cosine")]
    records = [Record(run) for run in runs]
    with pytest.raises(UserError, match=benchmark.REFUSED["ruler"]) as refused:
        Comparison(records, composed("experiment=failure/ruler").objective.metric, "maximize")
    assert "schedule differs (SqrtSchedule(s=0.0001), CosineSchedule(s=0.008))" in str(refused.value)
    assert f"compare by val/information, where higher is better and {runs[1].directory.name} is the best" in str(
        refused.value
    )
    comparison = Comparison(records, composed("experiment=fix/ruler").objective.metric, "maximize")
    assert comparison.described == "val/information: estimate, nats a token."
    rows = {row["figure"]: row for row in csv.DictReader(io.StringIO(comparison.rulers()))}
    assert rows["val/information"]["differs"] == ""
    assert "SqrtSchedule" in rows["val/noise_cosine"]["differs"]
    assert rows["parameters"].items() >= {"kind": "exact", "unit": "numbers"}.items()
    assert {name for name in records[0].final if not name.rpartition("/")[2].isdigit()} == set(rows)
    assert [record.run for record in comparison.records] == runs[::-1]
    assert re.match(r"By .*val/noise_cosine another run would be first, .*: schedule differs", comparison.misleading)
