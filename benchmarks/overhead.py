"""What training costs beyond a plain loop of the same network: python -m benchmarks.overhead [OVERRIDE ...]

CPU time of a step as train.py makes it (Lightning, averaging, metrics, logging; no validation), and as a plain loop
does (batch, loss, backward, clipping, optimizer, schedule), in blocks of as many steps as lie between two that are
logged, one block of each in turn; medians over the blocks.
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from lightning import Callback
from omegaconf import open_dict, read_write

from benchmarks.rows import ROOT
from diffusion_text.composition import Training, compose_training
from diffusion_text.models.step_draws import StepDraws

RECIPES = (
    "model=textunet",
    "experiment=latent_diffusion",
    "experiment=diffusion_lm_small data=python_docs callbacks.collapse=null",
)
BLOCKS = 9
BARE = ["trainer.val_check_interval=1000000", "callbacks.samples=null", "preflight=off"]


class Interleaved(Callback):
    """Times blocks of the trainer's steps, and after each a block of the plain loop's."""

    def __init__(self, training: Training, every: int):
        self.every = every
        self.plain = plain_loop(copy.deepcopy(training.model), training)
        self.seconds: dict[str, list[float]] = {"train.py": [], "plain loop": []}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step % self.every:
            return
        if trainer.global_step > self.every:  # the first block of either warms up
            self.seconds["train.py"].append((time.process_time() - self.started) / self.every)
        started = time.process_time()
        for _ in range(self.every):
            next(self.plain)
        if trainer.global_step:
            self.seconds["plain loop"].append((time.process_time() - started) / self.every)
        self.started = time.process_time()


def plain_loop(model, training: Training) -> Iterator[None]:
    """A step of the same network at each call."""
    optimizer = model.optimizer(model.parameters())
    schedule = model.lr_schedule(optimizer=optimizer, num_training_steps=training.trainer.max_steps)
    loader = training.data.train_dataloader()
    while True:
        for batch in loader:
            draws = StepDraws(model.seed, 0, model.max_length, len(batch["mask"]))
            loss = model.trained_on(batch, draws)[2]["loss"].mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), training.trainer.gradient_clip_val)
            optimizer.step()
            schedule.step()
            yield


def measure(recipe: str, overrides: list[str], place: Path) -> dict[str, float]:
    """Median CPU seconds of a step."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        given = [*recipe.split(), *BARE, f"hydra.run.dir={place}", f"run_dir={place}", "trainer.max_steps=100000"]
        whole = compose("train", [*given, *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(whole)
    cfg = whole.copy()
    with read_write(cfg), open_dict(cfg):
        del cfg["hydra"]
    training = compose_training(cfg)
    every = training.trainer.log_every_n_steps
    interleaved = Interleaved(training, every)
    training.trainer.callbacks.insert(0, interleaved)
    training.trainer.fit_loop.epoch_loop.max_steps = (BLOCKS + 2) * every
    training.trainer.fit(training.model, training.data)
    return {name: statistics.median(seconds) for name, seconds in interleaved.seconds.items()}


def main(overrides: list[str]) -> None:
    """Print both and the overhead, for each recipe."""
    for recipe in RECIPES:
        with tempfile.TemporaryDirectory() as place:
            seconds = measure(recipe, overrides, Path(place))
        ours, plain = seconds["train.py"], seconds["plain loop"]
        print(f"{recipe}: {1000 * ours:.1f} ms, plain loop {1000 * plain:.1f} ms: {ours / plain - 1:+.1%}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
