"""What can be done with a baseline's run: all that there is to do with tokens, and nothing that needs an x_0."""

import json

import pytest

from diffusion_text.composition import compose_training
from diffusion_text.errors import UserError

MODELS = ("autoregressive", "masked_diffusion")


@pytest.fixture
def asked(composed, small_lm, local, saved, sampled, tmp_path):
    """A function from a baseline and overrides of sample.py to its task and session."""
    cache = next(setting for setting in local if setting.startswith("cache_dir"))
    (tmp_path / "run").mkdir()

    def start(model, *overrides):
        checkpoint = saved(compose_training(composed(f"model={model}", *small_lm[1:], f"run_dir={tmp_path}/run")))
        return sampled(checkpoint, cache, *(override.replace("ITSELF", f"{tmp_path}/run") for override in overrides))

    return start


@pytest.mark.parametrize("model", MODELS)
def test_it_writes(asked, model, capsys):
    task, session = asked(model, "num_samples=2", "sampler.temperature=0.5")
    task(session)
    assert session.sampler.temperature == 0.5
    [file] = session.run.samples.glob("*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 2
    assert rows[0]["sampler"] == {"autoregressive": "lefttoright", "masked_diffusion": "unmasking"}[model]
    assert "[2]" in capsys.readouterr().out


@pytest.mark.parametrize(("model", "sign", "kind"), [(MODELS[0], "=", "exact"), (MODELS[1], "≤", "bound")])
def test_it_says_how_likely_text_is_and_how_exactly(asked, model, sign, kind, capsys):
    task, session = asked(model, "task=nll", "num_samples=3", "task.draws=2")
    task(session)
    written = json.loads((session.run.samples / "nll.json").read_text(encoding="utf-8"))
    assert written["kind"] == kind
    assert set(written["nats_per_token"]) == {"tokens", "total"}
    assert f"−log p {sign} total" in capsys.readouterr().out


def test_an_autoregressive_frontier_has_one_nfe(asked):
    task, session = asked(
        MODELS[0], "task=frontier", "num_samples=2", "task.nfe=[2,3]", "task.score_temperatures=[1,2]"
    )
    measured = task.measure(session)
    assert [(point.nfe, point.knob, point.value) for point in measured.points] == [
        (12, "temperature", 1.0),
        (12, "temperature", 2.0),
    ]


def test_a_masked_frontier_has_those_asked_for(asked):
    task, session = asked(MODELS[1], "task=frontier", "num_samples=2", "task.nfe=[2,3]", "task.score_temperatures=[1]")
    assert [(point.nfe, point.value) for point in task.measure(session).points] == [(2, 1.0), (3, 1.0)]


def test_blanks_are_filled_where_both_sides_are_seen(asked, capsys):
    task, session = asked(MODELS[1], "task=infill", "text=a __ stone", "num_samples=1")
    task(session)
    assert " stone" in capsys.readouterr().out
    task, session = asked(MODELS[0], "task=infill", "text=a __ stone", "num_samples=1")
    with pytest.raises(UserError, match="cannot fill blanks"):
        task(session)


def test_a_beginning_is_gone_on_from(asked):
    for model in MODELS:
        task, session = asked(model, "text=apple", "num_samples=2")
        task(session)
        [file] = session.run.samples.glob("*.jsonl")
        assert all(json.loads(line)["text"].startswith("apple") for line in file.read_text("utf-8").splitlines())
        file.unlink()


@pytest.mark.parametrize("task", ["garble", "trace", "probe"])
def test_what_needs_an_x_0_is_refused(asked, task):
    task, session = asked(MODELS[1], f"task={task}", "num_samples=2")
    with pytest.raises(UserError, match="has no x_0"):
        task(session)


def test_another_kinds_sampler_is_refused(asked):
    with pytest.raises(UserError, match="is not sampled by DDIMSampler"):
        asked(MODELS[1], "sampler=ddim")


def test_parts_that_it_does_not_have_are_refused(composed, small_lm, tmp_path):
    (tmp_path / "run").mkdir()
    cfg = composed(
        "model=masked_diffusion",
        *small_lm[1:],
        f"run_dir={tmp_path}/run",
        "loss={_target_: diffusion_text.diffusion.losses.MSELoss}",
    )
    with pytest.raises(UserError, match="loss= is of diffusion over x_0"):
        compose_training(cfg)


def test_a_part_that_is_chosen_in_vain_is_refused(composed, small_lm, tmp_path):
    (tmp_path / "run").mkdir()
    cfg = composed("model=autoregressive", *small_lm[1:], f"run_dir={tmp_path}/run", "schedule=sqrt")
    with pytest.raises(UserError, match="schedule= is of diffusion over x_0"):
        compose_training(cfg)


# ---- an autoregressive run as a judge


def test_a_judge_finds_a_text_as_likely_as_its_own_task_nll(asked):
    settings = ("num_samples=3", "sampler.num_steps=1")
    task, session = asked(MODELS[0], "task=nll", *settings)
    task(session)
    nll = json.loads((session.run.samples / "nll.json").read_text(encoding="utf-8"))
    task, session = asked(MODELS[0], "task=frontier", "task.judge=ITSELF", "task.score_temperatures=[1]", *settings)
    scores = session.judge.scores(session.texts("test")[0])
    assert scores.judge_nll == pytest.approx(nll["nats_per_token"]["total"]["value"])
    assert scores.tokens.sum() == nll["tokens"]
    task(session)
    [file] = session.run.samples.glob("frontier*.json")
    assert json.loads(file.read_text(encoding="utf-8"))["judge"] == str(session.run.directory)


def test_what_has_a_bound_only_is_no_judge(asked):
    _, session = asked(MODELS[1], "task=frontier", "task.judge=ITSELF")
    with pytest.raises(UserError, match=r"^task\.judge: MaskedDiffusion knows no exact likelihood"):
        session.judge  # noqa: B018


def test_a_judge_of_other_tokens_is_refused(asked, sampled, lm_checkpoint, local, composed, saved, small_lm, tmp_path):
    (tmp_path / "bytes").mkdir()
    other = ["model=autoregressive", *small_lm[2:], "tokenizer.vocab_size=320", f"run_dir={tmp_path}/bytes"]
    saved(compose_training(composed(*other)))
    _, session = sampled(lm_checkpoint, local[-1], "task=frontier", f"task.judge={tmp_path}/bytes")
    with pytest.raises(UserError, match=r"^task\.judge was trained on other tokens"):
        session.judge  # noqa: B018
