"""What is counted and measured on a training split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from datasets import Dataset


class LatentMoments:
    """Mean and covariance over real positions, and the distribution of lengths, gathered in one pass in float64."""

    def __init__(self, dim: int, length: int):
        self.positions = 0
        self.sum, self.outer = np.zeros(dim), np.zeros((dim, dim))
        self.length_counts = np.zeros(length + 1, dtype=np.int64)

    def add(self, latents: np.ndarray) -> None:
        """Add latents `(positions, dim)`, without padding."""
        latents = latents.astype(np.float64)
        self.positions += len(latents)
        self.sum += latents.sum(0)
        self.outer += latents.T @ latents

    def count(self, lengths: np.ndarray) -> None:
        """Add texts of so many positions."""
        self.length_counts += np.bincount(lengths, minlength=len(self.length_counts))

    def statistics(self) -> dict[str, Tensor]:
        """`mean` `(dim,)`, `covariance` `(dim, dim)`, `length_counts` `(length + 1,)`."""
        mean = self.sum / self.positions
        covariance = self.outer / self.positions - np.outer(mean, mean)
        return {
            "mean": torch.from_numpy(mean),
            "covariance": torch.from_numpy(covariance),
            "length_counts": torch.from_numpy(self.length_counts),
        }


def token_statistics(texts: Dataset, vocab_size: int, length: int) -> dict[str, Tensor]:
    """How often each token and each length occurs: `token_counts` `(vocab_size,)`, `length_counts` `(length + 1,)`."""
    token_counts, length_counts = np.zeros(vocab_size, dtype=np.int64), np.zeros(length + 1, dtype=np.int64)
    for table in texts.with_format("arrow").iter(10_000):
        tokens = table["tokens"].combine_chunks()
        token_counts += np.bincount(tokens.flatten(), minlength=vocab_size)
        length_counts += np.bincount(tokens.value_lengths(), minlength=length + 1)
    return {"token_counts": torch.from_numpy(token_counts), "length_counts": torch.from_numpy(length_counts)}


def token_lengths(texts: Dataset) -> np.ndarray:
    """How many tokens each text has."""
    tables = texts.with_format("arrow").iter(10_000)
    return np.concatenate([table["tokens"].combine_chunks().value_lengths().to_numpy() for table in tables])
