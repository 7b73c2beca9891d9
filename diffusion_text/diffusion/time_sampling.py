"""How training draws t.

(1) uniform        t ~ U(0, 1)
(2) stratified     t_i = ((i + u) / n) mod 1 with one u ~ U(0, 1) for the batch      Kingma et al. 2021, appendix I.1
(3) logit-normal   t = sigmoid(mean + std·z), z ~ N(0, 1)                          Esser et al. 2024, §3.1
"""

from abc import ABC, abstractmethod

import torch

from diffusion_text.shapes import Times


class TimeSampling(ABC):
    """A distribution over times in [0, 1]."""

    @abstractmethod
    def __call__(self, num_texts: int, device: torch.device | None = None) -> Times:
        """One time for each text, from torch's global generator."""


class UniformTimes(TimeSampling):
    """Equation (1)."""

    def __call__(self, num_texts, device=None):
        return torch.rand(num_texts, device=device)


class StratifiedTimes(TimeSampling):
    """Equation (2): each batch covers all times evenly, which lowers the loss's variance."""

    def __call__(self, num_texts, device=None):
        offsets = torch.randperm(num_texts, device=device)
        return ((offsets + torch.rand(1, device=device)) / num_texts) % 1


class LogitNormalTimes(TimeSampling):
    """Equation (3). ELF (2026) has mean −1.5, std 0.8 with t = 1 at data, which is mean 1.5 here."""

    def __init__(self, mean: float = 1.5, std: float = 0.8):
        if std <= 0:
            raise ValueError(f"std must be above 0, not {std}")
        self.mean, self.std = mean, std

    def __call__(self, num_texts, device=None):
        return torch.sigmoid(self.mean + self.std * torch.randn(num_texts, device=device))
