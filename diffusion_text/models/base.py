"""What every LightningModule here does alike: randomness that follows from the step, optimisation, a finite loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from lightning import LightningModule
from torch import Tensor

from diffusion_text.diagnostics.preflight import Check
from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.errors import UserError
from diffusion_text.figures import UNDER_SCHEDULE, Figure


class Trained(LightningModule, ABC):
    """Trains all its parameters with `optimizer(parameters)` under `lr_schedule(optimizer=, num_training_steps=)`.

    `FIGURES`: what its metrics and those of its own say of a finished run.
    """

    FIGURES: ClassVar[dict[str, Figure]] = {
        "loss": Figure("estimate", "the loss's own", (*UNDER_SCHEDULE, "objective"), "lower"),
        "parameters": Figure("exact", "numbers"),
        "step": Figure("exact", "steps"),
        "best_step": Figure("exact", "steps"),
        "seconds": Figure("exact", "seconds", ("machine", "precision"), "lower"),
    }

    def __init__(
        self,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        lr_schedule: Callable[..., torch.optim.lr_scheduler.LRScheduler] | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.optimizer, self.lr_schedule, self.seed = optimizer, lr_schedule, seed

    @abstractmethod
    def preflight(self, batch: dict[str, Tensor], sampler: Sampler) -> list[Check]:
        """Check the model as it would be trained on `batch` and sampled with `sampler`; leaves no trace in it."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """What it is made of, part by part."""

    @abstractmethod
    def evaluate(self, stage: str, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log what a batch of a split shows, under `stage/…`."""

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.evaluate("val", batch, batch_idx)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.evaluate("test", batch, batch_idx)

    def count_parameters(self) -> int:
        """How many numbers training changes."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def on_train_batch_start(self, batch, batch_idx: int) -> None:
        """All randomness of a step follows from (seed, step, rank): a resumed run continues as if never stopped."""
        seed = self.seed + 1_000_003 * (self.global_step + 1) + 7_919 * self.global_rank
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(
                seed
            )  # torch.manual_seed asks for every kind of device: half a millisecond
        else:
            torch.manual_seed(seed)

    @property
    def is_logged(self) -> bool:
        """Whether the step that is being made is one that is logged: nothing need be measured at the others."""
        return (self.global_step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the learning rate and the gradient's norm before it is clipped, at steps that are logged."""
        if self.is_logged:
            gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
            self.log("train/gradient_norm", torch.nn.utils.get_total_norm(gradients))
            self.log("train/learning_rate", optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, outputs, batch, batch_idx: int) -> None:
        if self.global_step % self.trainer.log_every_n_steps == 0 and not torch.isfinite(outputs["loss"]):  # type: ignore[attr-defined]
            raise UserError(f"the loss is {outputs['loss'].item()} at step {self.global_step}: lower optimizer.lr")
        if self.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True  # makes Lightning validate and save at the last step, whatever the interval

    def configure_optimizers(self):
        optimizer = self.optimizer(self.parameters())
        if self.lr_schedule is None:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.lr_schedule(optimizer=optimizer, num_training_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
