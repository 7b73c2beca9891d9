"""Going on from a checkpoint: exactly where training was, by the settings that it has now."""

from __future__ import annotations

from typing import Any

from lightning import Trainer
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from diffusion_text.errors import UserError
from diffusion_text.tensors import misfit

Settings = list[dict[str, Any]]


def check_weights(checkpoint: dict[str, Any], own: dict[str, Tensor]) -> None:
    """Raise UserError where a checkpoint's weights are not those of a model with these `own` ones."""
    for part in ("state_dict", "current_model_state"):
        if part in checkpoint and (difference := misfit(checkpoint[part], own)):
            raise UserError(f"the checkpoint does not fit the model: {difference}")


def is_validated(trainer: Trainer, step: int) -> bool:
    """Whether a validation follows this step; then the checkpoint of it is saved after that."""
    return step * trainer.accumulate_grad_batches % int(trainer.val_check_interval) == 0 or step == trainer.max_steps


def rewind(fit_loop: dict[str, Any], step: int, trainer: Trainer) -> None:
    """Set what Lightning keeps of its loops to the end of `step`, validated if that was due.

    A checkpoint may have been saved in the middle of a step whose batches accumulate.
    """
    passed = step * trainer.accumulate_grad_batches
    progress = dict.fromkeys(("ready", "started", "processed", "completed"), passed)
    skipped = passed % int(trainer.val_check_interval) == 0  # Lightning comes by this validation again, and counts it
    fit_loop["epoch_loop.batch_progress"] |= {"total": progress, "current": dict(progress), "is_last_batch": False}
    fit_loop["epoch_loop.state_dict"] = {"_batches_that_stepped": step - skipped}
    one_epoch = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    fit_loop["epoch_progress"] |= {"total": one_epoch, "current": dict(one_epoch)}


def settings(optimizer: Optimizer) -> Settings:
    """An optimizer's settings, group by group."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


def renew(trainer: Trainer, settings: Settings) -> None:
    """Give the restored optimizer these settings, and the rate that a run of them has at this step."""
    [optimizer] = trainer.optimizers
    check_moments(optimizer)
    for group, chosen in zip(optimizer.param_groups, settings, strict=True):
        group.update(chosen)
    for config in trainer.lr_scheduler_configs:
        schedule = config.scheduler
        if isinstance(schedule, LambdaLR):
            schedule.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
            for group, factor in zip(optimizer.param_groups, schedule.lr_lambdas, strict=True):
                group["lr"] = group["initial_lr"] * factor(schedule.last_epoch)


def check_moments(optimizer: Optimizer) -> None:
    """Raise UserError where what an optimizer keeps is not of its parameters' shapes, or not finite."""
    for parameter, state in optimizer.state.items():
        for name, tensor in state.items():
            if (tensor.ndim and tensor.shape != parameter.shape) or not tensor.isfinite().all():
                raise UserError(f"the checkpoint does not fit the model: the optimizer's {name} is not of its weights")
