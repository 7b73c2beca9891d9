"""What a denoiser is held against on each split: reference predictors under its schedule, information under none."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from diffusion_text.diagnostics.references import Estimate, LinearPredictor, do_nothing
from diffusion_text.diffusion.gaussian import noise_from
from diffusion_text.diffusion.information import Errors
from diffusion_text.figures import Figure
from diffusion_text.metrics.information import Information
from diffusion_text.metrics.noise_prediction import NoisePrediction
from diffusion_text.shapes import Latents

if TYPE_CHECKING:
    from diffusion_text.diffusion.gaussian import Noisy

TELLING = "telling"  # beyond the same network that is told nothing
PREDICTORS = ("model", "do_nothing", "linear")
PREFIXES = ("train", "val", *(f"{stage}/{name}" for stage in ("train", "val") for name in PREDICTORS[1:]))


class Evaluation(nn.Module):
    """Noise prediction of the model and the reference predictors, in training, validation and test; information in the
    latter two, and where the model is told a condition what telling it is worth.
    """

    FIGURES: ClassVar[dict[str, Figure]] = Information.FIGURES | NoisePrediction.FIGURES
    LOGGED: ClassVar = (
        *(f"val/{name}" for name in Information.FIGURES),
        *(f"{prefix}/{name}" for name in NoisePrediction.FIGURES for prefix in PREFIXES),
    )

    def __init__(self, is_told: bool = False) -> None:
        super().__init__()
        stages = ["val", "test", *((f"val_{TELLING}", f"test_{TELLING}") if is_told else ())]
        self.metrics = nn.ModuleDict(
            {f"{stage}_{name}": NoisePrediction() for stage in ("train", "val", "test") for name in PREDICTORS}
            | {f"{stage}_information": Information() for stage in stages}
        )

    def noise_prediction(self, stage: str, predictor: str) -> NoisePrediction:
        return cast(NoisePrediction, self.metrics[f"{stage}_{predictor}"])

    def information(self, stage: str) -> Information:
        return cast(Information, self.metrics[f"{stage.replace('/', '_')}_information"])

    @torch.no_grad()
    def compare(self, stage: str, noisy: Noisy, x_0: Latents, linear: LinearPredictor) -> None:
        """Hold the model's estimate of x_0 and the reference predictors against the truth."""
        estimates = {
            "model": Estimate(noise_from(noisy.x_t, x_0, noisy.alpha, noisy.sigma), x_0),
            "do_nothing": do_nothing(noisy.x_t, noisy.alpha, noisy.sigma),
            "linear": linear(noisy.x_t, noisy.alpha, noisy.sigma),
        }
        for name, estimate in estimates.items():
            metric = self.noise_prediction(stage, name)
            metric.update(estimate.noise, noisy.noise, estimate.x_0, noisy.x_0, noisy.t, noisy.mask)

    def inform(self, stage: str, errors: Errors, tokens: Int[Tensor, batch]) -> None:
        """Add texts of so many tokens."""
        self.information(stage).update(errors, tokens)

    def figures(self, stage: str) -> dict[str, Tensor]:
        """All by the name that they are logged under: `val/information`, `val/linear/noise_cosine`, their bins as
        `val/information/3`, but none of training. What was added is forgotten.
        """
        metrics = {stage if name == "model" else f"{stage}/{name}": f"{stage}_{name}" for name in PREDICTORS}
        found = [(prefix, self.metrics[name]) for prefix, name in metrics.items()]
        if stage != "train":
            found.append((stage, self.information(stage)))
            telling = f"{stage}/{TELLING}"
            if f"{stage}_{TELLING}_information" in self.metrics and self.information(telling).update_called:
                found.append((telling, self.information(telling)))
        figures: dict[str, Tensor] = {}
        for prefix, metric in found:
            for quantity, value in cast(NoisePrediction, metric).compute().items():
                name = f"{prefix}/{quantity.removesuffix('_bins')}"
                if value.ndim == 0:
                    figures[name] = value
                elif stage != "train":
                    figures |= {f"{name}/{i}": each for i, each in enumerate(value)}
            cast(NoisePrediction, metric).reset()
        return figures
