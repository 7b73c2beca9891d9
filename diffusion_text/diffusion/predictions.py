"""What a network's output stands for. x_0 is the hub: every prediction turns its output into x_0.

(1) epsilon   output = noise                       x_0 = (x_t − sigma·output) / alpha     Ho et al. 2020
(2) x0        output = x_0
(3) v         output = alpha·noise − sigma·x_0     x_0 = alpha·x_t − sigma·output         Salimans & Ho 2022
(4) logits    output = log p(w | x_t)              x_0 = Σ_w softmax(output)_w·E[w]       Dieleman et al. 2022, eq. 6
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from diffusion_text.diffusion.gaussian import Level
from diffusion_text.shapes import Latents


class Prediction(ABC):
    """The meaning of a network's output. `to_x0` is affine in it, except for logits."""

    @abstractmethod
    def target(self, x_0: Latents, noise: Latents, alpha: Level, sigma: Level) -> Latents:
        """What a perfect network would output."""

    @abstractmethod
    def to_x0(self, output: Tensor, x_t: Latents, alpha: Level, sigma: Level) -> Latents:
        """The x_0 that an output stands for."""

    def x0_per_output(self, alpha: Level, sigma: Level) -> Level:
        """How far x_0 moves when the output moves by one: turns an error in the output into one in x_0."""
        return self.to_x0(torch.ones_like(alpha), torch.zeros_like(alpha), alpha, sigma).abs()


class EpsilonPrediction(Prediction):
    """Equation (1). At high noise it divides by a small alpha: samplers clip x_0."""

    def target(self, x_0, noise, alpha, sigma):
        return noise

    def to_x0(self, output, x_t, alpha, sigma):
        return (x_t - sigma * output) / alpha


class X0Prediction(Prediction):
    """Equation (2)."""

    def target(self, x_0, noise, alpha, sigma):
        return x_0

    def to_x0(self, output, x_t, alpha, sigma):
        return output


class VPrediction(Prediction):
    """Equation (3)."""

    def target(self, x_0, noise, alpha, sigma):
        return alpha * noise - sigma * x_0

    def to_x0(self, output, x_t, alpha, sigma):
        return alpha * x_t - sigma * output


class LogitsPrediction(Prediction):
    """Equation (4): the output `(batch, length, vocabulary)` says how likely each token is; x_0 is its expectation.

    `embedding` is the module whose `table` `(vocabulary, dim)` the expectation is over; the model supplies it.
    """

    embedding: nn.Module

    def target(self, x_0, noise, alpha, sigma):
        return x_0

    def to_x0(self, output, x_t, alpha, sigma):
        return output.softmax(-1) @ self.embedding.table

    def x0_per_output(self, alpha, sigma):
        return torch.ones_like(alpha)
