"""Reference predictors: what no training at all achieves on the same noisy latents.

(1) do-nothing   ε̂ = x_t
(2) linear       the best linear predictor of x_0 from x_t at the same position, for latents with mean μ and
                 covariance C = Q·diag(λ)·Qᵀ:
                     x̂_0 = Q·diag(alpha·λ / (alpha²·λ + sigma²))·Qᵀ·(x_t − alpha·μ) + μ
                     ε̂   = Q·diag(sigma / (alpha²·λ + sigma²))·Qᵀ·(x_t − alpha·μ)       (Wiener filter)
(3) rank bound   an output of rank c in d dimensions has cosine similarity and magnitude ratio of at most √(c/d)
                 with isotropic noise: a projection of it is the best it can be
(4) token posterior  of a position by itself, for embeddings E, by Bayes' rule:
                     log p(w | x_t) = log p(w) + (alpha·⟨x_t, E[w]⟩ − alpha²·‖E[w]‖²/2) / sigma² + constant
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffusion_text.diffusion.gaussian import Level
from diffusion_text.shapes import Latents

Table = Float[Tensor, "vocabulary dim"]
Shares = Float[Tensor, "vocabulary"]
SIGMA_FLOOR = 0.01


class Estimate(NamedTuple):
    """A predictor's answer about one noisy latent: its noise and its x_0."""

    noise: Latents
    x_0: Latents


def do_nothing(x_t: Latents, alpha: Level, sigma: Level) -> Estimate:
    """Equation (1), and the x_0 that follows from it."""
    return Estimate(noise=x_t, x_0=(1 - sigma) / alpha * x_t)


class LinearPredictor(nn.Module):
    """Equation (2). Mean and covariance are buffers, so a checkpoint brings its own."""

    mean: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("eigenvalues", torch.ones(dim))
        self.register_buffer("eigenvectors", torch.eye(dim))

    def set_moments(self, mean: Float[Tensor, "dim"], covariance: Float[Tensor, "dim dim"]) -> None:
        """Predict for latents of this mean and covariance from now on."""
        eigenvalues, eigenvectors = torch.linalg.eigh(covariance.double())
        self.mean.copy_(mean)
        self.eigenvalues.copy_(eigenvalues.clamp(min=0))
        self.eigenvectors.copy_(eigenvectors)

    def forward(self, x_t: Latents, alpha: Level, sigma: Level) -> Estimate:
        variance = (alpha**2 * self.eigenvalues + sigma**2).clamp(min=torch.finfo(x_t.dtype).tiny)
        directions = (x_t - alpha * self.mean) @ self.eigenvectors / variance
        return Estimate(
            noise=(directions * sigma) @ self.eigenvectors.T,
            x_0=(directions * alpha * self.eigenvalues) @ self.eigenvectors.T + self.mean,
        )


def moments(table: Table, shares: Shares) -> tuple[Float[Tensor, "dim"], Float[Tensor, "dim dim"]]:
    """Mean and covariance of embeddings whose tokens have these `shares` of the text, in float64."""
    table, shares = table.double(), shares.double()
    mean = shares @ table
    centred = table - mean
    return mean, centred.T @ (shares.unsqueeze(-1) * centred)


def smoothed_shares(counts: Int[Tensor, "vocabulary"]) -> Shares:
    """How frequent tokens are that were counted so often, with one more of each, in float64."""
    counts = counts.double() + 1
    return counts / counts.sum()


def token_posterior(
    x_t: Latents, table: Table, shares: Shares, alpha: Level, sigma: Level
) -> Float[Tensor, "batch length vocabulary"]:
    """Equation (4) without the constant, for tokens of these `shares`; sigma is taken to be SIGMA_FLOOR at least."""
    likelihood = alpha * (x_t @ table.T) - alpha**2 * table.square().sum(-1) / 2
    return shares.log().to(x_t) + likelihood / sigma.clamp(min=SIGMA_FLOOR) ** 2


def rank_bound(rank: int, dim: int) -> float:
    """Equation (3)."""
    return math.sqrt(min(rank, dim) / dim)
