"""What every LightningModule here does alike: randomness that follows from the step, optimisation, a finite loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from diffusion_text.diagnostics.preflight import Check
from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.errors import UserError
from diffusion_text.figures import UNDER_SCHEDULE, Figure
from diffusion_text.models.optimisation import fuse
from diffusion_text.models.resuming import check_weights, renew, rewind, settings
from diffusion_text.models.sharding import gathered, shard, unshard
from diffusion_text.values import seed_number


class NotFiniteError(UserError):
    """Training came to a number that is none; what is saved is from before."""


def not_finite(step: int, tensors: Mapping[str, Tensor]) -> NotFiniteError:
    """Names the first of these tensors that is not finite."""
    first = next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), "the norm of the gradient")
    return NotFiniteError(f"step {step}: {first} is not finite; lower optimizer.lr, and go on from the last checkpoint")


def ends_step(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a step ends with this batch; several make one when they accumulate."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def logs(trainer: Trainer, step: int) -> bool:
    """Whether this step is logged; the last one is."""
    return step % trainer.log_every_n_steps == 0 or step == trainer.max_steps  # type: ignore[attr-defined]


@contextmanager
def leaving_no_trace(model: Trained) -> Iterator[None]:
    """Inside, a model is looked at with its own seed; gradients and random state are as they were afterwards."""
    model.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed)
        yield
    model.zero_grad()
    model.train()


class Trained(LightningModule, ABC):
    """Trains all its parameters with `optimizer(parameters)` under `lr_schedule(optimizer=, num_training_steps=)`.

    `FIGURES`: what its metrics and those of its own say of a finished run. `LOGGED`: what it logs in training and at
    validation, time bins apart.
    """

    broken_at: Tensor
    shares: Callable[..., list] | None = None  # inside `together`: draws texts with all processes
    has_started = False  # whether training has begun, after whatever was restored
    FIGURES: ClassVar[dict[str, Figure]] = {
        "loss": Figure("estimate", "the loss's own", (*UNDER_SCHEDULE, "objective"), "lower"),
        "parameters": Figure("exact", "numbers"),
        "step": Figure("exact", "steps"),
        "best_step": Figure("exact", "steps"),
        "seconds": Figure("exact", "seconds", ("machine", "precision"), "lower"),
    }
    LOGGED: ClassVar[tuple[str, ...]] = ("train/loss", "train/gradient_norm", "train/learning_rate", "val/loss")

    def __init__(
        self,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        lr_schedule: Callable[..., torch.optim.lr_scheduler.LRScheduler] | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.optimizer, self.lr_schedule, self.seed = optimizer, lr_schedule, seed_number(seed, "seed")
        self.register_buffer("broken_at", torch.zeros(()), persistent=False)  # the first step that was not finite

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

    def log(self, name: str, value: Any, *, batch_size: int | None = None, **how: Any) -> None:  # type: ignore[override]
        """Lightning's, for which a number of texts must be no whole one: processes' mean of those is rounded down."""
        super().log(name, value, batch_size=None if batch_size is None else float(batch_size), **how)  # type: ignore[arg-type]

    def count_parameters(self) -> int:
        """How many numbers training changes."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Take up a run at the step that its checkpoint is of, whatever Lightning was in the middle of."""
        check_weights(checkpoint, self.state_dict())
        rewind(checkpoint["loops"]["fit_loop"], checkpoint["global_step"], self.trainer)

    def configure_model(self) -> None:
        """Share the weights, where the strategy has processes share them."""
        if self.device_mesh is not None:
            shard(self, self.device_mesh)

    def on_validation_epoch_start(self) -> None:
        """Have all weights here until a step has gone through them, or averages take their place."""
        unshard(self)

    def on_train_start(self) -> None:
        """A resumed run goes by the settings that it has now, not by those that were saved."""
        renew(self.trainer, self.settings)
        self.has_started = True

    def on_train_batch_start(self, batch, batch_idx: int) -> None:
        """What is drawn follows from (seed, step, batch of the step, rank): a resumed run goes on where it was."""
        micro_batch = batch_idx % self.trainer.accumulate_grad_batches
        seed = self.seed + 1_000_003 * (self.global_step + 1) + 104_729 * micro_batch + 7_919 * self.global_rank
        if self.device.type == "cpu":  # torch.manual_seed asks every kind of device, in half a millisecond
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    @property
    def is_logged(self) -> bool:
        """Whether the step that is being made is one that is logged: nothing need be measured at the others."""
        return logs(self.trainer, self.global_step + 1)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        """Clip, and log learning rate and norm before clipping at steps that are logged; a norm that is not finite ends
        training before it reaches a weight, or on a device that would have to be waited for, before it is saved.
        """
        weights = list(self.parameters())  # looked for once: it takes as long as clipping does
        of_shares = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        norm = gathered(of_shares)
        if self.is_logged:
            self.log("train/gradient_norm", norm)
            self.log("train/learning_rate", optimizer.param_groups[0]["lr"])
        if not self.trainer.precision.startswith("16"):  # whose scaler leaves out steps that overflow
            step = torch.full_like(norm, self.global_step + 1)
            self.broken_at = torch.where((self.broken_at == 0) & ~norm.isfinite(), step, self.broken_at)
        if self.device.type == "cpu":
            self.check_gradients()
        if gradient_clip_val:
            torch.nn.utils.clip_grads_with_norm_(weights, gradient_clip_val, of_shares)

    def check_gradients(self) -> None:
        """Raise NotFiniteError where a step had a gradient that was not finite."""
        if self.broken_at:
            gradients = {f"the gradient of {n}": p.grad for n, p in self.named_parameters() if p.grad is not None}
            raise not_finite(int(self.broken_at), gradients)

    def check_finite(self) -> None:
        """Raise NotFiniteError where a step had a gradient that was not finite, or a weight is not."""
        self.check_gradients()
        weights = dict(self.named_parameters())
        if not torch.stack(torch._foreach_norm(list(weights.values()))).isfinite().all():
            raise not_finite(self.global_step, weights)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        self.check_finite()

    def on_train_batch_end(self, outputs, batch, batch_idx: int) -> None:
        if not ends_step(self.trainer, batch_idx):
            return
        if logs(self.trainer, self.global_step):
            self.check_finite()
        if self.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True  # makes Lightning validate and save at the last step, whatever the interval

    def configure_optimizers(self):
        optimizer = self.optimizer(self.named_parameters())
        fuse(optimizer)
        if self.lr_schedule is None:
            self.settings = settings(optimizer)
            return optimizer
        schedule = self.lr_schedule(optimizer=optimizer, num_training_steps=self.trainer.max_steps)
        self.settings = settings(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
