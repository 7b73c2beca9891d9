"""Information beyond the reference predictor, in nats a token, gathered over texts."""

from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics import Metric

from diffusion_text.diffusion.information import NUM_BINS, Errors
from diffusion_text.figures import LATENTS, Figure


class Information(Metric):
    """Equations (1) to (4) of diffusion/information.py over texts, with the standard error of the mean over them."""

    FIGURES: ClassVar = {
        "information": Figure("estimate", "nats a token", LATENTS, "higher"),
        "information_error": Figure("estimate", "nats a token", LATENTS),
        "information_found": Figure("estimate", "nats a token", LATENTS, "higher"),
        "information_lost": Figure("estimate", "nats a token", LATENTS, "lower"),
        "skill": Figure("estimate", "share of the reference's error", LATENTS, "higher"),
    }
    full_state_update = False
    model: Tensor
    reference: Tensor
    moments: Tensor
    totals: Tensor
    texts: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, size in (("model", (NUM_BINS,)), ("reference", (NUM_BINS,)), ("moments", (2, 2)), ("totals", (2,))):
            self.add_state(name, torch.zeros(size), dist_reduce_fx="sum")
        self.add_state("texts", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, errors: Errors, tokens: Int[Tensor, "batch"]) -> None:
        """Add texts of so many tokens."""
        self.model += errors.model.sum(0)
        self.reference += errors.reference.sum(0)
        pairs = torch.stack([(errors.reference - errors.model).sum(1), tokens])
        self.moments += pairs @ pairs.T
        self.totals += pairs.sum(1)
        self.texts += len(tokens)

    def compute(self) -> dict[str, Tensor]:
        """`information` with `information_error`, the standard error, `information_found` and `information_lost`, all
        nats a token, and `skill`; `information_bins` and `skill_bins`, from most noise to least, `(NUM_BINS,)`.
        """
        nats, tokens = self.totals
        mean = nats / tokens
        direction = torch.stack([torch.ones_like(mean), -mean])  # of nats − mean·tokens, whose sum is 0
        variance = direction @ self.moments @ direction / (self.texts - 1)
        gained = (self.reference - self.model) / tokens
        return {
            "information": mean,
            "information_error": (self.texts * variance.clamp(min=0)).sqrt() / tokens,
            "information_found": gained.clamp(min=0).sum(),
            "information_lost": -gained.clamp(max=0).sum(),
            "skill": 1 - self.model.sum() / self.reference.sum(),
            "information_bins": gained,
            "skill_bins": torch.where(self.model == self.reference, 0.0, 1 - self.model / self.reference),
        }
