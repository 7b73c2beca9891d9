"""Sampled text at every validation: what the figures mean in words."""

import logging
from pathlib import Path

from lightning import Callback, Trainer

from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.models.text_diffusion import TextDiffusion

log = logging.getLogger(__name__)


class SampleTexts(Callback):
    """Generate texts with the averaged weights after each validation, into the log and `samples/step-N.txt`."""

    def __init__(self, sampler: Sampler, num_samples: int, run_dir: str, seed: int = 0):
        self.sampler, self.num_samples, self.seed = sampler, num_samples, seed
        self.directory = Path(run_dir) / "samples"

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: TextDiffusion) -> None:  # type: ignore[override]
        if trainer.sanity_checking or not trainer.is_global_zero or not self.num_samples:
            return
        texts = pl_module.text_space.to_text(pl_module.generate(self.sampler, self.num_samples, self.seed))
        self.directory.mkdir(exist_ok=True)
        (self.directory / f"step-{trainer.global_step}.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
        log.info(
            "Step %d, sampled in %d evaluations: %s",
            trainer.global_step,
            self.sampler.nfe,
            " ".join(texts[0].split()),
        )
