"""The embedding route: Diffusion-LM with everything that came after it (Li et al. 2022; Dieleman et al. 2022).

(1) x_0 = E[w] + σ(t_0)·z,  z ~ N(0, I)                                            Li et al. 2022, §4.1
(2) loss = L(output, target) + rounding_weight·CE(rounding(x), w) + prior_weight·‖alpha(1)·x_0‖²
    below t_0 the target is E[w] instead of x_0; x is x_0, or the network's estimate of it    Li et al. 2022, eq. 2
(3) prediction=logits: loss = CE(output, w)                                        Dieleman et al. 2022, §3.1
    with log p(w | x_t), what x_t says without context, added to the output by `linear_path`: equation (4) of
    diagnostics/references.py
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from diffusion_text.diagnostics.embeddings import HEALTH, embedding_health
from diffusion_text.diagnostics.preflight import Check, rounding_share
from diffusion_text.diagnostics.references import moments, smoothed_shares, token_posterior
from diffusion_text.diffusion.gaussian import Level, noise_from
from diffusion_text.diffusion.losses import CrossEntropyLoss, mean_over_real
from diffusion_text.diffusion.predictions import LogitsPrediction
from diffusion_text.diffusion.samplers import draw_like
from diffusion_text.metrics.reconstruction import token_accuracy
from diffusion_text.models.base import ends_step, logs
from diffusion_text.models.likelihood import bound_terms
from diffusion_text.models.sharding import all_weights
from diffusion_text.models.step_draws import StepDraws
from diffusion_text.models.text_diffusion import Batch, TextDiffusion
from diffusion_text.shapes import Latents
from diffusion_text.text_spaces.base import Logits
from diffusion_text.text_spaces.embedding import EmbeddingSpace
from diffusion_text.values import number, one_of, or_null

PARTS = ("diffusion", "prior", "rounding")  # of the loss


class DiffusionLM(TextDiffusion):
    """Embedding, rounding and denoiser are trained together: equation (2), or (3) with prediction=logits. A rounding
    that is not learned has no loss, and leaves the embedding as it is.

    `rounding_of`: clean x_0, as the original, which any scale of the table satisfies, or `predicted` x_0.
    `rounding_weight` goes to `rounding_weight_end` in a straight line over training, if that is given; validation
    always counts it in full, so that the loss stays comparable.
    `x_0_time`: t_0 of equation (1); 0 leaves x_0 the embedding itself, 1/2000 is Diffusion-LM's.
    """

    LOGGED: ClassVar = (
        *TextDiffusion.LOGGED,
        *(f"{stage}/{part}" for stage in ("train", "val", "val/without_context") for part in PARTS),
        *(f"embedding/{name}" for name in HEALTH),
    )
    likelihood = "bound"
    reference = "what each position says by itself"
    text_space: EmbeddingSpace
    token_counts: Tensor

    def __init__(
        self,
        text_space: EmbeddingSpace,
        prediction,
        rounding_weight: float = 1.0,
        rounding_weight_end: float | None = None,
        rounding_of: str = "clean",
        x_0_time: float = 0.0,
        prior_weight: float = 0.0,
        linear_path: bool | None = None,
        **parts,
    ):
        reads_tokens = isinstance(prediction, LogitsPrediction)
        self.check(
            prediction,
            rounding_weight=rounding_weight,
            rounding_weight_end=rounding_weight_end,
            rounding_of=rounding_of,
            x_0_time=x_0_time,
            prior_weight=prior_weight,
            linear_path=linear_path,
            **parts,
        )
        if reads_tokens and text_space.rounding != "learned":
            raise ValueError("prediction=logits reads tokens with the learned head: use text_space.rounding=learned")
        super().__init__(
            text_space=text_space,
            prediction=prediction,
            linear_path=reads_tokens if linear_path is None else linear_path,
            **parts,
        )
        self.rounding_weight, self.rounding_weight_end = rounding_weight, rounding_weight_end
        self.rounding_of, self.x_0_time, self.prior_weight = rounding_of, x_0_time, prior_weight
        self.earliest = x_0_time
        self.cross_entropy = CrossEntropyLoss()
        self.register_buffer("token_counts", torch.zeros(len(text_space.embedding.rows), dtype=torch.long))
        if reads_tokens:
            prediction.embedding = text_space.embedding

    @classmethod
    def check(
        cls,
        prediction,
        *parts,
        rounding_weight=1.0,
        rounding_weight_end=None,
        rounding_of="clean",
        x_0_time=0.0,
        prior_weight=0.0,
        linear_path=None,
        **settings,
    ):
        super().check(prediction, *parts, linear_path=linear_path, **settings)
        number(rounding_weight, "route.rounding_weight", least=0)
        or_null(number, rounding_weight_end, "route.rounding_weight_end", least=0)
        one_of(rounding_of, "route.rounding_of", ("clean", "predicted"))
        number(x_0_time, "route.x_0_time", least=0, below=1)
        number(prior_weight, "route.prior_weight", least=0)
        if linear_path and not isinstance(prediction, LogitsPrediction):
            raise ValueError("route.linear_path=true goes with prediction=logits on learned embeddings")

    @property
    def reads_tokens(self) -> bool:
        """Whether the network outputs logits."""
        return isinstance(self.prediction, LogitsPrediction)

    def set_statistics(self, token_counts, length_counts):
        """Take over how often each token and each length occurs in the training split."""
        self.token_counts.copy_(token_counts)
        self.length_counts.copy_(length_counts)
        self.follow_table()

    @torch.no_grad()
    def follow_table(self) -> None:
        """The best linear predictor is that of the table as it is now, weighted by token frequency."""
        self.linear.set_moments(*moments(self.text_space.embedding.table, self.token_shares))

    @property
    def token_shares(self) -> Tensor:
        """The training split's token frequencies `(vocabulary,)`, with one more of each."""
        return smoothed_shares(self.token_counts)

    def encode_batch(self, batch, random=None):
        x_0, mask = self.text_space.encode(batch["tokens"], batch["mask"]), batch["mask"]
        if self.x_0_time:
            x_0 = x_0 + self.x_0_std * normal(x_0, random) * mask.unsqueeze(-1)
        return x_0, mask

    def clean(self, batch):
        return self.text_space.encode(batch["tokens"], batch["mask"]), batch["mask"]

    @property
    def x_0_std(self) -> float:
        """σ(t_0) of equation (1)."""
        return float(self.schedule.alpha_sigma(torch.tensor(self.x_0_time))[1])

    def noised(self, x_0, noise, t, mask):
        return super().noised(x_0, noise, t.clamp(min=self.x_0_time), mask)

    # ---- what the network says

    def read(self, features):
        return self.text_space.head(features) if self.reads_tokens else features

    def without_context(self, x_t, alpha, sigma):
        return self.bayes(x_t, alpha, sigma) if self.reads_tokens else super().without_context(x_t, alpha, sigma)

    def bayes(self, x_t: Latents, alpha: Level, sigma: Level) -> Logits:
        """log p(w | x_t) of each position by itself, up to a constant: Bayes' rule in equation (3)."""
        return token_posterior(x_t, self.text_space.embedding.table, self.token_shares, alpha, sigma)

    def reference_x0(self, x_t, alpha, sigma, alone=None):
        known = alone is not None and self.reads_tokens
        logits = alone if known else self.bayes(x_t, alpha, sigma)
        return logits.softmax(-1) @ self.text_space.embedding.table

    # ---- what is minimised

    def losses(self, batch, noisy, output):
        tokens, mask = batch["tokens"], noisy.mask
        weights = self.weighting(noisy.alpha, noisy.sigma, self.prediction)
        if self.reads_tokens:
            return {"loss": weights * self.loss(output, tokens, mask)}
        x_0, noise = noisy.x_0, noisy.noise
        if self.x_0_time:
            clean = self.text_space.encode(tokens, mask)
            x_0 = torch.where((noisy.t <= self.x_0_time)[:, None, None], clean, x_0)
            noise = noise_from(noisy.x_t, x_0, noisy.alpha, noisy.sigma)
        target = self.prediction.target(x_0, noise, noisy.alpha, noisy.sigma)
        end, _ = self.schedule.alpha_sigma(torch.ones(()))
        parts = {
            "diffusion": weights * self.loss(output, target, mask),
            "prior": mean_over_real((end.to(x_0) * noisy.x_0) ** 2, mask),
        }
        loss = parts["diffusion"] + self.prior_weight * parts["prior"]
        if self.text_space.rounding == "learned":
            predicted = self.rounding_of == "predicted"
            x = self.prediction.to_x0(output, noisy.x_t, noisy.alpha, noisy.sigma) if predicted else noisy.x_0
            parts["rounding"] = self.cross_entropy(self.text_space.logits(x), tokens, mask)
            loss = loss + self.current_rounding_weight * parts["rounding"]
        return {"loss": loss} | parts

    @property
    def current_rounding_weight(self) -> float:
        """The rounding loss's weight at this step of training."""
        if self.rounding_weight_end is None or not self.training:
            return self.rounding_weight
        done = self.global_step / self.trainer.max_steps
        return self.rounding_weight + (self.rounding_weight_end - self.rounding_weight) * done

    # ---- what it is held to

    @torch.no_grad()
    def nats(self, tokens, mask, draws, t_0, generator):
        return bound_terms(self, tokens, mask, draws, t_0 or (1e-3 if self.reads_tokens else 0.3), generator)

    def preflight(self, batch, sampler):
        checks = super().preflight(batch, sampler)
        return checks if self.text_space.rounding == "learned" else [*checks, self.check_rounding(batch)]

    @torch.no_grad()
    def check_rounding(self, batch: Batch) -> Check:
        """Read noisy embeddings by the space's rounding, and by their nearest neighbour."""
        x_0, mask = self.encode_batch(batch)
        noise = draw_like(x_0, torch.Generator().manual_seed(self.seed))
        noisy = self.noised(x_0, noise, torch.full((len(x_0),), 0.3, device=x_0.device), mask)
        x = noisy.x_t / noisy.alpha
        nearest = torch.cdist(x, self.text_space.embedding.table).argmin(-1)
        shares = (token_accuracy(read, batch["tokens"], mask) for read in (self.text_space.decode(x, mask), nearest))
        return rounding_share(*shares)

    # ---- the reference follows the table

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if logs(self.trainer, self.global_step) and ends_step(self.trainer, batch_idx):
            with all_weights(self):
                self.follow_table()
        super().on_train_batch_end(outputs, batch, batch_idx)

    def on_validation_epoch_start(self):
        super().on_validation_epoch_start()
        self.follow_table()
        health = embedding_health(self.text_space.embedding.table, self.token_shares, self.schedule)
        self.log_dict({f"embedding/{name}": value for name, value in health.items()}, sync_dist=True)

    def on_test_epoch_start(self):
        self.follow_table()


def normal(like: Latents, random: torch.Generator | StepDraws | None) -> Latents:
    """Standard normal noise from one of these."""
    if random is None:
        return torch.randn_like(like)
    return random.noise(like, stream=1) if isinstance(random, StepDraws) else draw_like(like, random)
