"""How likely a model finds real text, in nats a token, and what of it context tells; gathered over texts."""

from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from diffusion_text.diffusion.bound import mean_per
from diffusion_text.figures import TEXT, Figure
from diffusion_text.shapes import PerText

RULER = (*TEXT, "texts", "precision")


class Likelihood(Metric):
    """`nll`: −log p, or a bound on it. `information`: by how much it is below the unigrams'. With the standard errors
    of their means over texts: equation (6) of diffusion/bound.py.
    """

    FIGURES: ClassVar = {
        "nll": Figure("bound", "nats a token", RULER, "lower"),
        "nll_error": Figure("estimate", "nats a token", RULER),
        "information": Figure("estimate", "nats a token", RULER, "higher"),
        "information_error": Figure("estimate", "nats a token", RULER),
    }
    full_state_update = False
    nats: list[Tensor]
    unigram: list[Tensor]
    tokens: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("nats", "unigram", "tokens"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, nats: PerText, unigram: PerText, tokens: Int[Tensor, "batch"]) -> None:
        """Add texts of so many tokens, the model's −log p of each, and the unigrams'."""
        self.nats.append(nats.double())
        self.unigram.append(unigram.double())
        self.tokens.append(tokens)

    def compute(self) -> dict[str, Tensor]:
        """All of `FIGURES`."""
        nats, unigram, tokens = map(dim_zero_cat, (self.nats, self.unigram, self.tokens))
        nll, known = mean_per(nats, tokens), mean_per(unigram - nats, tokens)
        return {name: torch.tensor(value) for name, value in zip(self.FIGURES, (*nll, *known), strict=True)}
