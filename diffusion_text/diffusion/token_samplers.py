"""How tokens are drawn where a model says how likely each is: from left to right, or out of a masked text.

(1) p(w) ∝ exp(logit(w) / temperature), of the likeliest tokens that hold `top_p` of it       Holtzman et al. 2020, §3.1
(2) from time t to s < t, each masked token is shown with probability (t − s) / t             Sahoo et al. 2024, eq. 6

Everything is drawn in float64: in float32 the smallest probabilities are never drawn, which lowers the entropy of long
texts unnoticed (Zheng et al. 2025, §4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.shapes import Mask, Tokens
from diffusion_text.values import number, one_of

Probabilities = Float[Tensor, "batch length vocabulary"]


class TokenSampler(Sampler):
    """Draws tokens by equation (1), those of each text with its own generator."""

    def __init__(self, num_steps: int = 64, temperature: float = 1.0, top_p: float = 1.0):
        super().__init__(num_steps)
        self.temperature = number(temperature, "sampler.temperature", above=0)
        self.top_p = number(top_p, "sampler.top_p", above=0, most=1)

    def draw(
        self, logits: Probabilities, generators: Sequence[torch.Generator]
    ) -> tuple[Tokens, Float[Tensor, "batch length"]]:
        """A token for each position, and the probability that it had."""
        likely = self.likely((logits.double() / self.temperature).softmax(-1)).cpu()
        drawn = torch.stack(
            [torch.multinomial(text, 1, generator=own) for text, own in zip(likely, generators, strict=True)]
        )
        return drawn.squeeze(-1).to(logits.device), likely.gather(-1, drawn).squeeze(-1).to(logits.device)

    def likely(self, probabilities: Probabilities) -> Probabilities:
        """Zero all but the fewest tokens that hold `top_p`."""
        if self.top_p == 1:
            return probabilities
        ordered, tokens = probabilities.sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        return torch.zeros_like(probabilities).scatter(-1, tokens, ordered.masked_fill(before >= self.top_p, 0))


class LeftToRightSampler(TokenSampler):
    """Token after token; `num_steps`: the most that a text has."""

    any_steps = False


class UnmaskingSampler(TokenSampler):
    """All tokens are masked at first, then shown in `num_steps` steps: in random `order`, by equation (2), or by
    confidence: as many at each step, those drawn with the highest probability first (Chang et al. 2022, §3.2).
    """

    def __init__(self, num_steps: int = 64, temperature: float = 1.0, top_p: float = 1.0, order: str = "random"):
        super().__init__(num_steps, temperature, top_p)
        self.order = one_of(order, "sampler.order", ("random", "confidence"))

    def shown(
        self, step: int, masked: Mask, confidence: Float[Tensor, "batch length"], generators: Sequence[torch.Generator]
    ) -> Bool[Tensor, "batch length"]:
        """Which of the masked positions step number `step`, from 0, shows; the last shows all."""
        left = self.num_steps - step
        if self.order == "random":
            chances = [torch.rand(masked.shape[1], generator=own, dtype=torch.float64) for own in generators]
            return masked & (torch.stack(chances) * left < 1).to(masked.device)
        many = (masked.sum(1, keepdim=True) / left).ceil()
        ranks = confidence.masked_fill(~masked, -1).argsort(1, descending=True).argsort(1)
        return masked & (ranks < many)
