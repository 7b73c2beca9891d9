"""The baselines: models of tokens themselves, from the same blocks, embeddings, data and figures as the others.

(1) autoregressive   −log p(w) = −Σ log p(w_i | w_1 … w_{i−1})                                      exact
(2) masked           −log p(w) ≤ E_k [n/k · Σ −log p(w_i | the others)], the sum over k masked tokens of n, all k from
    1 to n equally likely: the integral over masking rates of Sahoo et al. 2024, eq. 10, taken count by count (Ou et al.
    2025, eq. 11), which varies less
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusion_text.denoisers.attention import Cache
from diffusion_text.denoisers.transformer import Transformer
from diffusion_text.diagnostics.preflight import (
    Check,
    condition_in_the_data,
    condition_sensitivity,
    gradient_reach,
    padding_leak,
    position_sensitivity,
    sees_ahead,
)
from diffusion_text.diagnostics.references import smoothed_shares
from diffusion_text.diffusion.losses import CrossEntropyLoss
from diffusion_text.diffusion.time_sampling import StratifiedTimes
from diffusion_text.diffusion.token_samplers import LeftToRightSampler, UnmaskingSampler
from diffusion_text.errors import UserError
from diffusion_text.metrics.likelihood import Likelihood
from diffusion_text.models.base import leaving_no_trace
from diffusion_text.models.step_draws import StepDraws
from diffusion_text.models.writing import Given, Sampled, Writer
from diffusion_text.shapes import Context, Latents, Mask, PerText, Tokens
from diffusion_text.text_spaces.base import Logits
from diffusion_text.text_spaces.embedding import EmbeddingSpace

Batch = dict[str, Tensor]
DRAWS = 10  # masked counts of each text at an evaluation


class TokenModel(Writer):
    """Reads embeddings of tokens, and says of each position how likely every token is."""

    FIGURES: ClassVar = Writer.FIGURES | Likelihood.FIGURES
    LOGGED: ClassVar = (*Writer.LOGGED, *(f"val/{name}" for name in Likelihood.FIGURES))
    reference = "the training split's unigrams"
    text_space: EmbeddingSpace
    token_counts: Tensor

    def __init__(self, denoiser: Transformer, text_space: EmbeddingSpace, max_length: int = 64, **optimisation: Any):
        super().__init__(max_length, **optimisation)
        self.check_network(denoiser)
        if text_space.rounding != "learned":
            raise ValueError("a model of tokens reads them with the learned head: use text_space.rounding=learned")
        self.denoiser, self.text_space = denoiser, text_space
        self.unknown = nn.Parameter(torch.randn(text_space.dim))  # read where no token is known yet
        self.register_buffer("token_counts", torch.zeros(len(text_space.embedding.rows), dtype=torch.long))
        self.cross_entropy = CrossEntropyLoss()
        self.likelihoods = nn.ModuleDict({stage: Likelihood() for stage in ("val", "test")})

    @classmethod
    def check(cls, **parts: Any) -> None:
        """Raise ValueError for parts that only diffusion over x_0 has."""
        if chosen := [name for name, part in parts.items() if part is not None]:
            raise ValueError(f"{chosen[0]}= is of diffusion over x_0, which {cls.__name__} is not: leave it out")

    @classmethod
    @abstractmethod
    def check_network(cls, denoiser: nn.Module) -> None:
        """Raise UserError where the network cannot do what is asked of it."""

    def set_statistics(self, token_counts: Tensor, length_counts: Tensor) -> None:
        """Take over how often each token and each length occurs in the training split."""
        self.token_counts.copy_(token_counts)
        self.length_counts.copy_(length_counts)

    @abstractmethod
    def drawn_nats(
        self,
        tokens: Tokens,
        mask: Mask,
        shares: PerText,
        keys: Float[Tensor, "batch length"],
        context: Context | None = None,
    ) -> PerText:
        """−log p of each text in nats, or what averages to a bound on it, told the `context`; `shares`, uniform in
        [0, 1), say how much of a text is masked, and `keys`, any numbers, which of it.
        """

    @torch.no_grad()
    def nats(self, tokens, mask, draws, t_0, generator):
        drawn = (
            (torch.rand(len(tokens), generator=generator), torch.rand(mask.shape, generator=generator))
            for _ in range(draws)
        )
        return {"tokens": self.mean_nats(tokens, mask, draws, drawn)}

    def mean_nats(
        self,
        tokens: Tokens,
        mask: Mask,
        draws: int,
        drawn: Iterable[tuple[PerText, Float[Tensor, "batch length"]]],
        context: Context | None = None,
    ) -> PerText:
        """−log p of each text, or its bound from `draws` masked counts, spread evenly: for each are `drawn` numbers in
        [0, 1), and keys.
        """
        total = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        for draw, (within, keys) in enumerate(drawn):
            shares = (draw + within) / draws
            total += self.drawn_nats(tokens, mask, shares.to(tokens.device), keys.to(tokens.device), context)
        return total / draws

    def logits(
        self,
        x: Latents,
        share: PerText,
        mask: Mask,
        context: Context | None = None,
        caches: list[Cache] | None = None,
    ) -> Logits:
        """Of every position; `share` of the text is masked."""
        return self.text_space.head(self.denoiser(x, share, mask, context=context, caches=caches))

    # ---- training and evaluation

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        texts = len(batch["tokens"])
        losses = self.trained_on(batch, self.step_draws(texts, batch_idx))
        if self.is_logged:
            for name, value in losses.items():
                shown = name == "loss"
                self.log(f"train/{name}", value.mean(), prog_bar=shown, batch_size=texts, sync_dist=True)
        return losses["loss"].mean()

    def trained_on(self, batch: Batch, draws: StepDraws) -> dict[str, PerText]:
        """What is minimised of a batch as training draws it, and the parts of it that are the condition's."""
        tokens, mask = batch["tokens"], batch["mask"]
        keys = self.keys(mask, draws)
        context = self.context_in_training(batch, draws, mask)
        times, own = draws.times(StratifiedTimes(), tokens.device), self.condition_losses(context, mask)
        nats = self.drawn_nats(tokens, mask, times, keys, context)
        return {"loss": nats / mask.sum(1) + sum(own.values())} | own

    @staticmethod
    def keys(mask: Mask, draws: StepDraws, stream: int = 0) -> Float[Tensor, "batch length"]:
        """Numbers whose order says which positions are masked."""
        return draws.noise(mask.float().unsqueeze(-1), stream).squeeze(-1)

    def evaluate(self, stage, batch, batch_idx):
        tokens, mask = batch["tokens"], batch["mask"]
        draws = self.evaluation_draws(stage, batch_idx)
        within = draws.uniform(self.draws, tokens.device)
        drawn = ((within[:, draw], self.keys(mask, draws, draw)) for draw in range(self.draws))
        context = self.context(batch, draws, mask)
        nats, counts = self.mean_nats(tokens, mask, self.draws, drawn, context), mask.sum(1)
        nats = nats + (0 if context is None else context.nats)
        unigram = -smoothed_shares(self.token_counts).log()[tokens].masked_fill(~mask, 0).sum(1)
        self.metric(stage).update(nats, unigram, counts)
        self.log(f"{stage}/loss", (nats / counts).mean().float(), batch_size=len(tokens), sync_dist=True)

    def metric(self, stage: str) -> Likelihood:
        return cast(Likelihood, self.likelihoods[stage])

    def on_validation_epoch_end(self) -> None:
        self.log_likelihood("val")

    def on_test_epoch_end(self) -> None:
        self.log_likelihood("test")

    def log_likelihood(self, stage: str) -> None:
        """Log what was gathered, and forget it."""
        for name, value in self.metric(stage).compute().items():
            self.log(f"{stage}/{name}", value.float(), prog_bar=name == "information", sync_dist=True)
        self.metric(stage).reset()

    def describe(self):
        return {
            "text space": f"{len(self.token_counts)} tokens, {self.text_space.dim} channels",
            "model": f"{type(self).__name__}, {type(self.denoiser).__name__}, {self.count_parameters():,} parameters",
            "loss": f"−log p in nats a token, {self.likelihood}",
        }

    def preflight(self, batch, sampler) -> list[Check]:
        few = {name: value[:8].to(self.device) for name, value in batch.items()}
        tokens, mask = few["tokens"], few["mask"]
        with leaving_no_trace(self):
            self.trained_on(few, StepDraws(self.seed, 0, self.max_length, len(tokens)))["loss"].mean().backward()
            x = self.text_space.encode(tokens, mask).detach()
            context = self.context(few, torch.Generator().manual_seed(self.seed), mask)
            return [
                *([condition_in_the_data(self.told_counts)] if self.told_counts else []),
                *([condition_sensitivity(self.denoiser, x, mask, context)] if context else []),
                position_sensitivity(self.denoiser, x, mask),
                padding_leak(self.denoiser, x, mask),
                sees_ahead(self.denoiser, x, mask, self.denoiser.causal),
                gradient_reach({name: parameter.grad for name, parameter in self.named_parameters()}),
            ]

    # ---- writing

    @property
    def knobs(self):
        return ("temperature",)

    def begin(self, mask: Mask, given: Given | None, temperature: float) -> tuple[Tokens, Mask]:
        """Token ids of which none but those that are given is known, and where they are."""
        if temperature:
            raise UserError("temperature= is of a rounding, and this model has none: use sampler.temperature")
        tokens = torch.full(mask.shape, self.text_space.tokenizer.pad_token_id, device=self.device)
        if given is None:
            return tokens, torch.zeros_like(mask)
        return tokens.where(~given.where, given.tokens), given.where.expand(mask.shape)


class Autoregressive(TokenModel):
    """Equation (1), by a causal network."""

    FIGURES: ClassVar = TokenModel.FIGURES | {"nll": replace(Likelihood.FIGURES["nll"], kind="exact")}
    takes = LeftToRightSampler
    likelihood = "exact"
    draws = 1

    @classmethod
    def check_network(cls, denoiser):
        if not getattr(denoiser, "causal", False):
            raise UserError("route=autoregressive needs a network that does not see ahead: use model=autoregressive")

    def drawn_nats(self, tokens, mask, shares, keys, context=None):
        x = self.text_space.encode(tokens, mask)
        before = torch.cat([self.unknown.expand(len(x), 1, -1), x[:, :-1]], 1)
        logits = self.logits(before, torch.zeros_like(shares), mask, context)
        return self.cross_entropy(logits, tokens, mask) * mask.sum(1)

    def write(self, sampler, mask, generators, given, temperature, done, told=None, steering=None):
        mask = mask.to(self.device)
        tokens, known = self.begin(mask, given, temperature)
        if known.any() and not known[0, : int(known[0].sum())].all():
            raise UserError("an autoregressive model goes on from a beginning: it cannot fill blanks")
        caches = [Cache() for _ in self.denoiser.blocks]
        share = torch.zeros(len(mask), device=self.device)
        context = self.context_of(told, mask)
        x = self.unknown.expand(len(mask), 1, -1)
        for position in range(mask.shape[1]):
            logits = self.logits(x, share, mask[:, : position + 1], context, caches)
            drawn, _ = sampler.draw(logits, generators)
            tokens[:, position] = tokens[:, position].where(known[:, position], drawn[:, 0])
            x = self.text_space.embedding(tokens[:, position : position + 1])
            done(1)
        return Sampled(self.text_space.padded(tokens, mask))


class MaskedDiffusion(TokenModel):
    """Equation (2): a network that sees both ways, told what share of a text is masked."""

    takes = UnmaskingSampler
    likelihood = "bound"
    draws = DRAWS

    @classmethod
    def check_network(cls, denoiser):
        if getattr(denoiser, "causal", False):
            raise UserError("route=masked_diffusion needs a network that sees both ways: use model=masked_diffusion")

    def read(self, tokens: Tokens, mask: Mask, masked: Mask, context: Context | None = None) -> Logits:
        """Log-probabilities from what is not masked, told the `context`."""
        x = torch.where(masked.unsqueeze(-1), self.unknown, self.text_space.encode(tokens, mask))
        return self.logits(x, masked.sum(1) / mask.sum(1), mask, context)

    def drawn_nats(self, tokens, mask, shares, keys, context=None):
        lengths = mask.sum(1)
        many = 1 + (shares * lengths).long().clamp(max=lengths - 1)
        ranks = keys.masked_fill(~mask, torch.inf).argsort(1).argsort(1)
        masked = ranks < many.unsqueeze(1)
        return self.cross_entropy(self.read(tokens, mask, masked, context), tokens, masked) * lengths

    def write(self, sampler, mask, generators, given, temperature, done, told=None, steering=None):
        mask = mask.to(self.device)
        tokens, known = self.begin(mask, given, temperature)
        masked, context = mask & ~known, self.context_of(told, mask)
        for step in range(sampler.num_steps):
            drawn, confidence = sampler.draw(self.read(tokens, mask, masked, context), generators)
            shown = sampler.shown(step, masked, confidence, generators)
            tokens, masked = drawn.where(shown, tokens), masked & ~shown
            done(1)
        return Sampled(self.text_space.padded(tokens, mask))
