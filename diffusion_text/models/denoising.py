"""Writing by denoising: from noise to x_0, and from there to tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffusion_text.diffusion.gaussian import Level, per_text
from diffusion_text.diffusion.predictions import LogitsPrediction, Prediction
from diffusion_text.diffusion.samplers import GaussianSampler, Generator, ReverseStep, draw_like
from diffusion_text.diffusion.schedules import NoiseSchedule
from diffusion_text.diffusion.time_sampling import TimeSampling
from diffusion_text.errors import UserError
from diffusion_text.models.writing import Given, Sampled, Writer, root_mean_square
from diffusion_text.shapes import Context, Latents, Mask, Times

if TYPE_CHECKING:
    from diffusion_text.models.classifier import Steering


class Denoising(Writer):
    """A model that estimates x_0, which a sampler turns into texts."""

    takes = GaussianSampler
    schedule: NoiseSchedule
    prediction: Prediction
    time_sampling: TimeSampling
    self_conditioning: float

    @abstractmethod
    def output(
        self,
        x_t: Latents,
        t: Times,
        mask: Mask,
        x_0_previous: Latents | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """The network's output, in the units of the prediction; it is told the `context`, if there is one."""

    def predict_x0(
        self,
        x_t: Latents,
        t: Times,
        mask: Mask,
        x_0_previous: Latents | None = None,
        score_temperature: float = 1.0,
        context: Context | None = None,
        guidance: float = 1.0,
        by: str = "condition",
    ) -> Latents:
        """The network's estimate of x_0 at times `t`; raises UserError where there are no scores to sharpen.

        A `guidance` above 1 goes on from what it says untold towards what it says told, and beyond: untold + guidance ·
        (told − untold), both from one evaluation (Ho & Salimans 2022, eq. 6). Untold it reads no `context`, no estimate
        of its own, or neither, as `by` has it: condition, estimate, both. Where x_0 is no mean of embeddings, its RMS
        is kept to that of the told estimate (as Lin et al. 2024, §3.4).
        """
        withheld = [x_0_previous] * (by != "condition") + [context] * (by != "estimate")
        if guidance == 1 or all(each is None for each in withheld):
            output = self.output(x_t, t, mask, x_0_previous, context)
            return self.scored(output, x_t, t, score_temperature)
        x_0_twice = context_twice = None
        if x_0_previous is not None:
            x_0_twice = torch.cat([x_0_previous, x_0_previous * (by == "condition")])
        if context is not None:
            context_twice = context.twice(again=by == "estimate")
        both = self.output(x_t.repeat(2, 1, 1), t.repeat(2), mask.repeat(2, 1), x_0_twice, context_twice)
        told, untold = both.chunk(2)
        x_0 = self.scored(untold + guidance * (told - untold), x_t, t, score_temperature)
        if isinstance(self.prediction, LogitsPrediction):
            return x_0
        within, beyond = (real_rms(x, mask) for x in (self.scored(told, x_t, t, score_temperature), x_0))
        return x_0 * (within / beyond).clamp(max=1)

    def scored(self, output: Tensor, x_t: Latents, t: Times, score_temperature: float) -> Latents:
        """x_0 by the network's output."""
        if score_temperature != 1:
            if not isinstance(self.prediction, LogitsPrediction):
                raise UserError("sampler.score_temperature needs prediction=logits")
            output = output / score_temperature
        return self.prediction.to_x0(output, x_t, *self.levels(t))

    def levels(self, t: Times) -> tuple[Level, Level]:
        """alpha and sigma at each text's time."""
        alpha, sigma = self.schedule.alpha_sigma(t)
        return per_text(alpha), per_text(sigma)

    @property
    def knobs(self):
        return (
            "score temperature" if isinstance(self.prediction, LogitsPrediction) else "rounding temperature",
            "churn",
        )

    def reverse(
        self,
        sampler: GaussianSampler,
        x_t: Latents,
        mask: Mask,
        generator: Generator,
        start: float = 1.0,
        given: Given | None = None,
        context: Context | None = None,
        steering: Steering | None = None,
    ) -> Iterator[ReverseStep]:
        """Denoise `x_t` from time `start` to 0, step by step, told the `context`, led by a classifier; x̂_0 is always
        right where tokens are `given`.
        """

        if sampler.guides(told=False) and not self.self_conditioning:
            raise UserError(
                f"sampler.guidance_by={sampler.guidance_by} is for models that read their own earlier estimate: train "
                "with route.self_conditioning=0.5"
            )

        @torch.no_grad()
        def predict_x0(x: Latents, t: Times, previous: Latents | None) -> Latents:
            own = previous if self.self_conditioning else None
            guidance = sampler.guidance_at(float(t[0])), sampler.guidance_by
            x_0 = self.predict_x0(x, t, mask, own, sampler.score_temperature, context, *guidance)
            if sampler.snap and float(t[0]) <= sampler.snap:
                x_0 = self.text_space.snap(x_0)
            if given is None:
                return x_0
            known = self.text_space.encode(given.tokens.expand(mask.shape), mask)
            return torch.where(given.where.unsqueeze(-1), known, x_0)

        steer = None if steering is None else partial(steering, mask)
        return sampler.reverse(x_t, predict_x0, self.schedule, generator, start, self.time_sampling, steer)

    def write(self, sampler, mask, generators, given, temperature, done, told=None, steering=None):
        mask = mask.to(self.device)
        context = self.context_of(told, mask)
        x_t = draw_like(torch.empty(*mask.shape, self.text_space.dim, device=self.device), generators)
        peak = 0.0
        led = {"given": given, "context": context, "steering": steering}
        for state in self.reverse(sampler, x_t, mask, generators, **led):
            x_t = state.x_s
            peak = max(peak, root_mean_square(x_t, mask))
            done(1)
        tokens = self.reader.draw(x_t, mask, temperature, generators) if temperature else self.reader.decode(x_t, mask)
        if given is not None:
            tokens = torch.where(given.where, given.tokens, tokens)
        return Sampled(tokens, root_mean_square(x_t, mask), peak)


def real_rms(x: Latents, mask: Mask) -> Tensor:
    """Root mean square over each text's real positions, shaped to multiply latents."""
    real = mask.unsqueeze(-1)
    return ((x.square() * real).sum((1, 2), keepdim=True) / (real.sum((1, 2), keepdim=True) * x.shape[2])).sqrt()
