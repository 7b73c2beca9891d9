"""Each failure shows itself in preflight, by a number; its repair does not have it. Presets run as written, shorter, on
the first third of their corpus.
"""

import json
import re

import pytest

from diffusion_text.composition import compose_task, compose_training
from diffusion_text.data.python_docs import prose
from diffusion_text.errors import UserError
from diffusion_text.training import check, train

LATENTS = ["trainer.max_steps=60", "trainer.val_check_interval=60", "sampler.num_steps=20", "text_space.num_steps=20"]
BRIEF = ["preflight=warn", "report.quality=0", "report.garbled=0", "report.trace_steps=0"]
EMBEDDINGS = ["trainer.max_steps=200", "trainer.val_check_interval=200", "sampler.num_steps=20"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The first third of the presets' corpus."""
    file = tmp_path_factory.mktemp("corpus") / "prose.txt"
    file.write_text("".join(prose())[:90_000], encoding="utf-8")
    return file


def alarms(run):
    """The names of what the collapse monitor raised."""
    file = run.directory / "alarms.jsonl"
    return (
        {json.loads(line)["name"] for line in file.read_text(encoding="utf-8").splitlines()} if file.exists() else set()
    )


@pytest.fixture
def built(composed, cache, corpus, tmp_path):
    """A function that builds a preset's training, and runs its preflight; returns it and the checks by name."""

    def built(name, *overrides):
        directory = tmp_path / name.replace("/", "-")
        directory.mkdir()
        places = ["trainer=cpu", f"cache_dir={cache}", f"run_dir={directory}", "data=text_files", f"data.dir={corpus}"]
        training = compose_training(composed(f"experiment={name}", *places, *BRIEF, *overrides))
        check(training)
        checks = json.loads(training.run.preflight.read_text(encoding="utf-8"))
        return training, {check["name"]: check for check in checks}

    return built


@pytest.fixture
def preset(built):
    """A function that trains a preset; returns its preflight's checks by name, its final figures, and its run."""

    def preset(name, overrides=LATENTS):
        training, checks = built(name, *overrides)
        train(training)
        return checks, json.loads(training.run.metrics.read_text(encoding="utf-8")), training.run

    return preset


def percent(check):
    return float(check["measured"].split("%")[0]) / 100


def test_rank_bound(preset):
    checks, figures, _ = preset("failure/rank_bound")
    assert checks["rank of the output"]["verdict"] == "warn"
    assert "cosine ≤ 0.612" in checks["rank of the output"]["measured"]
    ours, nothing = (figures["val"][name]["noise_cosine"]["overall"] for name in ("model", "do_nothing"))
    assert figures["bound"] == pytest.approx((24 / 64) ** 0.5)
    assert ours <= figures["bound"] < nothing
    assert "√(24/64) = 0.612" in figures["verdict"]

    checks, figures, _ = preset("fix/rank_bound")
    assert checks["rank of the output"]["verdict"] == "ok"
    assert figures["bound"] is None
    assert figures["val"]["model"]["noise_cosine"]["overall"] > nothing


def test_padding(preset):
    checks, _, _ = preset("failure/padding", [*LATENTS, "data.positions=64"])
    assert checks["padding in the loss"]["verdict"] == "fail"
    assert percent(checks["padding in the loss"]) > 0.3
    assert checks["standardisation"]["verdict"] == "fail"

    checks, _, _ = preset("fix/padding")
    assert checks["padding in the loss"]["measured"] == "0.0% of its gradient"
    assert checks["standardisation"]["verdict"] == "ok"


def test_statistics(preset, composed, caplog):
    caplog.set_level("INFO", "diffusion_text.failures")
    checks, _, run = preset("failure/statistics")
    check = checks["kept in the checkpoint"]
    assert (check["verdict"], check["measured"]) == ("fail", "1 of 3 statistics")
    assert "mean, std" in check["advice"]
    off = [message for message in caplog.messages if message.startswith("Recomputed standard deviations are off by")]
    assert off
    assert int(off[0].split()[6]) >= 3, "two texts are not the training split"
    with pytest.raises(UserError, match=r"text_space\.mean"):
        compose_task(composed(f"run={run.directory}", config="sample"))

    checks, _, run = preset("fix/statistics")
    assert checks["kept in the checkpoint"]["measured"] == "3 of 3 statistics"
    compose_task(composed(f"run={run.directory}", config="sample"))


def test_blow_up(preset):
    checks, figures, _ = preset("failure/blow_up")
    assert checks["x_0 at the first step"]["verdict"] == "fail"
    assert figures["samples"]["rms"] > 100
    assert "blew up" in figures["samples"]["verdict"]

    checks, figures, _ = preset("fix/blow_up")
    assert checks["x_0 at the first step"]["verdict"] == "ok"
    assert figures["samples"]["rms"] < 3
    assert "blew up" not in figures["samples"]["verdict"]


def test_scale(preset, built):
    checks, figures, run = preset("failure/scale", EMBEDDINGS)
    assert checks["scale of x_0"]["verdict"] == "fail"
    assert checks["loss without context"]["verdict"] == "warn"
    assert float(checks["loss without context"]["measured"]) < 0.05
    assert "collapse/scale" in alarms(run)
    assert "Nothing was learned from context" in figures["loss_verdict"]

    _, checks = built("fix/scale")
    assert checks["scale of x_0"]["measured"] == "RMS 1.000"
    assert float(checks["loss without context"]["measured"]) > 0.1


def test_clean_rounding(preset):
    _, figures, run = preset("failure/clean_rounding", [*EMBEDDINGS, "trainer.max_steps=300", "optimizer.lr=3e-2"])
    assert "collapse/scale" in alarms(run)
    assert figures["samples"]["rms"] < 0.4
    _, figures, run = preset("fix/clean_rounding", [*EMBEDDINGS, "trainer.max_steps=100", "optimizer.lr=3e-2"])
    assert "collapse/scale" not in alarms(run)
    assert figures["samples"]["rms"] > 0.8


@pytest.mark.parametrize("name", ["positions", "snap_space"])
def test_what_preflight_sees_by_itself(built, name):
    title = {"positions": "sees positions", "snap_space": "snap returns the target's space"}[name]
    smaller = LATENTS if name == "snap_space" else ()
    failing, fixed = (built(f"{side}/{name}", *smaller)[1][title] for side in ("failure", "fix"))
    change_failing, change_fixed = (float(c["measured"].split()[-1].rstrip("%")) for c in (failing, fixed))
    assert (failing["verdict"], fixed["verdict"]) == ("fail", "ok")
    if name == "positions":
        assert change_failing == 0 < change_fixed
    else:
        assert change_failing > 50 > change_fixed == 0


def test_cosine_rounding(built):
    failing, fixed = (built(f"{side}/cosine_rounding")[1]["rounding of noisy x_0"] for side in ("failure", "fix"))
    assert (failing["verdict"], fixed["verdict"]) == ("fail", "ok")
    by_angle, by_distance = (float(share) for share in re.findall(r"([0-9.]+)%", fixed["measured"]))
    assert by_angle == by_distance, "of rows of one length the nearest by angle is the nearest"
