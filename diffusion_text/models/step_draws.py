"""What a training step draws for its texts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diffusion_text.diffusion.time_sampling import TimeSampling
from diffusion_text.shapes import Latents, Times

BLOCK = 8  # texts whose noise is drawn at once


class StepDraws:
    """Randomness of the texts `first` … `first + texts − 1` of the `of` texts of a step, none longer than `longest`.

    It follows from (seed, step, the text's place in the step): processes and batches that share a step draw what one
    would that made it alone.
    """

    def __init__(self, seed: int, step: int, longest: int, texts: int, first: int = 0, of: int | None = None):
        self.seed, self.step, self.longest = seed, step, longest
        self.texts, self.first, self.of = texts, first, of or texts

    def times(self, sampling: TimeSampling, device: torch.device) -> Times:
        """The texts' times. Afterwards torch's global generator is where seed, step and place say, for dropout."""
        seed_global(device, self._seed(0))
        times = sampling(self.of, device)[self.first : self.first + self.texts]
        seed_global(device, self._seed(1, self.first))
        return times

    def noise(self, like: Latents, stream: int = 0) -> Latents:
        """Standard normal noise of these texts; each `stream` has its own."""
        last = self.first + self.texts
        blocks = []
        for block in range(self.first // BLOCK, -(-last // BLOCK)):
            generator = torch.Generator(like.device).manual_seed(self._seed(2, block, stream))
            shape = (BLOCK, self.longest, like.shape[-1])
            blocks.append(torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device))
        start = self.first % BLOCK
        return torch.cat(blocks)[start : start + self.texts, : like.shape[1]]

    def chosen(self, share: float, device: torch.device) -> Tensor:
        """The numbers of the texts that are among a `share` of all, spread evenly over them."""
        offset = np.random.default_rng(self._seed(3)).random()
        passed = np.floor(np.arange(self.first, self.first + self.texts + 1) * share + offset)
        return torch.from_numpy(np.flatnonzero(np.diff(passed))).to(device)

    def _seed(self, *what: int) -> int:
        return int(np.random.SeedSequence([self.seed, self.step, *what]).generate_state(1)[0])


def seed_global(device: torch.device, seed: int) -> None:
    """Seed torch's generator of a device; torch.manual_seed asks every kind of device, in half a millisecond."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
