"""What a training step costs: python -m benchmarks.training [OVERRIDE ...]

A step as train.py makes it (Lightning, averaging, metrics, logging; no validation), as a plain loop makes it (batch,
loss, backward, clipping, optimizer, schedule), and a product of two matrices, in blocks of as many steps as lie between
two that are logged, one block of each in turn; medians over the blocks. CPU time where there is no GPU.

Overhead is train.py's beyond the plain loop's; data is the share of a step that its batch takes to come; utilisation is
the share of the product's rate that the plain loop's own products come to, forward and back (Chowdhery et al. 2022,
appendix B, with counted operations; what an optimizer multiplies is not counted). The plain loop of
model=diffusers_unet is diffusers' own, of its network on latents of the same shape.
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from lightning import Callback
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rows import Figure, configured, show
from diffusion_text.composition import Training, compose_training
from diffusion_text.models.optimisation import fuse
from diffusion_text.models.step_draws import StepDraws

FEW = "trainer.log_every_n_steps=2"
RECIPES = (
    "model=textunet",
    "model=textunet_30m",
    "experiment=latent_diffusion",
    "experiment=embedding_flow data=python_docs callbacks.collapse=null",
    "experiment=masked_diffusion data=python_docs",
    "experiment=autoregressive data=python_docs",
    "model=diffusers_unet",
    "model=textunet text_space.dim=768 text_space.layers=1 text_space.max_steps=2",
    f"experiment=masked_diffusion data=python_docs model.width=768 model.depth=2 model.heads=12 {FEW}",
)
BLOCKS = 7
BARE = ["trainer.val_check_interval=1000000", "callbacks.samples=null", "preflight=off"]
SIDE = {"cpu": 1024, "cuda": 8192}  # of the matrices


class Interleaved(Callback):
    """Times blocks of the trainer's steps, after each a block of the plain loop's, and products of matrices."""

    def __init__(self, training: Training, every: int):
        self.every, self.device = every, training.trainer.strategy.root_device
        model = copy.deepcopy(training.model)
        diffusers = type(getattr(model, "denoiser", None)).__name__ == "DiffusersUNet1D"
        self.plain = (diffusers_loop if diffusers else plain_loop)(model.to(self.device), training)
        self.half = str(training.trainer.precision).startswith("bf16")
        self.seconds: dict[str, list[float]] = {"train.py": [], "plain loop": [], "product": []}

    def on_train_start(self, trainer, pl_module):
        self.operations = counted(lambda: next(self.plain))
        next(self.plain)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step % self.every:
            return
        if trainer.global_step > self.every:  # the first block of either warms up
            self.seconds["train.py"].append((self.now() - self.started) / self.every)
        plain = self.timed(lambda: [next(self.plain) for _ in range(2 * self.every)]) / self.every
        if trainer.global_step:
            self.seconds["plain loop"].append(plain)
            self.seconds["product"].append(self.product())
        self.started = self.now()

    def product(self) -> float:
        """Seconds for each of a product's operations, in the precision of the step."""
        side = SIDE[self.device.type]
        of_ones = torch.ones(side, side, dtype=torch.bfloat16 if self.half else torch.float32, device=self.device)
        return min(self.timed(lambda: of_ones @ of_ones) for _ in range(5)) / (2 * side**3)

    def timed(self, work: Callable[[], Any]) -> float:
        started = self.now()
        work()
        return self.now() - started

    def now(self) -> float:
        """Seconds that the device has worked."""
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def counted(work: Callable[[], Any]) -> int:
    """The operations of some work; attention in products of matrices, as its kernels for the CPU are not counted."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def loss_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """What a model of any route minimises."""
    made = model.trained_on(batch, StepDraws(model.seed, 0, model.max_length, len(batch["mask"])))
    return (made[2] if isinstance(made, tuple) else made)["loss"].mean()


def plain_loop(model, training: Training) -> Iterator[None]:
    """The gradients of the same network at one call, its step at the next."""
    optimizer = model.optimizer(model.named_parameters())
    fuse(optimizer)
    schedule = model.lr_schedule(optimizer=optimizer, num_training_steps=training.trainer.max_steps)
    loader, strategy = training.data.train_dataloader(), training.trainer.strategy
    while True:
        for batch in loader:
            batch = strategy.batch_to_device(batch)
            with training.trainer.precision_plugin.forward_context():
                loss = loss_of(model, batch)
            optimizer.zero_grad()
            loss.backward()
            yield
            torch.nn.utils.clip_grad_norm_(model.parameters(), training.trainer.gradient_clip_val)
            optimizer.step()
            schedule.step()
            yield


def diffusers_loop(model, training: Training) -> Iterator[None]:
    """The loop that diffusers teaches (docs, "Train a diffusion model"), with its network, optimizer and scheduler."""
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_cosine_schedule_with_warmup

    unet, device = model.denoiser.unet, training.trainer.strategy.root_device
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    rate = get_cosine_schedule_with_warmup(optimizer, 500, training.trainer.max_steps)
    noising = DDPMScheduler(num_train_timesteps=1000)
    batches = [batch["latents"].to(device).float() for batch in islice(training.data.train_dataloader(), 8)]
    while True:
        for latents in batches:
            clean = latents.transpose(1, 2)
            noise, steps = torch.randn_like(clean), torch.randint(0, 1000, (len(clean),), device=device)
            with training.trainer.precision_plugin.forward_context():
                output = unet(noising.add_noise(clean, noise, steps), steps, return_dict=False)[0]
                loss = F.mse_loss(output, noise)
            loss.backward()
            yield
            torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            yield


def measure(recipe: str, overrides: list[str]) -> dict[str, float]:
    """Median milliseconds of a step, operations, the share of data in it, overhead and utilisation."""
    with tempfile.TemporaryDirectory() as place:
        given = [*recipe.split(), *BARE, f"run_dir={place}", "trainer.max_steps=100000", *overrides]
        training = compose_training(configured(*given))
        every = training.trainer.log_every_n_steps
        interleaved = Interleaved(training, every)
        training.trainer.callbacks.insert(0, interleaved)
        training.trainer.fit_loop.epoch_loop.max_steps = (BLOCKS + 2) * every
        training.trainer.fit(training.model, training.data)
        training.trainer.fit_loop.epoch_loop.max_steps *= 2
        batches = iter(training.data.train_dataloader())
        next(batches)
        fetching = interleaved.timed(lambda: [next(batches) for _ in range(every)]) / every
    seconds = {name: statistics.median(taken) for name, taken in interleaved.seconds.items()}
    return {
        "milliseconds": 1000 * seconds["train.py"],
        "operations": interleaved.operations,
        "data": fetching / seconds["train.py"],
        "overhead": seconds["train.py"] / seconds["plain loop"] - 1,
        "utilisation": interleaved.operations * seconds["product"] / seconds["plain loop"],
    }


def figures(overrides: list[str]) -> Iterator[Figure]:
    """Of each recipe."""
    for recipe in RECIPES:
        found = measure(recipe, overrides)
        step = f"{found['milliseconds']:.1f} ms, {found['operations'] / 1e9:.2f} GFLOP a step"
        shares = f"overhead {found['overhead']:+.1%}, data {found['data']:.1%}"
        yield recipe, step, f"{shares}, utilisation {found['utilisation']:.2f}"


if __name__ == "__main__":
    show(figures(sys.argv[1:]))
