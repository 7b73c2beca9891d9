"""What a training step, or an evaluation, draws for its texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffusion_text.diffusion.samplers import draw_like
from diffusion_text.diffusion.time_sampling import TimeSampling
from diffusion_text.shapes import Latents, Times

if TYPE_CHECKING:
    from diffusion_text.models.base import Trained

BLOCK = 8  # texts whose noise is drawn at once
EVALUATION = 2**32 - 1  # in a step's place: no training has as many


class StepDraws:
    """Randomness of the texts `first` … `first + texts − 1` of the `of` texts of a step, none longer than `longest`.

    It follows from (seed, step, the text's place in the step): processes and batches that share a step draw what one
    would that made it alone.
    """

    def __init__(self, seed: int, step: int, longest: int, texts: int, first: int = 0, of: int | None = None):
        self.seed, self.step, self.longest = seed, step, longest
        self.texts, self.first, self.of = texts, first, of or texts

    def times(self, sampling: TimeSampling, device: torch.device) -> Times:
        """The texts' times."""
        return sampling(self.of, self._generator(device, 0))[self.first : self.first + self.texts]

    def noise(self, like: Latents, stream: int = 0) -> Latents:
        """Standard normal noise of these texts; each `stream` has its own."""
        first, last = self.first // BLOCK, -(-(self.first + self.texts) // BLOCK)
        empty = like.new_empty(BLOCK, self.longest, like.shape[-1])
        blocks = [draw_like(empty, self._generator(like.device, 1, stream, block)) for block in range(first, last)]
        start = self.first % BLOCK
        return torch.cat(blocks)[start : start + self.texts, : like.shape[1]]

    def chosen(self, share: float, device: torch.device) -> Tensor:
        """The numbers of the texts that are among a `share` of all, spread evenly over them."""
        offset = torch.rand((), generator=self._generator(torch.device("cpu"), 2)).item()
        passed = np.floor(np.arange(self.first, self.first + self.texts + 1) * share + offset)
        return torch.from_numpy(np.flatnonzero(np.diff(passed))).to(device, non_blocking=True)

    def offsets(self) -> Float[Tensor, batch]:
        """A number in [0, 1) for each text, even over any stretch of them: each is a golden section beyond the last."""
        start = torch.rand((), generator=self._generator(torch.device("cpu"), 4), dtype=torch.float64)
        places = torch.arange(self.first, self.first + self.texts, dtype=torch.float64)
        return (start + places * (5**0.5 - 1) / 2) % 1

    def uniform(self, many: int, device: torch.device) -> Float[Tensor, "batch drawn"]:
        """So many numbers in [0, 1) for each text."""
        drawn = torch.rand(self.of, many, generator=self._generator(device, 3), device=device)
        return drawn[self.first : self.first + self.texts]

    def _generator(self, device: torch.device, *what: int) -> torch.Generator:
        seed = np.random.SeedSequence([self.seed, self.step, *what]).generate_state(1)[0]
        return torch.Generator(device).manual_seed(int(seed))


def evaluation_draws(model: Trained, longest: int, stage: str, batch_idx: int) -> StepDraws:
    """What is drawn for a batch of a split: the same at every evaluation, however many processes share the split."""
    shares = getattr(model.trainer, f"{stage}_dataloaders").batch_sampler
    first, last = shares.ends[batch_idx : batch_idx + 2]
    return StepDraws(model.seed, EVALUATION, longest, last - first, first, shares.texts)


def draws_of(model: Trained, longest: int, texts: int, batch_idx: int) -> StepDraws:
    """What is drawn for a batch of the step that a model makes, which shares it with other batches and processes."""
    batches, ranks = model.trainer.accumulate_grad_batches, model.trainer.world_size
    first = (batch_idx % batches * ranks + model.global_rank) * texts
    return StepDraws(model.seed, model.global_step, longest, texts, first, batches * ranks * texts)
