"""How fast training goes."""

import time

from lightning import Callback, LightningModule, Trainer

from diffusion_text.models.base import ends_step, logs


class Speed(Callback):
    """Logs `speed/steps_per_second` and `speed/tokens_per_second` of the steps since the last that was logged.

    Tokens are positions, padding included, of all processes together. Time spent in validation does not count.
    """

    LOGGED = ("speed/steps_per_second", "speed/tokens_per_second")

    def __init__(self) -> None:
        self.since, self.step, self.tokens = 0.0, 0, 0
        self.left = 0.0  # when training was last left for validation

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin(trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx: int) -> None:
        self.tokens += batch["mask"].numel() * trainer.world_size
        step = trainer.global_step
        if not logs(trainer, step) or not ends_step(trainer, batch_idx):
            return
        seconds = time.monotonic() - self.since
        speed = {"steps_per_second": (step - self.step) / seconds, "tokens_per_second": self.tokens / seconds}
        pl_module.log_dict({f"speed/{name}": value for name, value in speed.items()})
        self.begin(step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.left = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.since += time.monotonic() - self.left

    def begin(self, step: int) -> None:
        """Count from this step on."""
        self.since, self.step, self.tokens = time.monotonic(), step, 0
