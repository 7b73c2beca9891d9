"""Padding counted as text."""

import torch
import torch.nn.functional as F

from diffusion_text.data.python_docs import PythonDocs
from diffusion_text.data.statistics import LatentMoments
from diffusion_text.values import LONGEST, whole


class PaddingCounted(PythonDocs):
    """Latents are padded with zeros, to `positions`, after encoding, and no mask tells: the zeros enter mean and
    standard deviation, the loss, the figures, and what the decoder reads.
    """

    def __init__(self, positions: int, **settings):
        super().__init__(**settings)
        self.positions = whole(positions, "data.positions", self.length, LONGEST)

    def prepare(self, tokenizer, encoder=None):
        super().prepare(tokenizer, encoder)
        if encoder is None:
            return
        moments = LatentMoments(encoder.dim, self.positions)
        for batch in self.splits["train"].iter(256):
            moments.add([self.padded(latents).numpy() for latents in batch["latents"]])
        self.statistics = moments.statistics()

    def collate(self, texts):
        counted = [{n: self.padded(x) if n == "latents" else x for n, x in text.items()} for text in texts]
        return super().collate(counted)

    def padded(self, latents: torch.Tensor) -> torch.Tensor:
        """A text's latents with zeros at the end."""
        return F.pad(latents, (0, 0, 0, self.positions - len(latents)))
