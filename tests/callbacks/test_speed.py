from types import SimpleNamespace

import pytest
import torch

from diffusion_text.callbacks import speed
from diffusion_text.callbacks.speed import Speed


@pytest.fixture
def run(monkeypatch):
    """A function that trains for some steps of 2 × 8 positions that take half a second; returns what was logged.

    Steps are logged every two, and validated, which takes a minute, after the third.
    """

    def run(steps, batches_a_step=1, start=0, world_size=1):
        clock, logged = [0.0], []
        monkeypatch.setattr(speed.time, "monotonic", lambda: clock[0])
        trainer = SimpleNamespace(
            global_step=start, log_every_n_steps=2, world_size=world_size, accumulate_grad_batches=batches_a_step,
            max_steps=100,
        )  # fmt: skip
        module = SimpleNamespace(log_dict=lambda figures: logged.append((trainer.global_step, figures)))
        callback, batch = Speed(), {"mask": torch.zeros(2, 8, dtype=torch.bool)}
        callback.on_train_start(trainer, module)
        for step in range(start, start + steps):
            for number in range(1, batches_a_step + 1):
                clock[0] += 0.5 / batches_a_step
                trainer.global_step = step + number // batches_a_step
                callback.on_train_batch_end(trainer, module, None, batch, step * batches_a_step + number - 1)
            if trainer.global_step == 3:
                callback.on_validation_start(trainer, module)
                clock[0] += 60
                callback.on_validation_end(trainer, module)
        return logged

    return run


EVEN = {"speed/steps_per_second": 2.0, "speed/tokens_per_second": 32.0}


def test_speed_is_that_of_the_steps_since_it_was_logged_without_validation(run):
    assert run(4) == [(2, EVEN), (4, EVEN)]


def test_a_run_that_goes_on_counts_from_there(run):
    assert run(1, start=7) == [(8, EVEN)]


def test_a_step_of_several_batches_is_one_step_with_the_positions_of_all(run):
    assert run(2, batches_a_step=4) == [(2, EVEN | {"speed/tokens_per_second": 128.0})]


def test_the_positions_of_all_processes_count(run):
    assert run(2, world_size=3) == [(2, EVEN | {"speed/tokens_per_second": 96.0})]
