"""The collapse monitor: a few cheap samples every so many steps, judged, and an alarm by name."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer

from diffusion_text import sampled_texts
from diffusion_text.callbacks.ema import EMA
from diffusion_text.callbacks.monitoring import check_writes
from diffusion_text.diagnostics.collapse import Alarm, collapse_alarms
from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.errors import UserError
from diffusion_text.metrics.text_quality import TextQuality
from diffusion_text.models.base import ends_step
from diffusion_text.models.quality import Judge, Quality
from diffusion_text.models.sharding import all_weights
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.models.together import together
from diffusion_text.models.writing import root_mean_square
from diffusion_text.runs import Run
from diffusion_text.storage import append_json
from diffusion_text.values import instance, one_of, seed_number, share, whole, words

log = logging.getLogger(__name__)


class CollapseMonitor(Callback):
    """Samples `num_samples` texts with the averaged weights every `every_n_steps` steps and logs TextQuality's figures
    as `quality/…`, real text's as `quality/real/…`.

    After a share of `warm_up` of training, what was wrong at `patience` checks in a row is an alarm by name
    (collapse_alarms). It goes into the log and into alarms.jsonl in the run directory; with `action` stop it ends
    training.
    """

    LOGGED = (*(f"quality{of}/{name}" for of in ("", "/real") for name in TextQuality.FIGURES), "quality/rms")

    def __init__(
        self,
        sampler: Sampler,
        run_dir: str,
        every_n_steps: int = 100,
        num_samples: int = 32,
        warm_up: float = 0.05,
        patience: int = 2,
        action: str = "warn",
        seed: int = 0,
    ):
        self.sampler = instance(sampler, "callbacks.collapse.sampler", Sampler)
        self.run = Run(Path(words(run_dir, "callbacks.collapse.run_dir")))
        self.every_n_steps = whole(every_n_steps, "callbacks.collapse.every_n_steps", 1)
        self.num_samples = whole(num_samples, "callbacks.collapse.num_samples", 1)
        self.warm_up = share(warm_up, "callbacks.collapse.warm_up")
        self.patience = whole(patience, "callbacks.collapse.patience", 1)
        self.action = one_of(action, "callbacks.collapse.action", ("warn", "stop"))
        self.seed = seed_number(seed, "callbacks.collapse.seed")
        self.in_a_row: dict[str, int] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_writes(pl_module, "callbacks.collapse")
        if not isinstance(pl_module, TextDiffusion):
            raise UserError(f"callbacks.collapse watches x_0 and {type(pl_module).__name__} has none: leave it out")

    def on_fit_start(self, trainer: Trainer, pl_module: TextDiffusion) -> None:  # type: ignore[override]
        self.judged = trainer.datamodule.splits, pl_module.text_space.tokenizer  # type: ignore[attr-defined]

    @cached_property
    def judge(self) -> Judge:
        """The judge, who takes some seconds to come: at the first check, and not before the first step."""
        return Judge(*self.judged)

    @cached_property
    def real(self) -> Quality:
        """What real text is like."""
        return self.judge(self.judge.real("validation", self.num_samples))

    def on_train_start(self, trainer: Trainer, pl_module: TextDiffusion) -> None:  # type: ignore[override]
        if trainer.is_global_zero:
            sampled_texts.keep(self.run.alarms, trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, pl_module: TextDiffusion, outputs, batch, batch_idx) -> None:  # type: ignore[override]
        if trainer.global_step % self.every_n_steps or not ends_step(trainer, batch_idx):
            return
        looked = self.look(trainer, pl_module, batch)
        if looked is not None:
            self.check(trainer, pl_module, *looked)
        if self.action == "stop":  # all processes, or none
            trainer.should_stop = trainer.strategy.reduce_boolean_decision(trainer.should_stop, all=False)

    def check(self, trainer: Trainer, pl_module: TextDiffusion, quality: Quality, rms: float) -> None:
        """Log what was sampled, and raise the alarms that it gives cause for."""
        step = trainer.global_step
        figures = {f"quality/{name}": value for name, value in quality.figures.items()}
        real = {f"quality/real/{name}": value for name, value in self.real.figures.items()}
        figures |= real | {"quality/rms": rms}
        pl_module.log_dict(figures, logger=False, rank_zero_only=True)  # for callbacks that monitor them
        for logger in trainer.loggers:
            logger.log_metrics(figures, step - 1)  # once; Lightning would repeat them at every step that is logged
        if step < self.warm_up * trainer.max_steps:
            return
        alarms = collapse_alarms(quality.figures, self.real.figures, quality.most_frequent, rms)
        self.in_a_row = {alarm.name: self.in_a_row.get(alarm.name, 0) + 1 for alarm in alarms}
        for alarm in alarms:
            if self.in_a_row[alarm.name] == self.patience:
                self.ring(alarm, trainer)

    def look(
        self, trainer: Trainer, model: TextDiffusion, batch: dict[str, torch.Tensor]
    ) -> tuple[Quality, float] | None:
        """The quality of what the averaged weights sample, and the root mean square of a batch's clean x_0; None on all
        processes but the first.
        """

        def measure() -> tuple[Quality, float]:
            quality = self.judge(model.generate(self.sampler, self.num_samples, self.seed))
            return quality, root_mean_square(*model.encode_batch(batch))

        ema = next((callback for callback in trainer.callbacks if isinstance(callback, EMA)), None)  # type: ignore[attr-defined]
        model.eval()
        with ema.averaged(model) if ema else all_weights(model), torch.no_grad():
            looked = together(model, measure)
        model.train()
        return looked

    def ring(self, alarm: Alarm, trainer: Trainer) -> None:
        """Raise an alarm."""
        row = {"step": trainer.global_step} | alarm._asdict()
        append_json(self.run.alarms, row)
        log.warning("Step %d, %s: %s; %s", trainer.global_step, alarm.name, alarm.measured, alarm.cause)
        if self.action == "stop":
            trainer.should_stop = True

    def state_dict(self):
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict):
        self.in_a_row = state_dict["in_a_row"]
