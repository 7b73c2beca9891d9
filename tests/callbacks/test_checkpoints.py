"""The best checkpoint, and the one to go on from."""

import signal
from types import SimpleNamespace

import pytest
import torch

from diffusion_text.callbacks.checkpoints import SIGNALS, BestCheckpoint, LastCheckpoint, SealedCheckpointIO
from diffusion_text.errors import StoppedError
from diffusion_text.models.base import NotFiniteError


def test_what_was_logged_is_written_before_the_checkpoint(tmp_path):
    """Killed between the two, a run that goes on would lack the rows in between."""
    order = []
    logger = SimpleNamespace(save=lambda: order.append("rows"))
    trainer = SimpleNamespace(loggers=[logger], save_checkpoint=lambda path: order.append("checkpoint"))
    LastCheckpoint(str(tmp_path)).save(trainer)
    assert order == ["rows", "checkpoint"]


def test_of_a_removed_checkpoint_no_generation_is_left(tmp_path):
    disk, file = SealedCheckpointIO(), tmp_path / "best.ckpt"
    for step in (1, 2):
        disk.save_checkpoint({"step": step}, str(file))
    assert disk.load_checkpoint(str(file)) == {"step": 2}
    disk.remove_checkpoint(str(file))
    assert list(tmp_path.iterdir()) == []
    disk.remove_checkpoint(str(file))


def test_the_best_of_a_run_that_was_moved_lies_where_the_run_does(tmp_path):
    best = BestCheckpoint(str(tmp_path / "here"), "best", "val/loss")
    score = torch.tensor(1.0)
    state = best.state_dict() | {
        "dirpath": "/there", "best_model_path": "/there/best.ckpt", "kth_best_model_path": "/there/best.ckpt",
        "best_k_models": {"/there/best.ckpt": score}, "best_model_score": score, "kth_value": score,
    }  # fmt: skip
    best.load_state_dict(state)
    here = str(tmp_path / "here" / "best.ckpt")
    assert (best.best_model_path, best.kth_best_model_path, best.last_model_path) == (here, here, "")
    assert best.best_k_models == {here: score}
    assert best.best_model_score == score


@pytest.fixture
def last(tmp_path):
    """A callback in a training, and the paths that this saved."""
    saved = []
    trainer = SimpleNamespace(world_size=1, loggers=[], save_checkpoint=saved.append, global_step=7)
    callback = LastCheckpoint(str(tmp_path))
    before = {number: signal.getsignal(number) for number in SIGNALS}
    callback.on_train_start(trainer, None)
    yield callback, trainer, saved
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_failure_saves_what_is_whole_and_finite(last):
    callback, trainer, saved = last
    callback.on_exception(trainer, None, KeyError("out of memory, say"))
    assert saved == [callback.path]
    callback.on_exception(trainer, None, NotFiniteError("the loss"))
    callback.on_before_optimizer_step(trainer, None, None)
    callback.on_exception(trainer, None, KeyError("in the middle of a step"))
    assert saved == [callback.path]


def test_a_failure_of_one_of_several_processes_does_not_save_and_a_stop_of_all_does(last):
    callback, trainer, saved = last
    trainer.world_size = 2
    callback.on_exception(trainer, None, KeyError("here alone"))
    assert saved == []
    callback.on_exception(trainer, None, StoppedError(7, signal.SIGTERM))
    assert saved == [callback.path]


def test_the_first_signal_is_remembered_and_the_second_is_the_systems(last, caplog, monkeypatch):
    callback, *_ = last
    sent = []
    monkeypatch.setattr("os.kill", lambda process, number: sent.append((process, signal.getsignal(number))))
    monkeypatch.setattr("os.getpid", lambda: 4242)
    with caplog.at_level("INFO"):
        signal.raise_signal(signal.SIGINT)
    assert (callback.received, sent) == (signal.SIGINT, [])
    assert caplog.messages == ["Stopping after this step; another SIGINT ends it at once"]
    signal.raise_signal(signal.SIGTERM)
    assert callback.received == signal.SIGINT
    assert sent == [(4242, signal.SIG_DFL)]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"run_dir": 3}, "callbacks.last.run_dir=3 is not a text"),
        ({"run_dir": "x", "minutes": 0}, "callbacks.last.minutes=0 is not a finite number above 0"),
        ({"run_dir": "x", "minutes": "y"}, "callbacks.last.minutes=y is not a finite number above 0"),
        ({"dirpath": 3, "filename": "best", "monitor": None}, "callbacks.best.dirpath=3 is not a text"),
        ({"dirpath": "x", "filename": 3, "monitor": None}, "callbacks.best.filename=3 is not a text"),
        ({"dirpath": "x", "filename": "best", "monitor": 3}, "callbacks.best.monitor=3 is not a text, nor null"),
        (
            {"dirpath": "x", "filename": "best", "monitor": None, "enable_version_counter": 3},
            "callbacks.best.enable_version_counter=3 is neither true nor false",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings, says):
    with pytest.raises(ValueError, match=rf"^{says}$"):
        (LastCheckpoint if "run_dir" in settings else BestCheckpoint)(**settings)


def test_the_best_is_one_file_of_that_name_with_lightnings_settings(tmp_path):
    best = BestCheckpoint(str(tmp_path), "best", "val/loss", mode="max")
    assert (best.dirpath, best.filename, best.monitor, best.mode) == (str(tmp_path), "best", "val/loss", "max")
    assert best._enable_version_counter is False


@pytest.fixture
def training(last, monkeypatch):
    """The callback at work on one process or several, with a clock: a function from what is true after a batch to how
    many checkpoints there then are.
    """
    callback, trainer, saved = last
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("diffusion_text.callbacks.checkpoints.time.monotonic", lambda: clock.now)
    trainer.strategy = SimpleNamespace(
        broadcast=lambda late: late, reduce_boolean_decision=lambda received, all: received and all is False
    )
    vars(trainer).update(accumulate_grad_batches=2, val_check_interval=20, max_steps=35, log_every_n_steps=4)
    callback.on_train_start(trainer, None)

    def after(step, batch_idx=1, now=0.0, processes=1):
        trainer.global_step, trainer.world_size, clock.now = step, processes, now
        callback.on_train_batch_end(trainer, None, None, None, batch_idx)
        return len(saved)

    after.callback = callback
    return after


def test_a_checkpoint_is_saved_before_each_validation_and_when_it_is_late(training):
    assert LastCheckpoint("x", minutes=2).seconds == 120
    assert LastCheckpoint("x", minutes=0.5).seconds == 30
    assert training(8) == 0
    assert training(9, batch_idx=0) == 0, "the step has not ended"
    assert training(9) == 1, "validated after the next"
    assert training(10) == 1, "saved after the validation, which has all of it"
    assert not training.callback.whole
    assert training(11, now=600.0) == 1
    assert training.callback.whole
    assert training(12, now=600.1) == 2, "ten minutes"
    assert training(13, now=1200.0) == 2
    assert training(14, now=1200.2) == 3
    assert training(34, now=1200.2) == 4, "the last step is validated"
    assert training(35, now=9999.0) == 4


def test_several_processes_agree_where_they_log(training):
    assert training(13, now=601.0, processes=2) == 0
    assert training(16, now=601.0, processes=2) == 1
    training.callback.received = signal.SIGINT
    assert training(17, now=601.0, processes=2) == 1
    with pytest.raises(StoppedError, match=r"^stopped by SIGINT after step 20$"):
        training(20, now=601.0, processes=2)


def test_one_process_stops_after_its_step_and_another_by_what_it_was_told(training):
    training.callback.received = signal.SIGTERM
    training(11, batch_idx=0)
    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM after step 11$"):
        training(11)


def test_where_another_process_was_told_to_stop_it_counts_as_a_termination(last):
    callback, trainer, _ = last
    trainer.strategy = SimpleNamespace(reduce_boolean_decision=lambda received, all: True)
    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM after step 7$"):
        callback.on_train_end(trainer, None)
    assert callback.whole is False


def test_only_between_steps_and_validations_is_there_something_whole(last):
    callback, trainer, saved = last
    assert callback.whole is True
    callback.on_validation_start(trainer, None)
    assert callback.whole is False
    callback.on_validation_end(trainer, None)
    assert callback.whole is True
    assert saved == [callback.path]
    assert LastCheckpoint("x").whole is False
