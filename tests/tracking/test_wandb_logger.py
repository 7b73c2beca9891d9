from types import SimpleNamespace

import pytest

from diffusion_text.runs import Run
from diffusion_text.tracking import wandb_logger
from diffusion_text.tracking.publishing import publish
from diffusion_text.tracking.records import Record
from diffusion_text.tracking.wandb_logger import RunWandbLogger, has_api_key


@pytest.fixture
def begun(monkeypatch, tmp_path):
    """A function that starts a W&B run in one directory, as if online; returns init's settings and rows."""
    import wandb

    def begun(**settings):
        seen, rows = {}, []
        run = SimpleNamespace(
            id="first", config={}, define_metric=lambda *_, **__: None, log=lambda row: rows.append(row)
        )
        monkeypatch.setattr(wandb, "init", lambda **given: (seen.update(given), run)[1])
        (tmp_path / "wandb").mkdir(exist_ok=True)
        assert RunWandbLogger(str(tmp_path), "project", **settings).experiment is run
        return seen, rows

    (tmp_path / "metrics.csv").write_text("step,loss\n1,0.5\n", encoding="utf-8")
    return begun


def test_an_online_run_goes_on_online_in_the_same_one(begun):
    (first, _), (second, rows) = begun(mode="online"), begun(mode="online")
    assert first["id"] is None
    assert second["id"] == "first"
    assert second["resume"] == "allow"
    assert first["group"] == second["group"]
    assert rows == []


@pytest.mark.parametrize("modes", [("online", "offline"), ("offline", "online"), ("offline", "offline")])
def test_any_other_is_a_new_one_that_begins_with_what_was_before(begun, modes):
    _, (second, rows) = (begun(mode=mode) for mode in modes)
    assert second["id"] is None
    assert second["mode"] == modes[1]
    assert rows == [{"loss": 0.5, "trainer/global_step": 1}]


def test_the_group_is_kept_by_a_job_that_is_resumed_without_its_sweep(begun, tmp_path):
    (job, _), (resumed, _) = begun(sweep_dir=str(tmp_path.parent)), begun(sweep_dir="/elsewhere")
    assert job["group"] == resumed["group"] == tmp_path.parent.name


def test_a_group_that_is_asked_for_is_taken(begun, tmp_path):
    assert begun(group="mine", sweep_dir=str(tmp_path.parent))[0]["group"] == "mine"


# ---- online or offline


@pytest.mark.parametrize(
    ("mode", "key", "expected"),
    [(None, "", "offline"), (None, "secret", "online"), ("offline", "secret", "offline"), ("online", "", "online")],
)
def test_wandb_is_offline_unless_there_is_a_key(monkeypatch, begun, tmp_path, mode, key, expected):
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setattr(wandb_logger.netrc, "netrc", lambda: (_ for _ in ()).throw(FileNotFoundError()))
    settings, _ = begun(mode=mode)
    assert settings["mode"] == expected
    assert settings["dir"] == str(tmp_path)


def test_a_login_in_netrc_is_a_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".netrc"
    file.write_text("machine example.org login me password x\n", encoding="utf-8")
    file.chmod(0o600)
    assert not has_api_key()
    file.write_text("machine api.wandb.ai login user password x\n", encoding="utf-8")
    assert has_api_key()


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^logger\.wandb\.mode=on is none of online, offline, nor null"):
        RunWandbLogger(str(tmp_path), "project", "on")


# ---- the end


@pytest.mark.parametrize(("failed", "code"), [(False, 0), (True, 1)])
def test_an_online_run_ends_with_its_status_and_its_address(monkeypatch, caplog, failed, code):
    import wandb

    codes = []
    run = SimpleNamespace(finish=lambda exit_code: codes.append(exit_code), offline=False, url="https://wandb.ai/me/r")
    monkeypatch.setattr(wandb, "run", run)
    with caplog.at_level("INFO"):
        wandb_logger.finish(failed)
    assert codes == [code]
    assert caplog.messages == ["On W&B: https://wandb.ai/me/r"]


def test_without_a_wandb_logger_nothing_is_published(tmp_path):
    class Untouchable:
        """Neither a W&B logger nor anything that can be used."""

    publish([Untouchable()], Record(Run(tmp_path)))
