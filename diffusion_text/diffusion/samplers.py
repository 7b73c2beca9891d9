"""From noise to data: the one reverse loop, and a step for each sampler.

A sampler sees the network only as `predict_x0(x_t, t, x_0_previous)`; strides may be of any length.

(1) DDPM   x_s ~ q(x_s | x_t, x̂_0)                                                     Ho et al. 2020, algorithm 2
(2) DDIM   x_s = alpha_s·x̂_0 + √(sigma_s² − (η·std)²)·ε̂ + η·std·z                      Song et al. 2021, eq. 12
           with std that of q(x_s | x_t, x_0); η = 0 is deterministic, η = 1 has DDPM's noise, and beyond it η·std ends
           at sigma_s, where all of x_s's noise is new
(3) DPM-Solver++ (2M)   DDIM's deterministic step with x̂_0 + (h / 2h_r)·(x̂_0 − x̂_0,r) in the place of x̂_0
           h, h_r the increases of log(alpha / sigma) in this step and in the one before,
           whose estimate was x̂_0,r                                                 Lu et al. 2022b, algorithm 2
(4) Heun   DDIM's deterministic step with (x̂_0 + x̂_0,s) / 2 in the place of x̂_0, where x̂_0,s is what is estimated where
           that step ends: the trapezoid rule for Lu et al. 2022b, eq. 8, in the order of Karras et al. 2022, alg. 1
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffusion_text.diffusion.gaussian import noise_from, per_text, posterior
from diffusion_text.diffusion.schedules import NoiseSchedule
from diffusion_text.diffusion.time_sampling import TimeSampling
from diffusion_text.shapes import Latents
from diffusion_text.values import listed, number, one_of, or_null, share, whole

Generator = torch.Generator | Sequence[torch.Generator]  # of all texts together, or one of each
PredictX0 = Callable[[Latents, Tensor, Latents | None], Latents]
Steer = Callable[[Latents, Tensor, Tensor], Latents]  # of x_s, the time s, and the standard deviation of x_s given x_t
FARTHEST = 10.0  # of the log SNR that steps are spent on


class ReverseStep(NamedTuple):
    """One network evaluation of a reverse run: at time `t`, the state `x_t` was taken for `x_0`; then `x_s`."""

    t: Tensor
    s: Tensor
    x_t: Latents
    x_0: Latents
    x_s: Latents


class Sampler:
    """How a trained model writes: in `num_steps` network evaluations (NFE), of which there may be `any_steps`."""

    any_steps = True

    def __init__(self, num_steps: int = 50):
        self.num_steps = whole(num_steps, "sampler.num_steps", 1)

    @property
    def nfe(self) -> int:
        """Network evaluations that one sample costs."""
        return self.num_steps

    def spend(self, nfe: int) -> None:
        """Take as many steps as so many network evaluations are enough for."""
        self.num_steps = nfe


class GaussianSampler(Sampler, ABC):
    """`num_steps` steps from t = 1 (or a later start) to 0.

    `clip` bounds every element of x̂_0, in standard deviations of the data; null leaves it unbounded, and then
    epsilon-prediction blows up at the first step, where x̂_0 is an error divided by a tiny alpha.

    `spacing` says in what the steps are even: `angle`, arccos(alpha), which suits every schedule; `training`, the
    times that training drew; `log_snr`, from −FARTHEST to FARTHEST between the first step and the last (Lu et al.
    2022a, §3.3); or `time`, as published; on the sqrt schedule even times leap over most of the signal in the last
    step (50 DDIM steps then leave a standard deviation of 0.39 where 0.5 is right, against 0.48).

    `snap`: from this time on x̂_0 is to be the nearest x_0 that is a text, where the text space has such a thing; the
    clamping trick (Li et al. 2022, §4.3). 0: never, 1: from the start.

    `score_temperature`: with prediction=logits, below 1 sharpens the distribution over tokens whose mean is x̂_0
    (Dieleman et al. 2022, §3.2).

    `guidance`: how far x̂_0 goes from what the network says untold to what it says told a condition, 1: there, above 1:
    beyond, at times from the first to the second of `guidance_interval` (Kynkäänniemi et al. 2024). What it is told is
    the condition, or its own earlier estimate, or both, as `guidance_by` has it.
    """

    def __init__(
        self,
        num_steps: int = 50,
        clip: float | None = 8.0,
        spacing: str = "angle",
        snap: float = 0.0,
        score_temperature: float = 1.0,
        guidance: float = 1.0,
        guidance_interval: Sequence[float] = (0.0, 1.0),
        guidance_by: str = "condition",
    ):
        super().__init__(num_steps)
        self.clip = or_null(number, clip, "sampler.clip", above=0)
        self.spacing = one_of(spacing, "sampler.spacing", ("angle", "training", "log_snr", "time"))
        self.snap = share(snap, "sampler.snap")
        self.score_temperature = number(score_temperature, "sampler.score_temperature", above=0)
        self.guidance = number(guidance, "sampler.guidance", least=0)
        self.guidance_interval = listed(guidance_interval, "sampler.guidance_interval", share, 2)
        self.guidance_by = one_of(guidance_by, "sampler.guidance_by", ("condition", "estimate", "both"))

    def guides(self, told: bool) -> bool:
        """Whether guidance has anything to go beyond, where the network is told a condition or not."""
        return self.guidance != 1 and (told or self.guidance_by != "condition")

    def guidance_at(self, t: float) -> float:
        """The guidance at a time."""
        first, last = self.guidance_interval
        return self.guidance if first <= t <= last else 1.0

    def times(
        self, schedule: NoiseSchedule, start: float = 1.0, drawn: TimeSampling | None = None
    ) -> Float[Tensor, "visited"]:
        """The times that a reverse run visits, from `start` down to 0 (float64); training has `drawn` such times."""
        times = torch.linspace(start, 0.0, self.num_steps + 1, dtype=torch.float64)
        if self.spacing == "angle":
            first, last = schedule.alpha_sigma(times[[0, -1]])[0].arccos().tolist()
            angles = torch.linspace(first, last, self.num_steps + 1, dtype=torch.float64)
            times[1:-1] = schedule.time_at(angles.cos())[1:-1]
        elif self.spacing == "log_snr":
            first, last = schedule.log_snr(times[[0, -1]]).tolist()
            first = max(first, -FARTHEST)
            ratios = torch.linspace(first, min(last, max(FARTHEST, first + 1)), self.num_steps + 1, dtype=torch.float64)
            times[1:-1] = schedule.time_at(ratios.sigmoid().sqrt())[1:-1]
        elif self.spacing == "training":
            assert drawn is not None
            shares = torch.linspace(drawn.share_below(start), 0.0, self.num_steps + 1, dtype=torch.float64)
            times[1:-1] = drawn.quantile(shares)[1:-1]
        return times

    @abstractmethod
    def step(
        self,
        x_t: Latents,
        t: Tensor,
        s: Tensor,
        predict_x0: Callable[[Latents, Tensor], Latents],
        schedule: NoiseSchedule,
        generator: Generator,
        earlier: ReverseStep | None = None,
    ) -> Latents:
        """x_s from x_t, for scalar times s < t at any stride; a solver may look at the step before, `earlier`."""

    def reverse(
        self,
        x_t: Latents,
        predict_x0: PredictX0,
        schedule: NoiseSchedule,
        generator: Generator,
        start: float = 1.0,
        drawn: TimeSampling | None = None,
        steer: Steer | None = None,
    ) -> Iterator[ReverseStep]:
        """Walk from `x_t` at time `start` to 0; each network evaluation is yielded, the last `x_s` is the sample. Every
        other x_s goes where it is steered.
        """
        x_0, earlier = None, None
        times = self.times(schedule, start, drawn)

        def clipped(x: Latents, time: Tensor) -> Latents:
            nonlocal x_0
            x_0 = predict_x0(x, time.to(x).expand(len(x)), x_0)
            if self.clip is not None:
                x_0 = x_0.clamp(-self.clip, self.clip)
            return x_0

        for t, s in pairwise(times):
            x_s = self.step(x_t, t, s, clipped, schedule, generator, earlier)
            assert x_0 is not None
            if steer is not None and s > 0:
                std = posterior(x_t, x_0, *levels(schedule, t, x_t), *levels(schedule, s, x_t))[1]
                x_s = steer(x_s, s, std)
            earlier = ReverseStep(t, s, x_t, x_0, x_s)
            yield earlier
            x_t = x_s


def levels(schedule: NoiseSchedule, time: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma at one time, shaped to multiply latents."""
    alpha, sigma = schedule.alpha_sigma(time)
    return per_text(alpha).to(like), per_text(sigma).to(like)


def generators_of(seed: int, texts: range) -> list[torch.Generator]:
    """A generator for each text, which follows from the seed and the text's number alone."""
    seeds = [int(np.random.SeedSequence([seed, text]).generate_state(1)[0]) for text in texts]
    return [torch.Generator().manual_seed(own) for own in seeds]


def draw_like(x: Latents, generator: Generator) -> Latents:
    """Standard normal noise, drawn on the generator's device, so that a seed means the same on every machine."""
    if isinstance(generator, torch.Generator):
        return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
    return torch.cat([draw_like(text, own) for text, own in zip(x.split(1), generator, strict=True)])


class DDPMSampler(GaussianSampler):
    """Ancestral sampling: equation (1)."""

    def step(self, x_t, t, s, predict_x0, schedule, generator, earlier=None):
        x_0 = predict_x0(x_t, t)
        mean, std = posterior(x_t, x_0, *levels(schedule, t, x_t), *levels(schedule, s, x_t))
        return mean + std * draw_like(x_t, generator)


class DDIMSampler(GaussianSampler):
    """Equation (2)."""

    def __init__(self, *settings, eta: float = 0.0, **named):
        super().__init__(*settings, **named)
        self.eta = number(eta, "sampler.eta", least=0)

    def step(self, x_t, t, s, predict_x0, schedule, generator, earlier=None):
        x_0 = predict_x0(x_t, t)
        alpha_t, sigma_t = levels(schedule, t, x_t)
        alpha_s, sigma_s = levels(schedule, s, x_t)
        std = (self.eta * posterior(x_t, x_0, alpha_t, sigma_t, alpha_s, sigma_s)[1]).minimum(sigma_s)
        noise = noise_from(x_t, x_0, alpha_t, sigma_t)
        x_s = alpha_s * x_0 + (sigma_s**2 - std**2).clamp(min=0).sqrt() * noise
        return x_s + std * draw_like(x_t, generator) if self.eta else x_s


class DPMSolverSampler(GaussianSampler):
    """Equation (3): a deterministic solver of second order, whose first and last steps are DDIM's."""

    def step(self, x_t, t, s, predict_x0, schedule, generator, earlier=None):
        x_0 = predict_x0(x_t, t)
        if earlier is not None and s > 0:
            before, now, after = (schedule.log_snr(time) for time in (earlier.t, t, s))
            x_0 = x_0 + ((after - now) / (2 * (now - before))).to(x_0) * (x_0 - earlier.x_0)
        return towards(x_t, x_0, levels(schedule, t, x_t), levels(schedule, s, x_t))


class HeunSampler(GaussianSampler):
    """Equation (4): deterministic and of second order; the last of the `num_steps` steps is DDIM's, the others take two
    evaluations each.
    """

    @property
    def nfe(self):
        return 2 * self.num_steps - 1

    def spend(self, nfe):
        self.num_steps = (nfe + 1) // 2

    def step(self, x_t, t, s, predict_x0, schedule, generator, earlier=None):
        x_0 = predict_x0(x_t, t)
        now, after = levels(schedule, t, x_t), levels(schedule, s, x_t)
        x_s = towards(x_t, x_0, now, after)
        return x_s if s == 0 else towards(x_t, (x_0 + predict_x0(x_s, s)) / 2, now, after)


def towards(x_t: Latents, x_0: Latents, now: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> Latents:
    """DDIM's deterministic step to other levels of alpha and sigma, if x_0 is right."""
    return after[0] * x_0 + after[1] * noise_from(x_t, x_0, *now)
