"""How training draws t.

(1) uniform        t ~ U(0, 1)
(2) stratified     t_i = ((i + u) / n) mod 1 with one u ~ U(0, 1) for the batch      Kingma et al. 2021, appendix I.1
(3) logit-normal   t = sigmoid(mean + std·z), z ~ N(0, 1)                          Esser et al. 2024, §3.1
(4) adaptive       p(t) ∝ |dL/dt|, so that the loss L changes evenly over what is drawn   Dieleman et al. 2022, §4.3
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusion_text.diffusion.schedules import average_bins
from diffusion_text.shapes import PerText, Times
from diffusion_text.values import number, whole


class TimeSampling(ABC):
    """A distribution over times in [0, 1]."""

    @abstractmethod
    def __call__(self, num_texts: int, generator: torch.Generator) -> Times:
        """One time for each text, drawn where the generator is."""

    @abstractmethod
    def quantile(self, shares: Float[Tensor, "*shares"]) -> Float[Tensor, "*shares"]:
        """The time below which each share of the draws lies, shares and times in [0, 1]."""

    def share_below(self, time: float) -> float:
        """The share of the draws that lie below a time; by bisection."""
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            below = bool(self.quantile(torch.tensor(middle, dtype=torch.float64)) < time)
            low, high = (middle, high) if below else (low, middle)
        return high

    learns: bool = False

    def observe(self, t: Times, losses: PerText) -> None:  # noqa: B027
        """Learn what each text's loss at its time was; for those that do."""


class UniformTimes(TimeSampling):
    """Equation (1)."""

    def __call__(self, num_texts, generator):
        return torch.rand(num_texts, generator=generator, device=generator.device)

    def quantile(self, shares):
        return shares


class StratifiedTimes(TimeSampling):
    """Equation (2): each batch covers all times evenly, which lowers the loss's variance."""

    def __call__(self, num_texts, generator):
        offsets = torch.randperm(num_texts, generator=generator, device=generator.device)
        return ((offsets + torch.rand(1, generator=generator, device=generator.device)) / num_texts) % 1

    def quantile(self, shares):
        return shares


class LogitNormalTimes(TimeSampling):
    """Equation (3). ELF (2026) has mean −1.5, std 0.8 with t = 1 at data, which is mean 1.5 here."""

    def __init__(self, mean: float = 1.5, std: float = 0.8):
        self.mean, self.std = number(mean, "time_sampling.mean"), number(std, "time_sampling.std", above=0)

    def __call__(self, num_texts, generator):
        drawn = torch.randn(num_texts, generator=generator, device=generator.device)
        return torch.sigmoid(self.mean + self.std * drawn)

    def quantile(self, shares):
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(shares))


class AdaptiveTimes(nn.Module, TimeSampling):
    """Equation (4), over `num_bins` bins of t whose mean losses are averaged with `decay` and kept in the checkpoint.

    A share of `uniform` is drawn evenly, so that no time is ever forgotten; everything is, until the loss is known.
    Times are stratified.
    """

    losses: Tensor
    learns = True

    def __init__(self, num_bins: int = 32, decay: float = 0.99, uniform: float = 0.1):
        super().__init__()
        num_bins = whole(num_bins, "time_sampling.num_bins", 2, 1_000_000)
        self.decay = number(decay, "time_sampling.decay", least=0, below=1)
        self.uniform = number(uniform, "time_sampling.uniform", above=0, most=1)
        self.register_buffer("losses", torch.full((num_bins,), torch.nan))

    def forward(self, num_texts, generator):
        return self.quantile(StratifiedTimes()(num_texts, generator))

    def quantile(self, shares):
        cumulative = F.pad(self.density().cumsum(0), (1, 0)).to(shares)
        bins = torch.searchsorted(cumulative[1:-1], shares, right=True)
        below, above = cumulative[bins], cumulative[bins + 1]
        return ((bins + (shares - below) / (above - below)) / len(self.losses)).clamp(0, 1)

    @torch.no_grad()
    def observe(self, t, losses):
        bins = (t * len(self.losses)).long().clamp(0, len(self.losses) - 1)
        average_bins(self.losses, bins, losses, self.decay)

    def density(self) -> Tensor:
        """The share of the times that is drawn from each bin `(num_bins,)`."""
        (slopes,) = torch.gradient(self.losses)
        slopes = slopes.abs()
        total = slopes.sum()
        even = torch.full_like(slopes, 1 / len(slopes))
        return torch.where(total > 0, torch.lerp(slopes / total, even, self.uniform), even)
