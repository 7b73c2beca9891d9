"""Noise schedules: how much of the data is left at time t.

x_t = alpha·x_0 + sigma·noise,  alpha = √ᾱ,  sigma = √(1 − ᾱ)                     (variance preserving)

(1) linear          ᾱ(i/T) = Π_{j≤i} (1 − β_j),  β from β_1 to β_T                 Ho et al. 2020, §4
(2) cosine          ᾱ(t) = cos²(π/2·(t + s)/(1 + s)) / cos²(π/2·s/(1 + s))          Nichol & Dhariwal 2021, eq. 17
(3) sqrt            ᾱ(t) = (1 − √(t + s)) / (1 − √s)                               Li et al. 2022, appendix A
(4) log-SNR-linear  log SNR(t) = (1 − t)·max + t·min,  ᾱ = sigmoid(log SNR)        Kingma et al. 2021, appendix
(5) tan             ᾱ(t) = 1 / (1 + d²·tan²(π/2·t))                                Shabalin et al. 2024 (TEncDM)
(6) learned         log SNR(t) = location + scale·log(−log t): 1 − t is the distribution function of −Gumbel
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusion_text.shapes import PerText, Times
from diffusion_text.values import number, whole

EULER = 0.5772156649015329
LIMIT = 15.0  # of the log SNR that a learned schedule looks at
ALPHA_BAR_FLOOR = 1e-12  # a schedule may end in pure noise, but a division by alpha stays finite


class NoiseSchedule(ABC):
    """A function from time to signal and noise levels. A new schedule writes `alpha_bar` and nothing else."""

    learns: bool = False

    def observe(self, t: Times, losses: PerText) -> None:  # noqa: B027
        """Learn what each text's loss at its time was; for those that do."""

    @abstractmethod
    def alpha_bar(self, t: Float[Tensor, "*times"]) -> Float[Tensor, "*times"]:
        """ᾱ at float64 times in [0, 1], falling from about 1 to about 0."""

    def alpha_sigma(self, t: Float[Tensor, "*times"]) -> tuple[Float[Tensor, "*times"], Float[Tensor, "*times"]]:
        """Signal level alpha and noise level sigma at `t`; computed in float64, returned in `t`'s precision."""
        alpha_bar = self._clamped(t)
        return alpha_bar.sqrt().to(t), (1 - alpha_bar).sqrt().to(t)

    def log_snr(self, t: Float[Tensor, "*times"]) -> Float[Tensor, "*times"]:
        """log(alpha² / sigma²) at `t`; +inf where nothing has been noised yet."""
        return torch.logit(self._clamped(t)).to(t)

    def time_at(self, alpha: Float[Tensor, "*levels"]) -> Float[Tensor, "*levels"]:
        """The time in [0, 1] at which the signal level is `alpha` (float64); by bisection."""
        early, late = torch.zeros_like(alpha), torch.ones_like(alpha)
        for _ in range(60):
            middle = (early + late) / 2
            above = self.alpha_sigma(middle)[0] > alpha
            early, late = torch.where(above, middle, early), torch.where(above, late, middle)
        return (early + late) / 2

    def _clamped(self, t: Float[Tensor, "*times"]) -> Float[Tensor, "*times"]:
        exact = t.cpu() if t.device.type == "mps" else t  # Apple's GPUs have no float64
        return self.alpha_bar(exact.double()).clamp(ALPHA_BAR_FLOOR, 1.0)


class LinearSchedule(NoiseSchedule):
    """Equation (1): `num_steps` betas rise linearly; between the steps log ᾱ is interpolated."""

    def __init__(self, beta_start: float = 1e-4, beta_end: float = 0.02, num_steps: int = 1000):
        number(beta_start, "schedule.beta_start", above=0), number(beta_end, "schedule.beta_end", below=1)
        if beta_start > beta_end:
            raise ValueError(f"schedule.beta_start={beta_start} is above schedule.beta_end={beta_end}")
        num_steps = whole(num_steps, "schedule.num_steps", 1, 1_000_000)
        betas = torch.linspace(beta_start, beta_end, num_steps, dtype=torch.float64)
        self.log_alpha_bars = torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0)])

    def alpha_bar(self, t):
        table = self.log_alpha_bars.to(t.device)
        position = t * (len(table) - 1)
        below = position.floor().long().clamp(0, len(table) - 2)
        return torch.lerp(table[below], table[below + 1], position - below).exp()


class CosineSchedule(NoiseSchedule):
    """Equation (2)."""

    def __init__(self, s: float = 0.008):
        self.s = number(s, "schedule.s", least=0, below=1)

    def alpha_bar(self, t):
        def squared_cosine(time):
            return torch.cos(math.pi / 2 * (time + self.s) / (1 + self.s)) ** 2

        return squared_cosine(t) / squared_cosine(torch.zeros_like(t))


class SqrtSchedule(NoiseSchedule):
    """Equation (3): as in Diffusion-LM's code, where ᾱ(0) = 1. The printed formula lacks the division."""

    def __init__(self, s: float = 1e-4):
        self.s = number(s, "schedule.s", least=0, below=1)

    def alpha_bar(self, t):
        return (1 - torch.sqrt(t + self.s)) / (1 - math.sqrt(self.s))


class LogSNRLinearSchedule(NoiseSchedule):
    """Equation (4): every factor of signal-to-noise ratio gets the same share of time."""

    def __init__(self, log_snr_max: float = 10.0, log_snr_min: float = -10.0):
        self.log_snr_max = number(log_snr_max, "schedule.log_snr_max")
        self.log_snr_min = number(log_snr_min, "schedule.log_snr_min")
        if log_snr_min >= log_snr_max:
            raise ValueError(f"schedule.log_snr_min={log_snr_min} is not below schedule.log_snr_max={log_snr_max}")

    def alpha_bar(self, t):
        return torch.sigmoid((1 - t) * self.log_snr_max + t * self.log_snr_min)


class TanSchedule(NoiseSchedule):
    """Equation (5), TEncDM's: the cosine schedule with 2·log(d) taken from its log SNR, so that more time is noisy."""

    def __init__(self, d: float = 9.0):
        self.d = number(d, "schedule.d", above=0)

    def alpha_bar(self, t):
        cosine, sine = torch.cos(math.pi / 2 * t), torch.sin(math.pi / 2 * t)
        return cosine**2 / (cosine**2 + self.d**2 * sine**2)


class LearnedSchedule(nn.Module, NoiseSchedule):
    """Equation (6), with location and scale such that the loss falls alike in equal times: mean and standard deviation
    of log SNR are those of where the loss falls. Time is warped by two parameters where Dieleman et al. (2022, §4.3)
    have bins. For losses that fall to 0 with the noise, as cross-entropy does.

    What the loss is in each of `num_bins` bins of log SNR from −LIMIT to LIMIT is averaged with `decay`, and so are
    location and scale; all are kept in the checkpoint.
    """

    location: Tensor
    scale: Tensor
    losses: Tensor
    learns = True

    def __init__(self, location: float = 0.0, scale: float = 1.5, num_bins: int = 60, decay: float = 0.99):
        super().__init__()
        number(location, "schedule.location"), number(scale, "schedule.scale", above=0)
        self.decay = number(decay, "schedule.decay", least=0, below=1)
        num_bins = whole(num_bins, "schedule.num_bins", 4, 1_000_000)
        self.register_buffer("location", torch.tensor(float(location)))
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.register_buffer("losses", torch.full((num_bins,), torch.nan))

    def alpha_bar(self, t):
        location, scale = self.location.to(t), self.scale.to(t)
        return torch.sigmoid(location + scale * torch.log(-torch.log(t)))

    @torch.no_grad()
    def observe(self, t, losses):
        width = 2 * LIMIT / len(self.losses)
        bins = ((self.log_snr(t) + LIMIT) / width).long().clamp(0, len(self.losses) - 1)
        average_bins(self.losses, bins, losses, self.decay)
        seen = ~self.losses.isnan()
        edges = torch.arange(1, len(self.losses) + 1, device=seen.device) * width - LIMIT
        least = self.losses.nan_to_num(torch.inf).cummin(0).values
        most = least.where(seen, 0).max()
        falls = torch.cat([-least.clamp(max=most).diff(), least[-1:]]) / most  # what is left falls after the last seen
        places = torch.cat([edges[:-1], edges.where(seen, -LIMIT).max().unsqueeze(0)])
        mean = (falls * places).sum()
        scale = (falls * (places - mean) ** 2).sum().sqrt() * 6**0.5 / math.pi
        weight = torch.where(seen.sum() < 3, 0.0, 1 - self.decay)
        self.location.lerp_(mean + EULER * scale, weight)
        self.scale.lerp_(scale.clamp(min=width), weight)


def average_bins(averages: Tensor, bins: Tensor, values: Tensor, decay: float) -> None:
    """Move the averages `(num_bins,)` of bins that have values towards the values' mean; NaN where none ever had."""
    count = torch.zeros_like(averages).index_add_(0, bins, torch.ones_like(values, dtype=averages.dtype))
    means = torch.zeros_like(averages).index_add_(0, bins, values.to(averages)) / count
    moved = torch.where(averages.isnan(), means, torch.lerp(means, averages, decay))
    averages.copy_(torch.where(count > 0, moved, averages))
