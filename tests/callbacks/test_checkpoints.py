"""The best checkpoint, and the one to go on from."""

import signal
from types import SimpleNamespace

import pytest
import torch

from diffusion_text.callbacks.checkpoints import BestCheckpoint, LastCheckpoint, SealedCheckpointIO
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
    callback.on_train_start(trainer, None)
    yield callback, trainer, saved
    callback.teardown(trainer, None, "fit")


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
