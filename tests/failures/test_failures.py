"""Each failure shows itself in preflight, by a number; its repair does not have it. Presets run as written, shorter."""

import json

import pytest

from diffusion_text.composition import compose_task, compose_training
from diffusion_text.errors import UserError
from diffusion_text.training import train

SHORTER = [
    "trainer=cpu", "text_space.num_steps=20", "trainer.max_steps=60", "trainer.val_check_interval=60",
    "sampler.num_steps=20",
]  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def preset(composed, cache, tmp_path):
    """A function that trains a preset; returns its preflight's checks by name, its final figures, and its run."""

    def preset(name, *overrides):
        directory = tmp_path / name.replace("/", "-")
        directory.mkdir()
        places = [f"cache_dir={cache}", f"run_dir={directory}"]
        training = compose_training(composed(f"experiment={name}", *SHORTER, *places, "preflight=warn", *overrides))
        train(training)
        checks = json.loads(training.run.preflight.read_text(encoding="utf-8"))
        return (
            {check["name"]: check for check in checks},
            json.loads(training.run.metrics.read_text(encoding="utf-8")),
            training.run,
        )

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
    checks, _, _ = preset("failure/padding", "data.positions=64")
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
