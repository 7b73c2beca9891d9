"""The checkpoint to go on from."""

from types import SimpleNamespace

from diffusion_text.callbacks.checkpoints import LastCheckpoint


def test_what_was_logged_is_written_before_the_checkpoint(tmp_path):
    """Killed between the two, a run that goes on would lack the rows in between."""
    order = []
    logger = SimpleNamespace(save=lambda: order.append("rows"))
    trainer = SimpleNamespace(loggers=[logger], save_checkpoint=lambda path: order.append("checkpoint"))
    LastCheckpoint(str(tmp_path)).save(trainer)
    assert order == ["rows", "checkpoint"]
