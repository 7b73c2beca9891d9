"""A classifier of noisy latents: which values does a text have, of which x_t is left? Its gradient steers a sampler.

(1) p(c | x_t, t)   for each attribute a softmax over its values, linear in the mean of a denoiser's output
(2) loss = −log p(c | x_t, t), averaged over what is known of a text
(3) x ← x_s + scale · std² · ∇ log p(c | x, s), some times from x = x_s on                    Li et al. 2022, §5.1

Equation (3) climbs scale · log p(c | x, s) − ‖x − x_s‖² / (2·std²) in steps of std², std being that of x_s given x_t;
the second term is their regularisation for fluency. Once is classifier guidance (Dhariwal & Nichol 2021, alg. 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusion_text.conditions.named import Named
from diffusion_text.denoisers.base import Denoiser
from diffusion_text.diagnostics.preflight import Check, gradient_reach
from diffusion_text.diffusion.time_sampling import TimeSampling
from diffusion_text.figures import LATENTS, Figure
from diffusion_text.metrics.noise_prediction import NUM_BINS
from diffusion_text.models.base import Trained, leaving_no_trace
from diffusion_text.models.step_draws import draws_of, evaluation_draws
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.shapes import Latents, Mask, PerText, Times, Told

Batch = dict[str, Tensor]


class Source(NamedTuple):
    """The model whose noise is read. It is no part of the classifier: neither trained nor saved with it."""

    model: TextDiffusion


class Classifier(Trained):
    """Reads the `values` of attributes off x_t of `dim` channels, on what `denoiser` makes of it.

    Logs the loss; of what is known of the texts, the share that it reads, overall and in ten time bins; and the share
    that is the training split's commonest value, which takes no reading.
    """

    FIGURES: ClassVar = (
        Trained.FIGURES
        | {"values_read": Figure("estimate", "share", (*LATENTS, "schedule"), "higher")}
        | {"commonest": Figure("exact", "share", LATENTS)}
    )
    LOGGED: ClassVar = (*Trained.LOGGED, "val/values_read", "val/commonest")
    counts: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        values: Mapping[str, Sequence[str]],
        dim: int,
        time_sampling: TimeSampling | None = None,
        source: Source | None = None,
        **optimisation,
    ):
        super().__init__(**optimisation)
        self.named, self.denoiser = Named(values), denoiser
        self.time_sampling, self.source = time_sampling, source
        self.leave = nn.Linear(dim, sum(self.named.sizes))
        self.register_buffer("counts", torch.zeros(sum(self.named.sizes), dtype=torch.long))

    def forward(self, x_t: Latents, t: Times, mask: Mask) -> list[Float[Tensor, "batch values"]]:
        """The logits of equation (1), attribute by attribute."""
        real = mask.unsqueeze(-1)
        mean = (self.denoiser(x_t, t, mask) * real).sum(1) / real.sum(1)
        return list(self.leave(F.layer_norm(mean, mean.shape[1:])).split(self.named.sizes, dim=1))

    def log_probability(self, x_t: Latents, t: Times, mask: Mask, told: Told) -> PerText:
        """ln p of all that the texts are told."""
        each = [
            F.cross_entropy(logits, wanted, ignore_index=-1, reduction="none")
            for logits, wanted in zip(self(x_t, t, mask), (told - 1).unbind(1), strict=True)
        ]
        return -torch.stack(each).sum(0)

    def count(self, told: Iterable[Tensor]) -> None:
        """Take over what the texts of the training split are told."""
        self.counts.copy_(torch.cat([counts[1:] for counts in self.named.counts(told).values()]))

    # ---- training

    def noise(self) -> TextDiffusion:
        """The model whose noise is read, where this one is."""
        assert self.source is not None
        return self.source.model.to(self.device)

    def loss(self, x_t: Latents, t: Times, mask: Mask, told: Told) -> Tensor:
        """Equation (2)."""
        return -self.log_probability(x_t, t, mask, told).sum() / (told > 0).sum().clamp(min=1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert self.time_sampling is not None
        noise = self.noise()
        draws = draws_of(self, noise.max_length, len(batch["told"]), batch_idx)
        with torch.no_grad():
            x_0, mask = noise.encode_batch(batch, draws)
        t = draws.times(self.time_sampling, x_0.device)
        noisy = noise.noised(x_0, draws.noise(x_0), t, mask)
        loss = self.loss(noisy.x_t, t, mask, batch["told"])
        if self.is_logged:
            self.log("train/loss", loss, prog_bar=True, batch_size=len(x_0), sync_dist=True)
        return loss

    def evaluate(self, stage, batch, batch_idx):
        """The same times and noise at every evaluation: each text in all ten time bins."""
        told = batch["told"]
        known, many = told > 0, int((told > 0).sum())
        if not many:
            return
        noise = self.noise()
        draws = evaluation_draws(self, noise.max_length, stage, batch_idx)
        x_0, mask = noise.encode_batch(batch, draws)
        within = draws.uniform(NUM_BINS, x_0.device)
        for time_bin in range(NUM_BINS):
            t = (time_bin + within[:, time_bin]) / NUM_BINS
            x_t = noise.noised(x_0, draws.noise(x_0, NUM_BINS + time_bin), t, mask).x_t
            read = torch.stack([logits.argmax(1) + 1 for logits in self(x_t, t, mask)], dim=1)
            right = (read == told)[known].float().mean()
            figures = {"loss": self.loss(x_t, t, mask, told), "values_read": right, f"values_read/{time_bin}": right}
            for name, value in figures.items():
                self.log(f"{stage}/{name}", value, prog_bar=name == "values_read", batch_size=many, sync_dist=True)
        commonest = torch.stack([counts.argmax() + 1 for counts in self.counts.split(self.named.sizes)])
        self.log(f"{stage}/commonest", (commonest == told)[known].float().mean(), batch_size=many, sync_dist=True)

    def describe(self):
        read = ", ".join(f"{name} ({len(values)})" for name, values in self.named.values.items())
        return {
            "reads": f"{type(self.noise()).__name__}'s noisy latents, {self.leave.in_features} channels",
            "model": f"{type(self.denoiser).__name__}, {self.count_parameters():,} parameters",
            "values": read,
        }

    def preflight(self, batch, sampler) -> list[Check]:
        """Whether the loss trains every parameter."""
        batch = {name: value[:8].to(self.device) for name, value in batch.items()}
        with leaving_no_trace(self):
            noise = self.noise()
            x_0, mask = noise.encode_batch(batch)
            t = torch.full((len(x_0),), 0.2, device=x_0.device)
            self.loss(noise.noised(x_0, torch.randn_like(x_0), t, mask).x_t, t, mask, batch["told"]).backward()
            gradients = {name: parameter.grad for name, parameter in self.named_parameters()}
            return [gradient_reach(gradients)]


@dataclass(frozen=True)
class Steering:
    """A classifier that leads a sampler to what each text is `told`: `steps` of equation (3) after each of its own."""

    classifier: Classifier
    scale: float
    steps: int
    told: Told | None = None

    def of(self, first: int, last: int) -> Steering:
        """That of some of the texts."""
        assert self.told is not None
        return replace(self, told=self.told[first:last])

    def __call__(self, mask: Mask, x_s: Latents, s: Tensor, std: Tensor) -> Latents:
        """x_s of texts of this mask at a scalar time `s`, led on; `std` is its own, given x_t."""
        assert self.told is not None
        times, told = s.to(x_s).expand(len(x_s)), self.told.to(x_s.device)
        x = x_s
        for _ in range(self.steps):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                [gradient] = torch.autograd.grad(self.classifier.log_probability(x, times, mask, told).sum(), x)
            x = x_s + self.scale * std**2 * gradient
        return x
