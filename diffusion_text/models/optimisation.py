"""How the weights are changed: the optimizer, and how its learning rate goes up and down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import SchedulerType, get_scheduler

from diffusion_text.values import number, one_of, whole

BLOCKS = {"blocks", "layers"}  # what networks call the list of their repeated ones
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


class Muon(Optimizer):
    """Muon for the matrices of repeated blocks, AdamW for everything else: embeddings, norms, biases, the layers that
    lead in and out, convolutions (Jordan et al. 2024). Both are torch's own.

    `muon_lr` is Muon's rate, in AdamW's units: its updates are scaled to the size of AdamW's (Liu et al. 2025, §2.2).
    """

    def __init__(
        self,
        params: Iterable[tuple[str, torch.nn.Parameter]],
        lr: float = 2e-3,
        muon_lr: float = 3e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ):
        named = list(params)
        matrices = [p for name, p in named if p.ndim == 2 and BLOCKS & set(name.split("."))]
        if not matrices:
            raise ValueError("optimizer=muon is for the matrices of blocks, which this model has none of: use adamw")
        chosen = {id(matrix) for matrix in matrices}
        rest = [p for _, p in named if id(p) not in chosen]
        self.muon = torch.optim.Muon(
            matrices, lr=muon_lr, weight_decay=weight_decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"
        )
        self.adamw = torch.optim.AdamW(rest or [torch.nn.Parameter(torch.zeros(0))], lr=lr, weight_decay=weight_decay)
        super().__init__(self.muon.param_groups + self.adamw.param_groups, {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Both, on the groups and the state that this one has, be they restored."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer, group in zip((self.muon, self.adamw), self.param_groups, strict=True):
            optimizer.param_groups, optimizer.state = [group], self.state
            optimizer.step()
        return loss


def fuse(optimizer: Optimizer) -> None:
    """Have one kernel make a step of Adam, where its settings leave that open. Gradients are unscaled, and so can be
    clipped, before it, which torch would leave to a kernel that it was asked for from the beginning.
    """
    for group in optimizer.param_groups:
        if group.get("fused", False) is None and group["foreach"] is None:
            group["fused"] = True


def tried(optimizer: Callable[..., Optimizer]) -> Optimizer:
    """The optimizer of one number; raises ValueError where its settings make no sense."""
    for name, value in getattr(optimizer, "keywords", {}).items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number or name in ("lr", "muon_lr", "weight_decay"):
            number(value, f"optimizer.{name}", least=0)
    return optimizer([("blocks.0.weight", torch.nn.Parameter(torch.zeros(1, 1)))])
