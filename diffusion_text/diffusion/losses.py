"""How an output is compared with its target, and how much each noise level counts.

Losses return one number a text, averaged over real tokens; weightings multiply it.

(1) mse, l1, huber      elementwise
(2) cosine_magnitude    (1 − cos(output, target)) + magnitude_weight·|1 − ‖output‖ / ‖target‖|
(3) cross_entropy       −log softmax(output)_w for the true token w, in nats
(4) uniform             1
(5) min-SNR             min(SNR, γ) of an error in x_0, in the prediction's own units      Hang et al. 2023, eq. 8
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffusion_text.diffusion.predictions import Prediction
from diffusion_text.shapes import Latents, Mask, PerText
from diffusion_text.values import number


def mean_over_real(values: Latents, mask: Mask) -> PerText:
    """Mean over the real tokens' elements of each text."""
    real = mask.unsqueeze(-1)
    return values.masked_fill(~real, 0).sum((1, 2)) / (real.sum((1, 2)).clamp(min=1) * values.shape[-1])


def cosine_and_magnitude(predicted: Latents, true: Latents, mask: Mask) -> tuple[PerText, PerText]:
    """Cosine of the angle between two latents, and ‖predicted‖ / ‖true‖; each text one vector of its real tokens."""
    predicted, true = (x.float().masked_fill(~mask.unsqueeze(-1), 0).flatten(1) for x in (predicted, true))
    length, true_length = predicted.norm(dim=1), true.norm(dim=1)
    cosine = (predicted * true).sum(1) / (length * true_length).clamp(min=1e-8)
    return cosine, length / true_length.clamp(min=1e-12)


class Loss(ABC):
    """Compares an output with its target: `(batch, length, dim)` twice and a mask, to one number a text."""

    @abstractmethod
    def __call__(self, output: Tensor, target: Tensor, mask: Mask) -> PerText: ...


class MSELoss(Loss):
    """Mean squared error."""

    def __call__(self, output, target, mask):
        return mean_over_real((output - target) ** 2, mask)


class L1Loss(Loss):
    """Mean absolute error."""

    def __call__(self, output, target, mask):
        return mean_over_real((output - target).abs(), mask)


class HuberLoss(Loss):
    """Squared below `delta`, absolute above it."""

    def __init__(self, delta: float = 1.0):
        self.delta = number(delta, "loss.delta", above=0)

    def __call__(self, output, target, mask):
        return mean_over_real(F.huber_loss(output, target, reduction="none", delta=self.delta), mask)


class CosineMagnitudeLoss(Loss):
    """Direction and length apart: equation (2)."""

    def __init__(self, magnitude_weight: float = 1.0):
        self.magnitude_weight = number(magnitude_weight, "loss.magnitude_weight", least=0)

    def __call__(self, output, target, mask):
        cosine, ratio = cosine_and_magnitude(output, target, mask)
        return 1 - cosine + self.magnitude_weight * (1 - ratio).abs()


class CrossEntropyLoss(Loss):
    """Equation (3): `output` are logits `(batch, length, vocabulary)` and `target` tokens `(batch, length)`."""

    def __call__(self, output, target, mask):
        each = F.cross_entropy(output.transpose(1, 2), target, reduction="none")
        return mean_over_real(each.unsqueeze(-1), mask)


class Weighting(ABC):
    """How much the loss at each noise level counts."""

    @abstractmethod
    def __call__(
        self, alpha: Float[Tensor, "batch 1 1"], sigma: Float[Tensor, "batch 1 1"], prediction: Prediction
    ) -> PerText: ...


class UniformWeighting(Weighting):
    """Every noise level counts the same, in the prediction's own units."""

    def __call__(self, alpha, sigma, prediction):
        return torch.ones_like(alpha).flatten()


class MinSNRWeighting(Weighting):
    """Equation (5): x0 gets min(SNR, γ), epsilon min(SNR, γ)/SNR and v min(SNR, γ)/(SNR + 1)."""

    def __init__(self, gamma: float = 5.0):
        self.gamma = number(gamma, "weighting.gamma", above=0)

    def __call__(self, alpha, sigma, prediction):
        snr = (alpha / sigma.clamp(min=1e-12)) ** 2
        return (snr.clamp(max=self.gamma) * prediction.x0_per_output(alpha, sigma) ** 2).flatten()
