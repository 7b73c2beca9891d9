"""Writing by denoising: from noise to x_0, and from there to tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from diffusion_text.diffusion.gaussian import Level, per_text
from diffusion_text.diffusion.predictions import LogitsPrediction, Prediction
from diffusion_text.diffusion.samplers import GaussianSampler, Generator, ReverseStep, draw_like
from diffusion_text.diffusion.schedules import NoiseSchedule
from diffusion_text.diffusion.time_sampling import TimeSampling
from diffusion_text.errors import UserError
from diffusion_text.models.writing import Given, Sampled, Writer, root_mean_square
from diffusion_text.shapes import Latents, Mask, Times


class Denoising(Writer):
    """A model that estimates x_0, which a sampler turns into texts."""

    takes = GaussianSampler
    schedule: NoiseSchedule
    prediction: Prediction
    time_sampling: TimeSampling
    self_conditioning: float

    @abstractmethod
    def output(self, x_t: Latents, t: Times, mask: Mask, x_0_previous: Latents | None = None) -> Tensor:
        """The network's output, in the units of the prediction."""

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

    def write(self, sampler, mask, generators, given, temperature, done):
        mask = mask.to(self.device)
        x_t = draw_like(torch.empty(*mask.shape, self.text_space.dim, device=self.device), generators)
        peak = 0.0
        for state in self.reverse(sampler, x_t, mask, generators, given=given):
            x_t = state.x_s
            peak = max(peak, root_mean_square(x_t, mask))
            done(1)
        if temperature:
            tokens = self.text_space.draw(x_t, mask, temperature, generators)
        else:
            tokens = self.text_space.decode(x_t, mask)
        if given is not None:
            tokens = torch.where(given.where, given.tokens, tokens)
        return Sampled(tokens, root_mean_square(x_t, mask), peak)
