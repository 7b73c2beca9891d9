"""The exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel

from diffusion_text.models.sharding import all_weights, local, reshard, shard
from diffusion_text.values import number


class WarmEMA(AveragedModel):
    """A model's averaged weights: decay min(`decay`, (1 + n) / (10 + n)) at update n; the first takes them as they are.

    A fixed decay of 0.9999 would leave a short run with its initial weights.
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model)
        self.decay = decay
        self.updates: int | None = None

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move all averages at once; waits for a device the first time, to learn how often that was done before."""
        if self.updates is None:
            self.updates = int(self.n_averaged)
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.updates else 0.0
        torch._foreach_lerp_(local(self.parameters()), local(model.parameters()), 1 - decay)
        for kept, current in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(current)
        self.updates += 1
        self.n_averaged += 1


class EMA(WeightAveraging):
    """Averages weights with WarmEMA; validation, checkpoints and the end of training have the averaged ones."""

    def __init__(self, decay: float = 0.9999):
        super().__init__(use_buffers=False)
        self.decay = number(decay, "callbacks.ema.decay", least=0, below=1)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning's, except that processes share the averages as they share the weights."""
        if stage == "fit":
            self._average_model = WarmEMA(pl_module, self.decay)
            if pl_module.device_mesh is not None:
                shard(self._average_model.module, pl_module.device_mesh)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The averages follow the weights to their device, where a step then meets them."""
        cast(WarmEMA, self._average_model).to(pl_module.device)

    def _swap_models(self, pl_module: LightningModule) -> None:
        reshard(pl_module)
        super()._swap_models(pl_module)

    @contextmanager
    def averaged(self, model: LightningModule) -> Iterator[None]:
        """Inside, in the middle of training, `model` has the averaged weights, all of them."""
        self._swap_models(model)
        try:
            with all_weights(model):
                yield
        finally:
            self._swap_models(model)
