"""Rounding by angle where lengths differ."""

import torch

from diffusion_text.models.space_recipes import LearnedSpace
from diffusion_text.values import number


class LengthsDiffer(LearnedSpace):
    """Embeddings whose lengths are log-normal, with a standard deviation of `spread` in the logarithm.

    The rounding's cosine similarity does not see a length, and the noise on a short row turns it any way.
    """

    def __init__(self, spread: float, **settings):
        super().__init__(**settings)
        self.spread = number(spread, "text_space.spread", least=0)

    def build(self, data):
        space = super().build(data)
        rows = space.embedding.rows
        with torch.no_grad():
            rows.mul_(torch.exp(self.spread * torch.randn(len(rows), 1)))
            rows.div_(rows.square().mean().sqrt())
        return space
