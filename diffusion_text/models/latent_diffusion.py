"""The latent route: diffusion over a frozen autoencoder's latents."""

import torch

from diffusion_text.diffusion.predictions import LogitsPrediction
from diffusion_text.models.likelihood import latent_bound_terms
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.text_spaces.bart import BartSpace


class LatentDiffusion(TextDiffusion):
    """Only the denoiser is trained. Batches bring raw `latents` and their mask, or else texts are encoded here."""

    text_space: BartSpace

    @classmethod
    def check(cls, prediction, *parts, **settings):
        super().check(prediction, *parts, **settings)
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
