"""What both routes share: training, evaluating and generating with a denoiser."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor, nn

from diffusion_text.denoisers.base import Denoiser
from diffusion_text.diagnostics.preflight import Check
from diffusion_text.diagnostics.references import Estimate, LinearPredictor, do_nothing, rank_bound
from diffusion_text.diffusion.gaussian import Level, corrupt, noise_from, per_text
from diffusion_text.diffusion.information import integrand
from diffusion_text.diffusion.losses import Loss, Weighting
from diffusion_text.diffusion.predictions import EpsilonPrediction, LogitsPrediction, Prediction
from diffusion_text.diffusion.samplers import ReverseStep, Sampler, draw_like
from diffusion_text.diffusion.schedules import NoiseSchedule
from diffusion_text.diffusion.time_sampling import TimeSampling
from diffusion_text.errors import UserError
from diffusion_text.figures import SAMPLES, Figure
from diffusion_text.metrics.information import Information
from diffusion_text.metrics.noise_prediction import NoisePrediction
from diffusion_text.models.base import Trained
from diffusion_text.models.preflight import preflight
from diffusion_text.shapes import Latents, Mask, PerText, Times, Tokens
from diffusion_text.text_spaces.base import TextSpace

Batch = dict[str, Tensor]
PREDICTORS = ("model", "do_nothing", "linear")


class Noisy(NamedTuple):
    """A batch part-way into noise."""

    x_0: Latents
    noise: Latents
    x_t: Latents
    t: Times
    alpha: Level
    sigma: Level
    mask: Mask


class Given(NamedTuple):
    """A text of which only the tokens `where` it is True are given, `(length,)` both."""

    tokens: Int[Tensor, length]
    where: Bool[Tensor, length]


class Sampled(NamedTuple):
    """Texts; root mean square of the x_0 that they were decoded from, and the largest on the way there."""

    tokens: Tokens
    rms: float
    peak_rms: float


class TextDiffusion(Trained):
    """A denoiser in a text space. Routes differ in `set_statistics`, `encode_batch` and `losses`.

    `linear_path` adds what a position's own x_t suggests to the denoiser's output, so that the denoiser learns only
    what is left; it is Karras et al.'s skip connection (2022, eq. 7) with the latents' covariance in the
    place of their variance. Null: for every prediction but epsilon, which the original line predicted bare.
    """

    length_counts: Tensor
    FIGURES: ClassVar = (
        Trained.FIGURES
        | Information.FIGURES
        | NoisePrediction.FIGURES
        | {"bound": Figure("exact", "cosine"), "rms": Figure("exact", "x_0's own", SAMPLES)}
        | {"peak_rms": Figure("exact", "x_0's own", SAMPLES)}
    )
    reference: str = "the best linear predictor"  # what information is counted from
    earliest: float = 0.0  # the time from which on x_t is trained

    def __init__(
        self,
        denoiser: Denoiser,
        text_space: TextSpace,
        schedule: NoiseSchedule,
        prediction: Prediction,
        loss: Loss,
        weighting: Weighting,
        time_sampling: TimeSampling,
        linear_path: bool | None = None,
        self_conditioning: float = 0.0,
        max_length: int = 64,
        **optimisation,
    ):
        super().__init__(**optimisation)
        self.denoiser, self.text_space = denoiser, text_space
        self.schedule, self.prediction = schedule, prediction
        self.loss, self.weighting, self.time_sampling = loss, weighting, time_sampling
        self.linear = LinearPredictor(text_space.dim)
        self.linear_path = not isinstance(prediction, EpsilonPrediction) if linear_path is None else linear_path
        self.self_conditioning = self_conditioning
        self.register_buffer("length_counts", torch.zeros(max_length + 1, dtype=torch.long))
        self.metrics = nn.ModuleDict(
            {f"{stage}_{name}": NoisePrediction() for stage in ("train", "val", "test") for name in PREDICTORS}
            | {f"{stage}_information": Information() for stage in ("val", "test")}
        )

    @abstractmethod
    def set_statistics(self, *args: Any, **kwargs: Any) -> None:
        """Take over what the data counted and measured on the training split."""

    @abstractmethod
    def encode_batch(self, batch: Batch, generator: torch.Generator | None = None) -> tuple[Latents, Mask]:
        """x_0 of a batch, and its mask; what is random in it comes from `generator`, or torch's global one."""

    def clean(self, batch: Batch) -> tuple[Latents, Mask]:
        """What a perfect estimate of x_0 would be, and its mask."""
        return self.encode_batch(batch)

    @abstractmethod
    def losses(self, batch: Batch, noisy: Noisy, output: Tensor) -> dict[str, PerText]:
        """What is minimised, as `loss`, and its parts."""

    # ---- prediction: training and sampling both go through here

    def output(self, x_t: Latents, t: Times, mask: Mask, x_0_previous: Latents | None = None) -> Tensor:
        """The network's output, in the units of the prediction."""
        output = self.read(self.denoiser(x_t, t, mask, x_0_previous))
        return output + self.without_context(x_t, *self.levels(t)) if self.linear_path else output

    def read(self, features: Latents) -> Tensor:
        """What the denoiser puts out, in the units of the prediction."""
        return features

    def without_context(self, x_t: Latents, alpha: Level, sigma: Level) -> Tensor:
        """The output that a position's own x_t suggests: that of the best linear predictor."""
        linear = self.linear(x_t, alpha, sigma)
        return self.prediction.target(linear.x_0, linear.noise, alpha, sigma)

    def predict_x0(
        self,
        x_t: Latents,
        t: Times,
        mask: Mask,
        x_0_previous: Latents | None = None,
        score_temperature: float = 1.0,
    ) -> Latents:
        """The network's estimate of x_0 at times `t`; raises UserError where there are no scores to sharpen."""
        output = self.output(x_t, t, mask, x_0_previous)
        if score_temperature != 1:
            if not isinstance(self.prediction, LogitsPrediction):
                raise UserError("sampler.score_temperature needs prediction=logits")
            output = output / score_temperature
        return self.prediction.to_x0(output, x_t, *self.levels(t))

    def first_estimate(self, x_t: Latents, t: Times, mask: Mask) -> Latents | None:
        """What self-conditioning reads when there is no step before: the network's estimate without it."""
        return self.predict_x0(x_t, t, mask) if self.self_conditioning else None

    def reference_x0(self, x_t: Latents, alpha: Level, sigma: Level) -> Latents:
        """What a position's own x_t says of its x_0: the estimate that information is counted from."""
        return self.linear(x_t, alpha, sigma).x_0

    def levels(self, t: Times) -> tuple[Level, Level]:
        """alpha and sigma at each text's time."""
        alpha, sigma = self.schedule.alpha_sigma(t)
        return per_text(alpha), per_text(sigma)

    def noised(self, x_0: Latents, noise: Latents, t: Times, mask: Mask) -> Noisy:
        """x_0 at times `t` of the forward process."""
        alpha, sigma = self.levels(t)
        return Noisy(x_0, noise, corrupt(x_0, noise, alpha, sigma), t, alpha, sigma, mask)

    # ---- training

    def trained_on(self, batch: Batch) -> tuple[Noisy, Tensor, dict[str, PerText]]:
        """A batch in noise as training draws it, the output, and the losses."""
        x_0, mask = self.encode_batch(batch)
        t = self.time_sampling(len(x_0), x_0.device)
        noisy = self.noised(x_0, torch.randn_like(x_0), t, mask)
        output = self.output(noisy.x_t, t, mask, self.earlier_estimates(noisy))
        return noisy, output, self.losses(batch, noisy, output)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        noisy, output, losses = self.trained_on(batch)
        self.time_sampling.observe(noisy.t, losses["loss"].detach())
        if self.is_logged:
            for name, value in losses.items():
                self.log(f"train/{name}", value.mean(), prog_bar=name == "loss", batch_size=len(noisy.x_0))
            self.compare("train", noisy, output)
        return losses["loss"].mean()

    @torch.no_grad()
    def earlier_estimates(self, noisy: Noisy) -> Latents | None:
        """What the network reads beside x_t: its own estimate for a share of the texts, zeros for the others."""
        if not self.self_conditioning:
            return None
        share = int(self.self_conditioning * len(noisy.x_0) + torch.rand(()))  # the first ones: batches are in no order
        estimates = self.predict_x0(noisy.x_t[:share], noisy.t[:share], noisy.mask[:share]) if share else noisy.x_0[:0]
        return F.pad(estimates, (0, 0, 0, 0, 0, len(noisy.x_0) - share))

    def evaluate(self, stage, batch, batch_idx):
        """The same times and noise at every evaluation: each text in all ten time bins."""
        generator = torch.Generator().manual_seed(self.seed + batch_idx)
        x_0, mask = self.encode_batch(batch, generator)
        for time_bin in range(10):
            t = ((time_bin + torch.rand(len(x_0), generator=generator)) / 10).to(x_0.device)
            noisy = self.noised(x_0, draw_like(x_0, generator), t, mask)
            output = self.output(noisy.x_t, t, mask)
            self.compare(stage, noisy, output)
            reference = self.without_context(noisy.x_t, noisy.alpha, noisy.sigma)
            for prefix, outputs in ((stage, output), (f"{stage}/without_context", reference)):
                losses = self.losses(batch, noisy, outputs)
                named = {f"{prefix}/{name}": value.mean() for name, value in losses.items()}
                self.log_dict(named, batch_size=len(x_0), sync_dist=True)
        self.inform(stage, batch, generator)

    @torch.no_grad()
    def inform(self, stage: str, batch: Batch, generator: torch.Generator) -> None:
        """Count what the network knows beyond the reference predictor, at noise levels that no schedule chose."""
        x_0, mask = self.clean(batch)

        def estimates(x_t: Latents, t: Times) -> tuple[Latents, Latents]:
            ours = self.predict_x0(x_t, t, mask, self.first_estimate(x_t, t, mask))
            return ours, self.reference_x0(x_t, *self.levels(t))

        errors = integrand(x_0, mask, estimates, self.schedule, generator, self.earliest)
        cast(Information, self.metrics[f"{stage}_information"]).update(errors, batch["mask"].sum(1))

    # ---- what it is held against

    @property
    def bound(self) -> float | None:
        """The highest cosine similarity and magnitude ratio of noise that the network can reach, where it has one:
        a narrow network that must output the noise by itself.
        """
        narrow = self.denoiser.output_width < self.text_space.dim and self.is_bare_epsilon
        return rank_bound(self.denoiser.output_width, self.text_space.dim) if narrow else None

    def preflight(self, batch, sampler) -> list[Check]:
        return preflight(self, batch, sampler)

    def describe(self):
        def named(*parts: object) -> str:
            return " · ".join(type(part).__name__ for part in parts)

        return {
            "text space": f"{named(self.text_space)}, {self.text_space.dim} channels",
            "model": f"{named(self.denoiser)}, {self.count_parameters():,} parameters",
            "schedule": named(self.schedule, self.time_sampling),
            "prediction": named(self.prediction),
            "loss": named(self.loss, self.weighting),
        }

    @property
    def is_bare_epsilon(self) -> bool:
        """Whether the network must output the noise by itself: then its rank bounds the prediction."""
        return isinstance(self.prediction, EpsilonPrediction) and not self.linear_path

    def metric(self, stage: str, predictor: str) -> NoisePrediction:
        return cast(NoisePrediction, self.metrics[f"{stage}_{predictor}"])

    @torch.no_grad()
    def compare(self, stage: str, noisy: Noisy, output: Tensor) -> None:
        """Hold the network and the reference predictors against the truth."""
        x_0 = self.prediction.to_x0(output, noisy.x_t, noisy.alpha, noisy.sigma)
        estimates = {
            "model": Estimate(noise_from(noisy.x_t, x_0, noisy.alpha, noisy.sigma), x_0),
            "do_nothing": do_nothing(noisy.x_t, noisy.alpha, noisy.sigma),
            "linear": self.linear(noisy.x_t, noisy.alpha, noisy.sigma),
        }
        for name, estimate in estimates.items():
            metric = self.metric(stage, name)
            metric.update(estimate.noise, noisy.noise, estimate.x_0, noisy.x_0, noisy.t, noisy.mask)

    def on_train_batch_end(self, outputs, batch: Batch, batch_idx: int) -> None:
        if self.global_step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log_comparison("train")
        super().on_train_batch_end(outputs, batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        self.log_comparison("val")

    def on_test_epoch_end(self) -> None:
        self.log_comparison("test")

    def log_comparison(self, stage: str) -> None:
        """Log `stage/noise_cosine` and the like, the reference predictors' under `stage/linear/…`, bins one by one."""
        for name in PREDICTORS:
            metric = self.metric(stage, name)
            prefix = stage if name == "model" else f"{stage}/{name}"
            for quantity, value in metric.compute().items():
                shown = name == "model" and quantity == "noise_cosine" and stage == "train"
                if value.ndim == 0:
                    self.log(f"{prefix}/{quantity}", value, prog_bar=shown, sync_dist=stage != "train")
                elif stage != "train":
                    bins = f"{prefix}/{quantity.removesuffix('_bins')}"
                    self.log_dict({f"{bins}/{i}": mean for i, mean in enumerate(value)}, sync_dist=True)
            metric.reset()
        if self.bound is not None:
            self.log(f"{stage}/bound", self.bound)
        if stage != "train":
            self.log_information(stage)

    def log_information(self, stage: str) -> None:
        """Log `stage/information` and the like, and its bins."""
        metric = cast(Information, self.metrics[f"{stage}_information"])
        for name, value in metric.compute().items():
            if value.ndim == 0:
                self.log(f"{stage}/{name}", value, prog_bar=name == "information", sync_dist=True)
            else:
                bins = f"{stage}/{name.removesuffix('_bins')}"
                self.log_dict({f"{bins}/{i}": each for i, each in enumerate(value)}, sync_dist=True)
        metric.reset()

    # ---- generation

    def reverse(
        self,
        sampler: Sampler,
        x_t: Latents,
        mask: Mask,
        generator: torch.Generator,
        start: float = 1.0,
        given: Given | None = None,
    ) -> Iterator[ReverseStep]:
        """Denoise `x_t` from time `start` to 0, step by step; x̂_0 is always right where tokens are `given`."""

        @torch.no_grad()
        def predict_x0(x: Latents, t: Times, previous: Latents | None) -> Latents:
            x_0 = self.predict_x0(x, t, mask, previous if self.self_conditioning else None, sampler.score_temperature)
            if sampler.snap and float(t[0]) <= sampler.snap:
                x_0 = self.text_space.snap(x_0)
            if given is None:
                return x_0
            known = self.text_space.encode(given.tokens.expand(mask.shape), mask)
            return torch.where(given.where.unsqueeze(-1), known, x_0)

        return sampler.reverse(x_t, predict_x0, self.schedule, generator, start, self.time_sampling)

    def draw_mask(self, num_samples: int, length: int | None, generator: torch.Generator) -> Mask:
        """x_0's mask for lengths from the training split's distribution, or for `length` tokens each."""
        if length is None:
            lengths = torch.multinomial(self.length_counts.cpu().float(), num_samples, True, generator=generator)
        else:
            lengths = torch.full((num_samples,), self.text_space.latent_length(length))
        return torch.arange(int(lengths.max())) < lengths[:, None]

    @torch.no_grad()
    def sample(
        self,
        sampler: Sampler,
        num_samples: int,
        seed: int,
        length: int | None = None,
        given: Given | None = None,
        temperature: float = 0.0,
        batch_size: int = 64,
        done: Callable[[int], None] = lambda steps: None,
    ) -> Sampled:
        """Texts, unconditional or around the tokens `given`, `batch_size` at a time; the same arguments give the same.

        A `temperature` above 0 draws the tokens from the rounding's distribution instead of taking the likeliest.
        `done` is told of every step of a batch.
        """
        generator = torch.Generator().manual_seed(seed)
        masks = self.draw_mask(num_samples, length if given is None else len(given.tokens), generator)
        batches = [self._sample(sampler, m, generator, given, temperature, done) for m in masks.split(batch_size)]
        longest = max(batch.tokens.shape[1] for batch in batches)
        pad_token_id = self.text_space.tokenizer.pad_token_id
        tokens = [F.pad(b.tokens, (0, longest - b.tokens.shape[1]), value=pad_token_id) for b in batches]
        rms = sum(batch.rms * len(batch.tokens) for batch in batches) / num_samples
        return Sampled(torch.cat(tokens), rms, max(batch.peak_rms for batch in batches))

    def generate(self, sampler: Sampler, num_samples: int, seed: int, length: int | None = None) -> Tokens:
        """Unconditional samples as token ids `(num_samples, tokens)`."""
        return self.sample(sampler, num_samples, seed, length).tokens

    def _sample(
        self,
        sampler: Sampler,
        mask: Mask,
        generator: torch.Generator,
        given: Given | None,
        temperature: float,
        done: Callable[[int], None],
    ) -> Sampled:
        """One batch of samples."""
        mask = mask.to(self.device)
        x_t = draw_like(torch.empty(*mask.shape, self.text_space.dim, device=self.device), generator)
        peak = 0.0
        for state in self.reverse(sampler, x_t, mask, generator, given=given):
            x_t = state.x_s
            peak = max(peak, root_mean_square(x_t, mask))
            done(1)
        if temperature:
            tokens = self.text_space.draw(x_t, mask, temperature, generator)
        else:
            tokens = self.text_space.decode(x_t, mask)
        if given is not None:
            tokens = torch.where(given.where, given.tokens, tokens)
        return Sampled(tokens, root_mean_square(x_t, mask), peak)


def root_mean_square(x: Latents, mask: Mask) -> float:
    """Over the elements of real positions."""
    return float(x[mask].square().mean().sqrt())
