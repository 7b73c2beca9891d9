"""What both routes share: training, evaluating and generating with a denoiser."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from diffusion_text.conditions.base import Condition
from diffusion_text.denoisers.base import Denoiser, Estimates
from diffusion_text.diagnostics.preflight import Check
from diffusion_text.diagnostics.references import LinearPredictor, rank_bound
from diffusion_text.diffusion.gaussian import Level, Noisy, corrupt
from diffusion_text.diffusion.information import integrand
from diffusion_text.diffusion.losses import CosineMagnitudeLoss, CrossEntropyLoss, Loss, MinSNRWeighting, Weighting
from diffusion_text.diffusion.predictions import EpsilonPrediction, LogitsPrediction, Prediction
from diffusion_text.diffusion.schedules import LearnedSchedule, NoiseSchedule
from diffusion_text.diffusion.time_sampling import TimeSampling
from diffusion_text.figures import SAMPLES, Figure
from diffusion_text.metrics.noise_prediction import NUM_BINS
from diffusion_text.models.base import ends_step, logs
from diffusion_text.models.denoising import Denoising
from diffusion_text.models.evaluation import TELLING, Evaluation
from diffusion_text.models.preflight import preflight
from diffusion_text.models.step_draws import StepDraws
from diffusion_text.models.writing import Writer
from diffusion_text.shapes import Context, Latents, Mask, PerText, Times
from diffusion_text.text_spaces.base import TextSpace
from diffusion_text.values import flag, or_null, share

log = logging.getLogger(__name__)
Batch = dict[str, Tensor]
PLATEAU = 0.01  # nats a token
IN_THE_BAR = ("train/noise_cosine", "val/information")


class TextDiffusion(Denoising):
    """A denoiser in a text space. Routes differ in `set_statistics`, `encode_batch` and `losses`.

    `linear_path` adds what a position's own x_t suggests to the denoiser's output, so that the denoiser learns only
    what is left; it is Karras et al.'s skip connection (2022, eq. 7) with the latents' covariance in the
    place of their variance. Null: for every prediction but epsilon, which the original line predicted bare.

    The denoiser reads its own earlier estimate with `self_conditioning`, for this share of the texts in training; and
    with `reads_reference` what each position says by itself, the estimate that information is counted from. With a
    `condition`, batches bring what each text is `told` to be.
    """

    FIGURES: ClassVar = (
        Writer.FIGURES
        | Evaluation.FIGURES
        | {"bound": Figure("exact", "cosine")}
        | {name: Figure("exact", "x_0's own", SAMPLES) for name in ("rms", "peak_rms")}
    )
    LOGGED: ClassVar = (
        *Writer.LOGGED, *Evaluation.LOGGED, "val/without_context/loss", "train/bound", "val/bound",
    )  # fmt: skip
    reference: str = "the best linear predictor"
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
        reads_reference: bool = False,
        max_length: int = 64,
        condition: Condition | None = None,
        **optimisation,
    ):
        super().__init__(max_length, condition, **optimisation)
        self.check(
            prediction,
            loss,
            weighting,
            linear_path=linear_path,
            self_conditioning=self_conditioning,
            reads_reference=reads_reference,
        )
        self.denoiser, self.text_space = denoiser, text_space
        self.schedule, self.prediction = schedule, prediction
        self.loss, self.weighting, self.time_sampling = loss, weighting, time_sampling
        self.linear = LinearPredictor(text_space.dim)
        self.linear_path = not isinstance(prediction, EpsilonPrediction) if linear_path is None else linear_path
        self.self_conditioning, self.reads_reference = self_conditioning, reads_reference
        self.evaluation = Evaluation(is_told=condition is not None)
        if condition is not None:
            self.reference = f"{self.reference}, untold"

    @classmethod
    def check(
        cls,
        prediction: Prediction,
        loss: Loss,
        weighting: Weighting,
        linear_path: bool | None = None,
        self_conditioning: float = 0.0,
        reads_reference: bool = False,
        **others: Any,
    ) -> None:
        """Raise ValueError where parts and settings make no sense, each by itself or together."""
        parts = {"prediction": prediction, "loss": loss, "weighting": weighting}
        parts |= {name: others[name] for name in ("schedule", "time_sampling") if name in others}
        for name, part in parts.items():
            if part is None:
                raise ValueError(f"{name}=null: {cls.__name__} needs one, choose an option of the group")
        or_null(flag, linear_path, "route.linear_path")
        share(self_conditioning, "route.self_conditioning")
        flag(reads_reference, "route.reads_reference")
        if isinstance(loss, CosineMagnitudeLoss) and isinstance(weighting, MinSNRWeighting):
            both = "loss=cosine_magnitude has no unit and weighting=min_snr converts units"
            raise ValueError(f"{both}: use weighting=uniform, or loss=mse")
        if isinstance(prediction, LogitsPrediction) != isinstance(loss, CrossEntropyLoss):
            raise ValueError("prediction=logits and loss=cross_entropy go together")
        if isinstance(others.get("schedule"), LearnedSchedule) and not isinstance(prediction, LogitsPrediction):
            raise ValueError("schedule=learned goes where the cross-entropy falls: it needs prediction=logits")

    @abstractmethod
    def set_statistics(self, *args: Any, **kwargs: Any) -> None:
        """Take over what the data counted and measured on the training split."""

    @abstractmethod
    def encode_batch(self, batch: Batch, random: torch.Generator | StepDraws | None = None) -> tuple[Latents, Mask]:
        """x_0 of a batch, and its mask; what is random in it comes from `random`, or torch's global generator."""

    def clean(self, batch: Batch) -> tuple[Latents, Mask]:
        """What a perfect estimate of x_0 would be, and its mask."""
        return self.encode_batch(batch)

    @abstractmethod
    def losses(self, batch: Batch, noisy: Noisy, output: Tensor) -> dict[str, PerText]:
        """What is minimised, as `loss`, and its parts."""

    # ---- prediction: training and sampling both go through here

    def output(self, x_t, t, mask, x_0_previous=None, context=None):
        told = {} if context is None else {"context": context}
        alone = self.without_context(x_t, *self.levels(t)) if self.linear_path else None
        output = self.read(self.denoiser(x_t, t, mask, self.beside(x_t, t, x_0_previous, alone), **told))
        return output if alone is None else output + alone

    def beside(self, x_t: Latents, t: Times, x_0_previous: Latents | None, alone: Tensor | None) -> Estimates | None:
        """The estimates of x_0 that the denoiser reads: its own earlier one, 0 where it has none, and the reference."""
        estimates = []
        if self.self_conditioning:
            estimates.append(torch.zeros_like(x_t) if x_0_previous is None else x_0_previous)
        if self.reads_reference:
            estimates.append(self.reference_x0(x_t, *self.levels(t), alone).to(x_t))
        return torch.cat(estimates, dim=-1) if estimates else None

    def read(self, features: Latents) -> Tensor:
        """What the denoiser puts out, in the units of the prediction."""
        return features

    def without_context(self, x_t: Latents, alpha: Level, sigma: Level) -> Tensor:
        """The output that a position's own x_t suggests: that of the best linear predictor."""
        linear = self.linear(x_t, alpha, sigma)
        return self.prediction.target(linear.x_0, linear.noise, alpha, sigma)

    def first_estimate(self, x_t: Latents, t: Times, mask: Mask, context: Context | None = None) -> Latents | None:
        """What self-conditioning reads when there is no step before: the network's estimate without it."""
        return self.predict_x0(x_t, t, mask, context=context) if self.self_conditioning else None

    def reference_x0(self, x_t: Latents, alpha: Level, sigma: Level, alone: Tensor | None = None) -> Latents:
        """What a position's own x_t says of its x_0: the estimate that information is counted from; `alone`: the output
        that it suggests, where that is known already.
        """
        return self.linear(x_t, alpha, sigma).x_0

    def noised(self, x_0: Latents, noise: Latents, t: Times, mask: Mask) -> Noisy:
        """x_0 at times `t` of the forward process."""
        alpha, sigma = self.levels(t)
        return Noisy(x_0, noise, corrupt(x_0, noise, alpha, sigma), t, alpha, sigma, mask)

    # ---- training

    def trained_on(self, batch: Batch, draws: StepDraws) -> tuple[Noisy, Tensor, dict[str, PerText]]:
        """A batch in noise as training draws it, the output, and the losses."""
        x_0, mask = self.encode_batch(batch, draws)
        t = draws.times(self.time_sampling, x_0.device)
        noisy = self.noised(x_0, draws.noise(x_0), t, mask)
        context = self.context_in_training(batch, draws, mask)
        output = self.output(noisy.x_t, t, mask, self.earlier_estimates(noisy, draws, context), context)
        losses = self.losses(batch, noisy, output)
        besides = self.condition_losses(context, mask) | self.reading_losses(batch, x_0, mask, draws)
        return noisy, output, losses | besides | {"loss": losses["loss"] + sum(besides.values())}

    def reading_losses(self, batch: Batch, x_0: Latents, mask: Mask, draws: StepDraws) -> dict[str, PerText]:
        """What is minimised of the network's own reading of x_0."""
        return {}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        noisy, output, losses = self.trained_on(batch, self.step_draws(len(batch["mask"]), batch_idx))
        if self.time_sampling.learns or self.schedule.learns:
            t, seen = self.all_gather((noisy.t, losses["loss"].detach()))
            for part in (self.time_sampling, self.schedule):
                part.observe(t.flatten(), seen.flatten())
        if self.is_logged:
            for name, value in losses.items():
                shown, many = name == "loss", len(noisy.x_0)
                self.log(f"train/{name}", value.mean(), prog_bar=shown, batch_size=many, sync_dist=True)
            self.compare("train", noisy, output)
        return losses["loss"].mean()

    @torch.no_grad()
    def earlier_estimates(self, noisy: Noisy, draws: StepDraws, context: Context | None) -> Latents | None:
        """The network's own estimate for a share of the texts, none for the others."""
        if not self.self_conditioning:
            return None
        chosen = draws.chosen(self.self_conditioning, noisy.x_t.device)
        estimates = torch.zeros_like(noisy.x_t)
        if len(chosen):
            told = None if context is None else context.of(chosen)
            seen = self.predict_x0(noisy.x_t[chosen], noisy.t[chosen], noisy.mask[chosen], context=told)
            estimates[chosen] = seen.to(estimates)
        return estimates

    def evaluate(self, stage, batch, batch_idx):
        """The same times and noise at every evaluation: each text in all ten time bins."""
        draws = self.evaluation_draws(stage, batch_idx)
        x_0, mask = self.encode_batch(batch, draws)
        context = self.context(batch, draws, mask)
        within = draws.uniform(NUM_BINS, x_0.device)
        for time_bin in range(NUM_BINS):
            t = (time_bin + within[:, time_bin]) / NUM_BINS
            noisy = self.noised(x_0, draws.noise(x_0, NUM_BINS + time_bin), t, mask)
            output = self.output(noisy.x_t, t, mask, context=context)
            self.compare(stage, noisy, output)
            self.log_losses(stage, batch, noisy, output)
        for name, nats in self.reading_losses(batch, x_0, mask, draws).items():
            self.log(f"{stage}/{name}", nats.mean(), batch_size=len(x_0), sync_dist=True)
        self.inform(stage, batch, draws, context)

    def log_losses(self, stage: str, batch: Batch, noisy: Noisy, output: Tensor) -> None:
        """Those of an output, and of what each position says by itself."""
        reference = self.without_context(noisy.x_t, noisy.alpha, noisy.sigma)
        for prefix, outputs in ((stage, output), (f"{stage}/without_context", reference)):
            losses = self.losses(batch, noisy, outputs)
            named = {f"{prefix}/{name}": value.mean() for name, value in losses.items()}
            self.log_dict(named, batch_size=len(noisy.x_0), sync_dist=True)

    @torch.no_grad()
    def inform(self, stage: str, batch: Batch, draws: StepDraws, context: Context | None = None) -> None:
        """Count what the network knows beyond the reference predictor, and in the end beyond itself when it is told
        nothing, at noise levels that no schedule chose. What it takes to tell it more than it is told counts as error
        where nothing is seen yet.
        """
        x_0, mask = self.clean(batch)

        def estimate(x_t: Latents, t: Times, told: Context | None) -> Latents:
            return self.predict_x0(x_t, t, mask, self.first_estimate(x_t, t, mask, told), context=told)

        def and_reference(x_t: Latents, t: Times) -> tuple[Latents, Latents]:
            return estimate(x_t, t, context), self.reference_x0(x_t, *self.levels(t))

        def and_untold(x_t: Latents, t: Times) -> tuple[Latents, Latents]:
            return estimate(x_t, t, context), estimate(x_t, t, None)

        compared = {stage: and_reference}
        if context is not None and self.trainer.state.fn != TrainerFn.FITTING:
            compared[f"{stage}/{TELLING}"] = and_untold

        def noise(level: int) -> Latents:
            return draws.noise(x_0, 2 * NUM_BINS + level)

        for name, estimates in compared.items():
            errors = integrand(x_0, mask, estimates, self.schedule, draws.offsets(), noise, self.earliest)
            errors.model[:, 0] += 0 if context is None else context.nats
            self.evaluation.inform(name, errors, batch["mask"].sum(1))

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

    def compare(self, stage: str, noisy: Noisy, output: Tensor) -> None:
        """Hold the network and the reference predictors against the truth."""
        x_0 = self.prediction.to_x0(output, noisy.x_t, noisy.alpha, noisy.sigma)
        self.evaluation.compare(stage, noisy, x_0, self.linear)

    def on_train_batch_end(self, outputs, batch: Batch, batch_idx: int) -> None:
        if logs(self.trainer, self.global_step) and ends_step(self.trainer, batch_idx):
            self.log_comparison("train")
        super().on_train_batch_end(outputs, batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        self.warn_of_plateau(self.log_comparison("val"))

    def warn_of_plateau(self, figures: dict[str, Tensor]) -> None:
        """Say so where a network with attention has found nothing and lost nothing: its output is the reference's."""
        found, lost, error = (float(figures[f"val/information_{name}"]) for name in ("found", "lost", "error"))
        searching = getattr(self.denoiser, "finds_neighbours", False)
        if self.global_step and searching and self.trainer.is_global_zero and max(found, lost) < PLATEAU + 2 * error:
            log.warning(
                "After %d steps the output is %s: attention has not found its neighbours yet; heads that start there "
                "learn at once (model.local_heads=[-1,1,-2,2])",
                self.global_step,
                "what each position says by itself",
            )

    def on_test_epoch_end(self) -> None:
        self.log_comparison("test")

    def log_comparison(self, stage: str) -> dict[str, Tensor]:
        """Log what was compared since the last time."""
        figures = self.evaluation.figures(stage)
        for name, value in figures.items():
            self.log(name, value, prog_bar=name in IN_THE_BAR, sync_dist=stage != "train")
        if self.bound is not None:
            self.log(f"{stage}/bound", self.bound)
        return figures
