"""The latent route: diffusion over a frozen autoencoder's latents, read by its decoder or by the denoiser itself.

(1) x_ν = √(1 − ν)·x_0 + √ν·ε,  ν ~ U(0, reading_noise)
(2) loss of reading = CE(W·(x_ν + denoiser(x_ν, READING)) + b, w) a token          Embedded Language Flows 2026, §3
    where READING is a time before all that are denoised at
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from diffusion_text.diffusion.gaussian import corrupt, per_text
from diffusion_text.diffusion.losses import CrossEntropyLoss
from diffusion_text.diffusion.predictions import LogitsPrediction
from diffusion_text.models.likelihood import latent_bound_terms
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.shapes import Latents, Mask
from diffusion_text.text_spaces.bart import BartSpace
from diffusion_text.text_spaces.base import Logits, PositionReader
from diffusion_text.values import share

READING = -1.0


class LatentDiffusion(TextDiffusion):
    """Only the denoiser is trained. Batches bring raw `latents` and their mask, or else texts are encoded here.

    With `reads`, this share of a step's texts teaches the denoiser to read as well: equation (2). Then it takes the
    place of the autoencoder's decoder.
    """

    LOGGED: ClassVar = (*TextDiffusion.LOGGED, "train/reading", "val/reading")
    text_space: BartSpace

    def __init__(self, denoiser, text_space: BartSpace, *parts, reads=0.0, reading_noise=0.3, **settings):
        super().__init__(denoiser, text_space, *parts, **settings)
        self.reads, self.reading_noise = share(reads, "route.reads"), share(reading_noise, "route.reading_noise")
        if reads:
            if text_space.compression > 1:
                raise ValueError("route.reads finds a token at each position: use text_space.compression=1")
            self.head = nn.Linear(text_space.dim, len(text_space.tokenizer))
            self.cross_entropy = CrossEntropyLoss()

    @classmethod
    def check(cls, prediction, *parts, reads=0.0, reading_noise=0.3, **settings):
        super().check(prediction, *parts, **settings)
        share(reads, "route.reads")
        share(reading_noise, "route.reading_noise")
        if isinstance(prediction, LogitsPrediction):
            raise ValueError("prediction=logits needs learned embeddings: use model=diffusion_lm")

    def set_statistics(self, mean, covariance, length_counts) -> None:
        """Take over the training split's latent mean `(dim,)`, covariance `(dim, dim)` and length distribution."""
        self.text_space.set_statistics(mean, covariance)
        self.linear.set_moments(torch.zeros_like(mean), self.text_space.correlation)
        self.length_counts.copy_(length_counts)

    def encode_batch(self, batch, random=None):
        if "latents" in batch:
            return self.text_space.standardize(batch["latents"].float()), batch["latent_mask"]
        return self.text_space.encode(batch["tokens"], batch["mask"]), self.text_space.latent_mask(batch["mask"])

    @property
    def likelihood(self):
        """A bound where the encoder is variational. Latents of another have a density, and the text has no bound."""
        return "bound" if self.text_space.is_variational else None

    def nats(self, tokens, mask, draws, t_0, generator):
        return latent_bound_terms(self, tokens, mask, draws, t_0 or 1e-3, generator)

    def losses(self, batch, noisy, output):
        target = self.prediction.target(noisy.x_0, noisy.noise, noisy.alpha, noisy.sigma)
        per_text = self.loss(output, target, noisy.mask)
        weights = self.weighting(noisy.alpha, noisy.sigma, self.prediction)
        return {"loss": weights * per_text}

    # ---- reading

    @property
    def reader(self):
        return NetworkReader(self) if self.reads else self.text_space

    def token_logits(self, x_0: Latents, mask: Mask) -> Logits:
        """How well each token fits each position, as the denoiser reads x_0."""
        beside = x_0.repeat(1, 1, self.denoiser.estimates) if self.denoiser.estimates else None
        read = self.denoiser(x_0, x_0.new_full((len(x_0),), READING), mask, beside)
        return self.head(x_0 + read)

    def reading_losses(self, batch, x_0, mask, draws):
        if not self.reads:
            return {}
        of_all = self.reads if self.training else 1.0
        chosen = draws.chosen(of_all, x_0.device)
        variance = self.reading_noise * draws.uniform(1, x_0.device)[chosen, 0]
        noise = draws.noise(x_0, stream=1)[chosen]
        x = corrupt(x_0[chosen], noise, per_text((1 - variance).sqrt()), per_text(variance.sqrt()))
        nats = self.cross_entropy(self.token_logits(x, mask[chosen]), batch["tokens"][chosen], mask[chosen])
        return {"reading": x_0.new_zeros(len(x_0)).index_add(0, chosen, nats.to(x_0)) / of_all}


class NetworkReader(PositionReader):
    """Reads as a model's denoiser does."""

    def __init__(self, model: LatentDiffusion):
        self.model, self.tokenizer = model, model.text_space.tokenizer

    @torch.no_grad()
    def position_logits(self, x_0, mask):
        return self.model.token_logits(x_0, mask)
