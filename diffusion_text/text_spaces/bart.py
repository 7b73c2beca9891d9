"""The latent route's space: latents of a frozen BART, standardised; BART's decoder reads them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_text.shapes import Latents, Mask, PerText, Tokens
from diffusion_text.text_spaces.bart_autoencoder import BartAutoencoder, Posterior
from diffusion_text.text_spaces.base import Frozen, TextSpace, weights_digest


class BartSpace(TextSpace):
    """x_0 = (latent − mean) / std, per channel (Lovelace et al. 2023 diffuse such latents).

    Mean, std and correlation are those of the training split's real tokens; they are buffers, so a checkpoint brings
    its own. BART itself is neither trained nor part of the checkpoint.
    """

    mean: Tensor
    std: Tensor
    correlation: Tensor

    def __init__(self, autoencoder: BartAutoencoder):
        super().__init__()
        self.frozen, self.tokenizer = Frozen(autoencoder), autoencoder.tokenizer
        self.dim, self.max_length = autoencoder.dim, autoencoder.max_length
        self.compression = autoencoder.compression
        self.register_buffer("mean", torch.zeros(self.dim))
        self.register_buffer("std", torch.ones(self.dim))
        self.register_buffer("correlation", torch.eye(self.dim))

    @classmethod
    def from_pretrained(cls, pretrained: str | Path) -> BartSpace:
        """A local directory in the format of `save_pretrained`, or a model on the hub."""
        return cls(BartAutoencoder.from_pretrained(pretrained))

    def save(self, directory):
        """Write backbone and tokenizer in the format that `from_pretrained` reads."""
        self.frozen.module.save(directory)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the backbone's weights."""
        return weights_digest(self.frozen.module.state_dict().items())

    @property
    def ruler(self) -> str:
        """Nats about latents are those of one backbone's."""
        return f"{type(self).__name__} {self.fingerprint}"

    @property
    def unit_scales(self):
        return {"raw": 1 / self.std, "standardised": torch.ones_like(self.std)}

    def set_statistics(self, mean: Tensor, covariance: Tensor) -> None:
        """Standardise by the mean `(dim,)` and covariance `(dim, dim)` of raw latents from now on."""
        std = covariance.diagonal().sqrt()
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.correlation.copy_(covariance / std / std[:, None])

    def encode_raw(self, tokens: Tokens, mask: Mask) -> Latents:
        """The latents as the encoder makes them."""
        device = self.mean.device
        with torch.no_grad():
            return self.frozen.on(device).encode(tokens.to(device), mask.to(device)).mean.float()

    def compile_encoder(self) -> None:
        """Have it compiled when it is first used."""
        self.frozen.module.bart.get_encoder().compile(dynamic=True)

    @property
    def is_variational(self) -> bool:
        """Whether the encoder gives a distribution of latents."""
        return self.frozen.module.bottleneck is not None

    def posterior(self, tokens: Tokens, mask: Mask) -> Posterior:
        """What the encoder knows of x_0."""
        raw = self.frozen.on(self.mean.device).encode(tokens, mask)
        spread = None if raw.log_variance is None else raw.log_variance - 2 * self.std.log()
        return Posterior(self.standardize(raw.mean), spread)

    def nats(self, x_0: Latents, tokens: Tokens, mask: Mask) -> PerText:
        """−log p of the texts' tokens, each given x_0 and those before it."""
        z, autoencoder = x_0 * self.std + self.mean, self.frozen.on(x_0.device)
        logits = autoencoder.reconstruct(z, self.latent_mask(mask), tokens, mask).logits
        each = F.cross_entropy(logits.float().transpose(1, 2), tokens, reduction="none")
        return each.masked_fill(~mask, 0).sum(1)

    def standardize(self, raw: Latents) -> Latents:
        """Raw latents to x_0."""
        return (raw - self.mean) / self.std

    def encode(self, tokens, mask):
        return self.standardize(self.encode_raw(tokens, mask))

    def decode(self, x_0, mask, limit=None):
        """Greedy decoding, of as many tokens as x_0 stands for at most."""
        return self._generate(x_0, mask, limit).sequences[:, 1:]

    def draw(self, x_0, mask, temperature, generators):
        def disturb(tokens: Tensor, scores: Tensor) -> Tensor:
            """The largest of log-probabilities with Gumbel noise is a draw from them (Gumbel 1954)."""
            even = torch.stack([torch.rand(scores.shape[1], generator=own) for own in generators]).to(scores)
            return scores / temperature - (-even.log()).log()

        return self._generate(x_0, mask, None, logits_processor=[disturb]).sequences[:, 1:]

    def decode_with_confidence(self, x_0, mask):
        generated = self._generate(x_0, mask, None, output_logits=True)
        tokens = generated.sequences[:, 1:]
        probabilities = torch.stack(generated.logits, dim=1).softmax(-1)
        return tokens, probabilities.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)

    def _generate(self, x_0: Latents, mask: Mask, limit: int | None, **options):
        return self.frozen.on(x_0.device).generate(x_0 * self.std + self.mean, mask, limit, **options)
