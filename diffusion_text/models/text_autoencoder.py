"""Training a text autoencoder: BART reconstructs texts of which some tokens were masked (Lewis et al. 2020), through a
variational bottleneck where there is one (Kingma & Welling 2014).

(1) loss = −log p(tokens | z) a token + kl_weight · KL(q(z | masked tokens) ‖ N(0, 1)) a latent
(2) z_ν = mean + √(1 − ν)·(z − mean) + √ν·std·noise,  ν ~ U(0, decoder_noise), in place of z in training, so that the
    decoder reads what a denoiser leaves                                                 Shabalin et al. 2024
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from diffusion_text.diagnostics.preflight import Check, gradient_reach
from diffusion_text.figures import LATENTS, Figure
from diffusion_text.metrics.reconstruction import exact_match, token_accuracy
from diffusion_text.models.base import Trained
from diffusion_text.shapes import Latents, Mask
from diffusion_text.text_spaces.bart_autoencoder import BartAutoencoder, Posterior
from diffusion_text.values import number, share

Batch = dict[str, Tensor]
NOISE_LEVELS = (0.1, 0.5, 1.0)  # of the noising probe


def noisy_accuracy(level: float) -> str:
    """The name of the token accuracy with so much noise on the latents."""
    return f"token_accuracy_noise_{level}"


class TextAutoencoder(Trained):
    """Trains `autoencoder` on equation (1) with `mask_probability` of the input tokens masked, its decoder on (2).

    Logs the loss and its parts, `reconstruction` and `kl`; `accuracy` of each token given those before it; and, of
    the first validation batch, decoded freely: `token_accuracy` and `exact_match`, and the token accuracy with noise
    of 0.1, 0.5 and 1.0 standard deviations on the latents.
    """

    FIGURES: ClassVar = (
        Trained.FIGURES
        | {
            "reconstruction": Figure("exact", "nats a token", LATENTS, "lower"),
            "kl": Figure("exact", "nats a latent", LATENTS),
        }
        | {
            name: Figure("exact", "share", LATENTS, "higher")
            for name in ("accuracy", "token_accuracy", "exact_match", *(noisy_accuracy(x) for x in NOISE_LEVELS))
        }
    )

    LOGGED: ClassVar = (
        *Trained.LOGGED,
        *(f"{stage}/{name}" for stage in ("train", "val") for name in ("reconstruction", "kl", "accuracy")),
        *(f"val/{name}" for name in ("token_accuracy", "exact_match", *(noisy_accuracy(x) for x in NOISE_LEVELS))),
    )

    def __init__(
        self,
        autoencoder: BartAutoencoder,
        mask_probability: float,
        kl_weight: float,
        decoder_noise: float = 0.0,
        **optimisation,
    ):
        super().__init__(**optimisation)
        self.autoencoder = autoencoder
        self.decoder_noise = share(decoder_noise, "text_space.decoder_noise")
        self.mask_probability = share(mask_probability, "text_space.mask_probability")
        self.kl_weight = number(kl_weight, "text_space.kl_weight", least=0)

    def losses(self, batch: Batch, shown: Tensor, posterior_sample: bool) -> dict[str, Tensor]:
        """Equation (1), its parts, and the accuracy, for the tokens that the encoder is shown."""
        tokens, mask = batch["tokens"], batch["mask"]
        posterior = self.autoencoder.encode(shown, mask)
        latent_mask = mask[:, :: self.autoencoder.compression]
        z = self.noised(posterior.sample(), latent_mask) if posterior_sample else posterior.mean
        output = self.autoencoder.reconstruct(z, latent_mask, tokens, mask)
        kl = posterior.kl(latent_mask)
        accuracy = (output.logits.argmax(-1) == tokens)[mask].float().mean()
        loss = output.loss + self.kl_weight * kl
        return {"loss": loss, "reconstruction": output.loss, "kl": kl, "accuracy": accuracy}

    def noised(self, z: Latents, mask: Mask) -> Latents:
        """Equation (2), one ν a text; mean and std of each channel are those of the batch's real latents."""
        if not self.decoder_noise:
            return z
        mean, std = z[mask].mean(0), z[mask].std(0)
        noise = self.decoder_noise * torch.rand(len(z), 1, 1, device=z.device)
        return mean + (1 - noise).sqrt() * (z - mean) + noise.sqrt() * std * torch.randn_like(z)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        tokens = batch["tokens"]
        dropped = (torch.rand(tokens.shape, device=tokens.device) < self.mask_probability) & batch["mask"]
        masked = tokens.masked_fill(dropped, self.autoencoder.tokenizer.mask_token_id)
        losses = self.losses(batch, masked, posterior_sample=True)
        for name, value in losses.items():
            self.log(f"train/{name}", value, prog_bar=name in ("loss", "accuracy"), batch_size=len(tokens))
        return losses["loss"]

    def evaluate(self, stage, batch, batch_idx):
        figures = self.losses(batch, batch["tokens"], posterior_sample=False)
        if batch_idx == 0:
            figures |= self.decoding(batch)
        for name, value in figures.items():
            shown = name == "token_accuracy"
            self.log(f"{stage}/{name}", value, prog_bar=shown, batch_size=len(batch["tokens"]), sync_dist=True)

    def decoding(self, batch: Batch) -> dict[str, float]:
        """What free decoding of the latents gives back, and of latents with noise."""
        tokens, mask = batch["tokens"], batch["mask"]
        posterior = self.autoencoder.encode(tokens, mask)
        generator = torch.Generator().manual_seed(self.seed)
        decoded = self.decode(posterior, mask, 0.0, generator)
        figures = {
            "token_accuracy": token_accuracy(decoded, tokens, mask),
            "exact_match": exact_match(decoded, tokens, mask),
        }
        for level in NOISE_LEVELS:
            noisy = self.decode(posterior, mask, level, generator)
            figures[noisy_accuracy(level)] = token_accuracy(noisy, tokens, mask)
        return figures

    @torch.no_grad()
    def decode(self, posterior: Posterior, mask: Tensor, level: float, generator: torch.Generator) -> Tensor:
        """Tokens from latents with noise of `level` standard deviations of their channel."""
        z, latent_mask = posterior.mean, mask[:, :: self.autoencoder.compression]
        noise = torch.randn(z.shape, generator=generator).to(z) * z[latent_mask].std(0)
        return self.autoencoder.generate(z + level * noise, latent_mask).sequences[:, 1:]

    def describe(self):
        config = self.autoencoder.bart.config
        size = f"{config.encoder_layers} + {config.decoder_layers} layers, {config.vocab_size:,} tokens"
        tokens = "a token" if self.autoencoder.compression == 1 else f"for {self.autoencoder.compression} tokens"
        return {
            "text space": f"{self.autoencoder.dim} channels {tokens}",
            "model": f"{type(self.autoencoder).__name__}, {size}, {self.count_parameters():,} parameters",
            "loss": f"reconstruction + {self.kl_weight:g} · KL",
        }

    def preflight(self, batch, sampler) -> list[Check]:
        """Whether the loss trains every parameter."""
        batch = {name: value[:8].to(self.device) for name, value in batch.items()}
        self.losses(batch, batch["tokens"], posterior_sample=False)["loss"].backward()
        gradients = {name: parameter.grad for name, parameter in self.named_parameters()}
        self.zero_grad()
        return [gradient_reach(gradients)]
