"""Sampled text at every validation: what the figures mean in words."""

import logging
from functools import partial
from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from diffusion_text import sampled_texts
from diffusion_text.callbacks.monitoring import check_writes
from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.models.together import together
from diffusion_text.models.writing import Writer
from diffusion_text.runs import Run
from diffusion_text.values import instance, seed_number, whole, words

log = logging.getLogger(__name__)


class SampleTexts(Callback):
    """Generate texts with the averaged weights after each validation, into the log, `samples/validation.jsonl` and a
    table of W&B's.
    """

    def __init__(self, sampler: Sampler, num_samples: int, run_dir: str, seed: int = 0):
        self.sampler = instance(sampler, "callbacks.samples.sampler", Sampler)
        self.num_samples = whole(num_samples, "callbacks.samples.num_samples")
        self.file = Run(Path(words(run_dir, "callbacks.samples.run_dir"))).texts
        self.seed = seed_number(seed, "callbacks.samples.seed")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_writes(pl_module, "callbacks.samples")

    def on_train_start(self, trainer: Trainer, pl_module: Writer) -> None:  # type: ignore[override]
        if trainer.is_global_zero:
            sampled_texts.keep(self.file, trainer.global_step)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Writer) -> None:  # type: ignore[override]
        if trainer.sanity_checking or not self.num_samples:
            return
        drawn = together(pl_module, partial(self.draw, trainer, pl_module))
        if drawn is None:
            return
        texts, asked = drawn
        sampled_texts.append(self.file, trainer.global_step, texts, asked)
        columns, data = sampled_texts.table(sampled_texts.read(self.file))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_text("texts/sampled", columns, data, step=trainer.global_step)
        log.info(
            "Step %d, sampled in %d evaluations: %s",
            trainer.global_step,
            self.sampler.nfe,
            " ".join(texts[0].split()),
        )

    def draw(self, trainer: Trainer, model: Writer) -> tuple[list[str], list[dict[str, str]]]:
        """Texts; those of a model that is told conditions are told what real texts are, and that comes with them."""
        batch = trainer.datamodule.batch("validation", self.num_samples)  # type: ignore[attr-defined]
        told, asked = model.as_told(batch)
        many = self.num_samples if told is None else len(told)
        drawn = model.sample(self.sampler, many, self.seed, told=told)
        return model.text_space.to_text(drawn.tokens), asked
