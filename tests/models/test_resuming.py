import copy

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from diffusion_text.errors import UserError
from diffusion_text.models.resuming import check_moments, check_weights, is_validated, rewind


@pytest.mark.parametrize("part", ["state_dict", "current_model_state"])
def test_weights_of_another_model_are_refused(part):
    own = {"a": torch.zeros(2)}
    check_weights({part: {"a": torch.ones(2)}}, own)
    with pytest.raises(UserError, match=r"^the checkpoint does not fit the model: a has shape \(3,\), not \(2,\)$"):
        check_weights({part: {"a": torch.ones(3)}}, own)


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.tensor([0.0, torch.nan])], ids=["shape", "not finite"])
def test_moments_of_another_model_are_refused(wrong):
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([weight])
    optimizer.state[weight] = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    check_moments(optimizer)
    optimizer.state[weight]["exp_avg_sq"] = wrong
    with pytest.raises(UserError, match=r"^the checkpoint does not fit the model: the optimizer's exp_avg_sq is not"):
        check_moments(optimizer)


class Line(LightningModule):
    """As little as can be trained."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class States(Callback):
    """What Lightning keeps of its loops after each batch of a step, and after each validation."""

    def __init__(self):
        self.after_batch, self.validated = {}, {}

    def on_train_batch_end(self, trainer, *_):
        self.after_batch[trainer.global_step] = copy.deepcopy(trainer.fit_loop.state_dict())

    def on_validation_end(self, trainer, *_):
        self.validated[trainer.global_step] = copy.deepcopy(trainer.fit_loop.state_dict())


@pytest.fixture(scope="module")
def lightnings():
    """Its own states in a training of six steps of two batches each, validated after every third; and the trainer."""
    states = States()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(
        max_steps=6, max_epochs=-1, val_check_interval=6, check_val_every_n_epoch=None, accumulate_grad_batches=2,
        num_sanity_val_steps=0, accelerator="cpu", callbacks=[states], **quiet,
    )  # fmt: skip
    trainer.fit(Line(), DataLoader(torch.rand(12, 1)), DataLoader(torch.rand(2, 1)))
    return states, trainer


@pytest.mark.parametrize("saved_at", [2, 3, 4, 5])
def test_a_run_is_taken_up_at_a_validated_step_as_lightning_was_there(lightnings, saved_at):
    states, trainer = lightnings
    state = copy.deepcopy(states.after_batch[saved_at])
    rewind(state, 3, trainer)
    for part in ("epoch_loop.batch_progress", "epoch_loop.state_dict", "epoch_progress"):
        assert state[part] == states.validated[3][part]


@pytest.mark.parametrize("step", [1, 2, 4, 5])
def test_a_run_is_taken_up_between_two_steps(lightnings, step):
    states, trainer = lightnings
    own = states.after_batch[step]
    state = copy.deepcopy(states.after_batch[3])
    rewind(state, step, trainer)
    assert state["epoch_loop.state_dict"] == own["epoch_loop.state_dict"]
    assert state["epoch_progress"] == own["epoch_progress"]
    for part in ("total", "current"):
        assert set(state["epoch_loop.batch_progress"][part].values()) == {2 * step}


def test_validations_are_foreseen(lightnings):
    states, trainer = lightnings
    assert {step for step in range(1, 7) if is_validated(trainer, step)} == set(states.validated)
