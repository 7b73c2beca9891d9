import json
from types import SimpleNamespace

import pytest
import torch

from diffusion_text.callbacks.collapse import CollapseMonitor
from diffusion_text.callbacks.ema import EMA
from diffusion_text.diffusion.samplers import DDIMSampler
from diffusion_text.models.quality import Quality

REAL = {"top_share": 0.1, "unigram_kl": 0.2, "distinct_3": 0.8}
FINE, COMMAS, PARROT = (Quality(REAL | worse, ",") for worse in ({}, {"top_share": 0.9}, {"distinct_3": 0.1}))


@pytest.fixture
def watch(monkeypatch):
    """A function that lets a monitor see these qualities, one every ten of a hundred steps; returns the trainer."""

    def watch(monitor, *seen, batches_a_step=1, start=0):
        logged = []
        trainer = SimpleNamespace(
            is_global_zero=True,
            max_steps=100,
            accumulate_grad_batches=batches_a_step,
            should_stop=False,
            loggers=[SimpleNamespace(log_metrics=lambda figures, step: logged.append((step, figures)))],
            strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
            logged=logged,
        )
        model = SimpleNamespace(log_dict=lambda *_, **__: None)
        coming = iter(seen)
        monitor.real = FINE
        monkeypatch.setattr(monitor, "look", lambda *_: (next(coming), 1.0))
        for step in range(start + 1, start + 10 * len(seen) + 1):
            trainer.global_step = step
            for batch in range(batches_a_step):
                monitor.on_train_batch_end(trainer, model, None, None, (step - 1) * batches_a_step + batch)
        assert next(coming, None) is None
        return trainer

    return watch


@pytest.fixture
def make_monitor(tmp_path):
    return lambda **settings: CollapseMonitor(
        DDIMSampler(2), str(tmp_path), **{"every_n_steps": 10, "num_samples": 4, "warm_up": 0.0} | settings
    )


@pytest.fixture
def alarms(tmp_path):
    """A function that returns the step and name of each alarm that was written down."""

    def alarms():
        file = tmp_path / "alarms.jsonl"
        rows = map(json.loads, file.read_text(encoding="utf-8").splitlines()) if file.exists() else []
        return [(row["step"], row["name"]) for row in rows]

    return alarms


# ---- when it rings


def test_nothing_wrong_is_no_alarm(make_monitor, watch, alarms):
    assert not watch(make_monitor(action="stop"), *[FINE] * 5).should_stop
    assert alarms() == []


@pytest.mark.parametrize(("patience", "step"), [(1, 10), (2, 20), (3, 30)])
def test_an_alarm_rings_once_after_as_many_bad_checks_as_patience(make_monitor, watch, alarms, patience, step):
    watch(make_monitor(patience=patience), *[COMMAS] * 5)
    assert alarms() == [(step, "collapse/unigram")]


def test_a_good_check_begins_the_count_anew_and_each_collapse_has_its_own(make_monitor, watch, alarms):
    watch(make_monitor(), COMMAS, FINE, COMMAS, PARROT, COMMAS, COMMAS, FINE, PARROT, PARROT)
    assert alarms() == [(60, "collapse/unigram"), (90, "collapse/repetition")]


def test_what_happens_while_warming_up_counts_for_nothing(make_monitor, watch, alarms):
    watch(make_monitor(warm_up=0.45), *[COMMAS] * 7)
    assert alarms() == [(60, "collapse/unigram")]


def test_a_step_of_several_batches_is_checked_once(make_monitor, watch, alarms):
    watch(make_monitor(), COMMAS, FINE, batches_a_step=3)
    assert alarms() == []


def test_a_resumed_run_goes_on_counting(make_monitor, watch, alarms):
    first, resumed = make_monitor(), make_monitor()
    watch(first, FINE, COMMAS)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    watch(resumed, COMMAS, start=20)
    assert alarms() == [(30, "collapse/unigram")]


@pytest.mark.parametrize(("action", "stopped"), [("warn", False), ("stop", True)])
def test_an_alarm_is_logged_and_stops_training_only_when_asked_to(make_monitor, watch, caplog, action, stopped):
    assert watch(make_monitor(action=action), COMMAS, COMMAS).should_stop is stopped
    [message] = caplog.messages
    assert message.startswith("Step 20, collapse/unigram: ',' is 90% of the tokens")


def test_figures_are_logged_beside_real_texts(make_monitor, watch):
    (first, figures), (second, _) = watch(make_monitor(), COMMAS, FINE).logged
    assert (first, second) == (9, 19), "as Lightning counts"
    assert figures["quality/top_share"] == 0.9
    assert figures["quality/real/top_share"] == 0.1
    assert figures["quality/rms"] == 1.0


# ---- a look


def test_a_look_samples_the_averaged_weights_and_leaves_no_trace(make_monitor, sampled, lm_checkpoint, local):
    _, session = sampled(lm_checkpoint, local[-1])
    model, ema, seen = session.model.train(), EMA(), []
    ema.setup(None, model, "fit")
    with torch.no_grad():
        model.text_space.embedding.rows.add_(1.0)  # the average stays behind
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generate = model.generate
    model.generate = lambda *how: (seen.append(model.text_space.embedding.rows.clone()), generate(*how))[1]

    data = session.corpus
    data.prepare(model.text_space.tokenizer)
    monitor, trainer = make_monitor(), SimpleNamespace(callbacks=[ema], datamodule=data)
    monitor.on_fit_start(trainer, model)
    batch = next(iter(data.train_dataloader()))
    quality, rms = monitor.look(trainer, model, batch)

    assert rms == pytest.approx(1, abs=1e-3)
    assert set(quality.figures) == set(monitor.real.figures)
    assert quality.figures["judge_nll"] > monitor.real.figures["judge_nll"], "untrained"
    torch.testing.assert_close(seen, [before["text_space.embedding.rows"] - 1])
    assert model.training
    assert model.denoiser.training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    trainer.callbacks = []
    monitor.look(trainer, model, batch)
    assert torch.equal(seen[-1], before["text_space.embedding.rows"])


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"action": "ring"}, "action=ring is none of warn, stop"),
        ({"every_n_steps": 0}, "every_n_steps"),
        ({"num_samples": 0}, "num_samples"),
        ({"patience": 0}, "patience"),
    ],
)
def test_settings_that_cannot_be_are_refused(make_monitor, setting, says):
    with pytest.raises(ValueError, match=rf"callbacks\.collapse\..*{says}"):
        make_monitor(**setting)
