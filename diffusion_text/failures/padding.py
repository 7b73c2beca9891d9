"""Padding counted as text."""

from typing import NamedTuple

import numpy as np
import torch.nn.functional as F

from diffusion_text.data.latents import Latents
from diffusion_text.data.python_docs import PythonDocs
from diffusion_text.data.statistics import LatentMoments
from diffusion_text.errors import UserError
from diffusion_text.values import LONGEST, whole

TOGETHER = 256  # texts that are measured at once


class Padded(NamedTuple):
    """Latents with zeros at the end, to `positions`, which no mask tells."""

    latents: Latents
    positions: int

    def at(self, texts):
        """Those of some of the texts."""
        return self._replace(latents=self.latents.at(texts))

    def batch(self, texts):
        """As Latents has it, and all of it real."""
        latents = self.latents.batch(texts)["latents"]
        latents = F.pad(latents, (0, 0, 0, self.positions - latents.shape[1]))
        return {"latents": latents, "latent_mask": latents.new_ones(latents.shape[:2]).bool()}


class PaddingCounted(PythonDocs):
    """Latents are padded with zeros, to `positions`, after encoding, and no mask tells: the zeros enter mean and
    standard deviation, the loss, the figures, and what the decoder reads.
    """

    def __init__(self, positions: int, **settings):
        super().__init__(**settings)
        self.positions = whole(positions, "data.positions", self.length, LONGEST)

    def prepare(self, tokenizer, encoder=None, cache=None):
        super().prepare(tokenizer, encoder, cache)
        if self.store is None:
            return
        if not self.store.splits:
            raise UserError("this corpus pads latents that are kept: leave out text_space.cache=none")
        splits = {split: Padded(latents, self.positions) for split, latents in self.store.splits.items()}
        moments, texts = LatentMoments(encoder.dim, self.positions), len(self.splits["train"])
        for first in range(0, texts, TOGETHER):
            batch = splits["train"].batch(range(first, min(first + TOGETHER, texts)))
            moments.add(batch["latents"].flatten(0, 1).numpy())
        moments.count(np.full(texts, self.positions))
        self.statistics = moments.statistics()
        self.store = self.store._replace(splits=splits, statistics=self.statistics)
