"""Few steps: a student that learns from a finished run, its teacher, to sample in a fraction of the evaluations.

The teacher walks from noise to text in many deterministic steps; the student visits every so many of their times.

(1) target at t: w·teacher(x_t) + (1 − w)·student(x_m)     Heek et al. 2024, multistep consistency distillation
    m is the teacher's next time, x_m where it gets there, w that of diffusion/distillation.py: so the step from t to
    the next time that the student visits ends where its own from m does
(2) loss = max(SNR, 1)·‖student(x_t) − target‖²            Salimans & Ho 2022, equation 9
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from diffusion_text.diagnostics.embeddings import HEALTH
from diffusion_text.diffusion.distillation import share_of_first
from diffusion_text.diffusion.gaussian import Noisy
from diffusion_text.diffusion.losses import mean_over_real
from diffusion_text.diffusion.predictions import EpsilonPrediction
from diffusion_text.diffusion.samplers import GaussianSampler, towards
from diffusion_text.diffusion.time_sampling import StratifiedTimes
from diffusion_text.models.diffusion_lm import DiffusionLM
from diffusion_text.models.latent_diffusion import LatentDiffusion
from diffusion_text.models.step_draws import StepDraws
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.shapes import Context, Latents, Mask, PerText, Times
from diffusion_text.text_spaces.base import Frozen
from diffusion_text.values import whole

Places = Int[Tensor, "batch"]


class Distilled(TextDiffusion):
    """Goes in `steps` evaluations where its teacher goes in `teacher_steps`. All but the denoiser is the teacher's, and
    stays as it is.

    Half of the texts of a training step are where the student's steps begin, the others anywhere on the teacher's way.
    """

    LOGGED: ClassVar = tuple(name for name in TextDiffusion.LOGGED if "without_context" not in name)
    teacher: Frozen[TextDiffusion] | None = None  # neither trained nor saved
    sampler: GaussianSampler  # that the teacher walks with
    way: Tensor  # the times that it visits, from 1 to 0

    def __init__(self, steps: int = 4, teacher_steps: int = 128, **parts: Any):
        super().__init__(**parts)
        self.steps, self.stride = steps, stride(steps, teacher_steps)

    @classmethod
    def check(cls, prediction, *parts, steps=4, teacher_steps=128, **settings):
        super().check(prediction, *parts, **settings)
        stride(steps, teacher_steps)
        if isinstance(prediction, EpsilonPrediction):
            raise ValueError("run= predicts epsilon, which says nothing of x_0 where all is noise: distil another")

    def learn_from(self, teacher: TextDiffusion, sampler: GaussianSampler) -> None:
        """Start as the teacher is, and learn to go the way that it goes with this sampler."""
        self.load_state_dict(teacher.state_dict())
        self.requires_grad_(False).denoiser.requires_grad_(True)
        for part in (self.schedule, self.time_sampling):
            part.learns = False  # else the way would move
        self.teacher, self.sampler = Frozen(teacher), sampler
        times = sampler.times(self.schedule, drawn=self.time_sampling)
        self.register_buffer("way", times.float(), persistent=False)

    # ---- what it learns

    def trained_on(self, batch, draws):
        x_0, mask = self.encode_batch(batch, draws)
        places = self.places(draws.times(StratifiedTimes(), x_0.device))
        noisy = self.noised(x_0, draws.noise(x_0), self.way[places], mask)
        context = self.context(batch, draws, mask)
        assert self.teacher is not None
        previous = self.teacher.on(self.device).earlier_estimates(noisy, draws, context)  # its own would be confirmed
        if previous is not None:
            previous = previous * (places > 0)[:, None, None]  # as at the first step of a sampler
        target = self.target(noisy, places, previous, context)
        output = self.output(noisy.x_t, noisy.t, mask, previous, context)
        reading = self.reading_losses(batch, x_0, mask, draws)  # which a changed denoiser must not forget
        return noisy, output, reading | {"loss": self.distance(output, target, noisy) + sum(reading.values())}

    def places(self, chances: Times) -> Places:
        """Where on the way texts are, by even chances in [0, 1)."""
        twice = 2 * chances
        begins = (twice * self.steps).long() * self.stride
        return torch.where(twice < 1, begins, ((twice - 1) * self.steps * self.stride).long())

    @torch.no_grad()
    def target(self, noisy: Noisy, places: Places, previous: Latents | None, context: Context | None) -> Latents:
        """Equation (1)."""
        then, end = self.way[places + 1], self.way[(places // self.stride + 1) * self.stride]
        now, middle, after = (noisy.alpha, noisy.sigma), self.levels(then), self.levels(end)
        first = self.taught(noisy.x_t, noisy.t, noisy.mask, previous, context)
        x_m = towards(noisy.x_t, first, now, middle)
        then = then.maximum(self.way[-2])  # where the way ends there is nothing to be said, and it counts for nothing
        later = self.bounded(self.predict_x0(x_m, then, noisy.mask, first, context=context))
        return torch.lerp(later, first, share_of_first(now, middle, after))

    def taught(self, x_t: Latents, t: Times, mask: Mask, previous: Latents | None, context: Context | None) -> Latents:
        """What the teacher takes for x_0 when it samples."""
        assert self.teacher is not None
        teacher = self.teacher.on(self.device)
        return self.bounded(teacher.predict_x0(x_t, t, mask, previous, self.sampler.score_temperature, context))

    def bounded(self, x_0: Latents) -> Latents:
        """As the sampler bounds it, in full precision."""
        clip = self.sampler.clip
        return x_0.float() if clip is None else x_0.float().clamp(-clip, clip)

    def distance(self, output: Tensor, target: Latents, noisy: Noisy) -> PerText:
        """Equation (2)."""
        x_0 = self.prediction.to_x0(output, noisy.x_t, noisy.alpha, noisy.sigma)
        weights = (noisy.alpha / noisy.sigma).square().clamp(min=1).flatten()
        return weights * mean_over_real((x_0 - target) ** 2, noisy.mask)

    # ---- what it is held to

    def evaluate(self, stage, batch, batch_idx):
        """The loss of training, with the same draws at every evaluation, beside all that a model is held to."""
        super().evaluate(stage, batch, batch_idx)
        many = len(batch["mask"])
        losses = self.trained_on(batch, StepDraws(self.seed, batch_idx, self.max_length, many))[2]
        self.log(f"{stage}/loss", losses["loss"].mean(), batch_size=many, sync_dist=True)

    def log_losses(self, *args):
        pass  # against the truth, which a student does not learn

    def describe(self):
        learns = f"{self.stride} of {self.steps * self.stride} steps in one"
        return super().describe() | {"loss": f"squared error in x_0, of {learns}"}


class DistilledLM(Distilled, DiffusionLM):
    """Of the embedding route."""

    LOGGED: ClassVar = (*Distilled.LOGGED, *(f"embedding/{name}" for name in HEALTH))


class DistilledLatents(Distilled, LatentDiffusion):
    """Of the latent route."""


def student_of(teacher: TextDiffusion) -> type[Distilled]:
    """The class of models that can learn from this one."""
    return DistilledLM if isinstance(teacher, DiffusionLM) else DistilledLatents


def stride(steps: int, teacher_steps: int) -> int:
    """How many steps of the teacher one of the student's stands for; ValueError where that is no whole number."""
    steps, teacher_steps = whole(steps, "route.steps", 1), whole(teacher_steps, "route.teacher_steps", 2)
    if teacher_steps % steps or teacher_steps == steps:
        raise ValueError(f"route.teacher_steps={teacher_steps} is no multiple of route.steps={steps}")
    return teacher_steps // steps
