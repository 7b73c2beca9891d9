"""Cosine similarity and magnitude ratio of predicted to true noise, and of predicted to true x_0, by time."""

from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from diffusion_text.diffusion.losses import cosine_and_magnitude
from diffusion_text.figures import UNDER_SCHEDULE, Figure
from diffusion_text.shapes import Latents, Mask, Times

QUANTITIES = ("noise_cosine", "noise_magnitude", "x0_cosine", "x0_magnitude")
NUM_BINS = 10


class NoisePrediction(Metric):
    """Means over texts in ten time bins, and overall as the mean of the bins that have any.

    A text counts as one vector of its real tokens' elements. The overall figures do not depend on how t was drawn, but
    on how much noise the schedule has at each t. Where there is none, at t = 0, there is nothing to compare.
    """

    FIGURES: ClassVar = {
        name: Figure("estimate", unit, UNDER_SCHEDULE, better)
        for name, unit, better in zip(QUANTITIES, ("cosine", "ratio") * 2, ("higher", None) * 2, strict=True)
    }
    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(len(QUANTITIES), NUM_BINS), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(NUM_BINS), dist_reduce_fx="sum")

    def update(self, noise_hat: Latents, noise: Latents, x_0_hat: Latents, x_0: Latents, t: Times, mask: Mask) -> None:
        """Add texts with their predicted and true noise and x_0."""
        bins = (t * NUM_BINS).long().clamp(0, NUM_BINS - 1)
        values = (*cosine_and_magnitude(noise_hat, noise, mask), *cosine_and_magnitude(x_0_hat, x_0, mask))
        self.sums.index_add_(1, bins, torch.stack(values))
        self.counts.index_add_(0, bins, torch.ones_like(t))

    def compute(self) -> dict[str, Tensor]:
        """Each quantity's overall figure, `noise_cosine` and so on, and its ten bins, `noise_cosine_bins` `(10,)`.

        Bins that have no text are NaN.
        """
        bins = self.sums / self.counts
        overall = {name: values.nanmean() for name, values in zip(QUANTITIES, bins, strict=True)}
        return overall | {f"{name}_bins": values for name, values in zip(QUANTITIES, bins, strict=True)}
