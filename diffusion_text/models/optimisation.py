"""How the weights are changed: the optimizer, and how its learning rate goes up and down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import SchedulerType, get_scheduler

from diffusion_text.values import number, one_of, whole

NAMES = [kind.value for kind in SchedulerType if kind.value not in ("reduce_lr_on_plateau", "greedy")]  # by a loss


class LRSchedule:
    """transformers' schedule of this `name`, which warms up for `num_warmup_steps`."""

    def __init__(
        self, name: str, num_warmup_steps: int = 0, scheduler_specific_kwargs: Mapping[str, Any] | None = None
    ):
        self.name = one_of(name, "lr_schedule.name", NAMES)
        self.num_warmup_steps = whole(num_warmup_steps, "lr_schedule.num_warmup_steps")
        self.specific = dict(scheduler_specific_kwargs or {})

    def __call__(self, optimizer: Optimizer, num_training_steps: int) -> LRScheduler:
        return get_scheduler(self.name, optimizer, self.num_warmup_steps, num_training_steps, self.specific)


def tried(optimizer: Callable[..., Optimizer]) -> Optimizer:
    """The optimizer of one number; raises ValueError where its settings make no sense."""
    for name, value in getattr(optimizer, "keywords", {}).items():
        if name in ("lr", "weight_decay") or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            number(value, f"optimizer.{name}", least=0)
    return optimizer([torch.nn.Parameter(torch.zeros(1))])
