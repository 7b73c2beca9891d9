import json

import pytest

from diffusion_text.diffusion.bound import Mean
from diffusion_text.metrics.frontier import TextScores
from diffusion_text.tasks.frontier import Decoded, Frontier, Measured, Point, Reached, sentences


@pytest.fixture
def asked(sampled, lm_checkpoint, local):
    """A function from overrides of sample.py to its task and session."""
    cache = next(setting for setting in local if setting.startswith("cache_dir"))
    return lambda *overrides: sampled(lm_checkpoint, cache, "task=frontier", *overrides)


def point(nfe, knob, judge_nll, entropy):
    import numpy as np

    scores = TextScores(np.array([judge_nll * 8]), np.array([8]), np.array([entropy]))
    return Point(nfe, knob, 1.0, scores, {"entropy": 3 * entropy, "distinct_3": judge_nll / 10})


def test_the_best_knob_at_real_texts_entropy_counts():
    points = [point(4, "churn", 3.0, 2.0), point(4, "churn", 5.0, 4.0)]
    points += [point(4, "score temperature", 2.0, 2.0), point(4, "score temperature", 4.0, 4.0)]
    points += [point(8, "churn", 1.0, 1.0), point(8, "churn", 1.5, 1.5)]
    real = TextScores(*point(0, "", 1.7, 3.0).scores)
    found = Frontier(nfe=[4, 8]).qualities(points, real)
    assert found[4] == Reached("score temperature", Mean(3.0, 0.0), pytest.approx(9.0), pytest.approx(0.3))
    assert found[8] is None
    figures = {"entropy": 8.0, "distinct_3": 0.45}
    said = sentences(Measured(points, real, figures, found))
    assert said[0].startswith(
        "NFE 4: judge NLL 3.000 ± 0.000 at real text's entropy of 3.00 (real text 1.70), by score"
    )
    assert said[0].endswith("entropy of all together 9.00 (8.00), distinct 3-grams 30% (45%).")
    assert said[1].startswith("NFE 8: no setting reaches real text's entropy")
    assert said[1].endswith("nearest is 1.500 at 1.50, by churn.")
    *_, decoded = sentences(Measured(points, real, figures, found, Decoded(0.25, real)))
    assert "last error on x_0, 0.25 of its size, decoded: judge NLL 1.700 at entropy 3.00" in decoded


def test_every_setting_is_sampled_shown_and_written(asked, capsys):
    task, session = asked("task.nfe=[2,3]", "task.churn=[0,1]", "task.temperatures=[0,0.5,1]", "num_samples=4")
    task(session)
    shown = capsys.readouterr().out
    [file] = session.run.samples.glob("frontier*.json")
    written = json.loads(file.read_text(encoding="utf-8"))
    assert {(row["nfe"], row["knob"]) for row in written["points"]} == {
        (nfe, knob) for nfe in (2, 3) for knob in ("rounding temperature", "churn")
    }, "score temperature needs prediction=logits"
    assert len(written["points"]) == 2 * (3 + 2)
    assert all({"judge_nll", "text_entropy", "unique_texts"} <= set(row) for row in written["points"])
    assert {"judge_nll", "text_entropy", "entropy", "distinct_3"} <= set(written["real"])
    assert all({"judge_nll", "standard_error", "entropy", "distinct_3"} <= set(at) for at in written["at_real_entropy"])
    assert 0 < written["decoded"]["error"] < 1
    assert {"judge_nll", "text_entropy"} < set(written["decoded"])
    assert shown.count("NFE 2: ") == shown.count("NFE 3: ") == 1
    page = file.with_suffix(".html").read_text(encoding="utf-8")
    assert 'data-chart="frontier"' in page
    assert "real text" in page


def test_what_is_told_is_what_was_spent(asked):
    """Heun's steps take two evaluations each, but for the last: of four one is left."""
    task, session = asked("sampler=heun", "task.nfe=[4]", "task.churn=[0]", "task.temperatures=[0]", "num_samples=2")
    spent = {point.knob: point.nfe for point in task.points(session)}
    assert spent == {"rounding temperature": 3, "churn": 4}


def test_decoding_is_given_the_error_that_the_denoiser_leaves(asked, monkeypatch):
    """Of a tenth here; without one the texts are what their own x_0 reads as."""
    task, session = asked("task.nfe=[2]", "num_samples=4")
    tokens, read = session.judge.real("test", 4), []
    space = session.model.text_space
    decode = space.decode
    monkeypatch.setattr(space, "decode", lambda x_0, mask, limit=None: read.append(x_0) or decode(x_0, mask, limit))
    x_0 = space.encode(tokens, tokens != space.tokenizer.pad_token_id).detach()
    for factor, error in ((1.1, 0.1), (1.0, 0.0)):
        monkeypatch.setattr("diffusion_text.tasks.frontier.denoised", lambda model, x, level, mask, by=factor: by * x_0)
        found = task.decoded(session, tokens)
        assert found.error == pytest.approx(error, abs=1e-6)
        mask = space.latent_mask(tokens != space.tokenizer.pad_token_id)
        off = (read[-1] - x_0)[mask].square().mean().sqrt() / x_0[mask].square().mean().sqrt()
        assert float(off) == pytest.approx(error, rel=0.1, abs=1e-6)
    assert found.scores.nats == pytest.approx(session.judge.scores(decode(x_0, mask)).nats)


def test_a_knob_turns_one_thing(asked):
    _, session = asked("sampler=ddpm", "sampler.num_steps=7")
    frontier = Frontier()
    churned = frontier.turned(session, 5, "churn", 0.5).sampler
    assert (churned.num_steps, churned.eta, churned.spacing) == (5, 0.5, session.sampler.spacing)
    warmer = frontier.turned(session, 5, "rounding temperature", 0.7)
    assert (warmer.temperature, type(warmer.sampler), warmer.sampler.num_steps) == (0.7, type(session.sampler), 5)
    sharper = frontier.turned(session, 5, "score temperature", 0.7)
    assert (sharper.sampler.score_temperature, sharper.temperature) == (0.7, 0.0)
    assert session.sampler.num_steps == 7


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"nfe": [0]}, "task.nfe"),
        ({"churn": [-1]}, "task.churn"),
        ({"score_temperatures": [0]}, "task.score_temperatures"),
        ({"split": "tst"}, "task.split"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        Frontier(**wrong)
