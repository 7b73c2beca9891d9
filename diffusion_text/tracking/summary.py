"""What a run was and what came out, in a table that fits a terminal."""

from __future__ import annotations

import logging
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import nn

from diffusion_text.diagnostics.references import rank_bound
from diffusion_text.diffusion.predictions import EpsilonPrediction
from diffusion_text.metrics.noise_prediction import NUM_BINS, QUANTITIES
from diffusion_text.models.text_diffusion import PREDICTORS, TextDiffusion
from diffusion_text.runs import Run

log = logging.getLogger(__name__)
TITLES = {"model": "this model", "do_nothing": "do nothing (ε̂ = x_t)", "linear": "best linear predictor"}


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def describe(model: TextDiffusion) -> str:
    """The model in a line."""
    parts = (model.text_space, model.denoiser, model.schedule, model.prediction, model.loss)
    names = " · ".join(type(part).__name__ for part in parts)
    return f"{names} · {count_parameters(model.denoiser):,} parameters"


def final_figures(model: TextDiffusion, logged: dict[str, Any]) -> dict[str, Any]:
    """Loss and, for each predictor, each quantity's overall figure and bins, of validation and test split."""
    figures: dict[str, Any] = {"rank_bound": rank_bound(model.denoiser.output_width, model.text_space.dim)}
    for stage in ("val", "test"):
        figures[stage] = {"loss": float(logged[f"{stage}/loss"])}
        for name in PREDICTORS:
            prefix = stage if name == "model" else f"{stage}/{name}"
            figures[stage][name] = {
                quantity: {
                    "overall": float(logged[f"{prefix}/{quantity}"]),
                    "bins": [float(logged[f"{prefix}/{quantity}/{i}"]) for i in range(NUM_BINS)],
                }
                for quantity in QUANTITIES
            }
    return figures


def is_bounded(model: TextDiffusion) -> bool:
    """Whether the architecture's rank bounds the noise prediction: only a bare epsilon has no other path for x_t."""
    narrow = model.denoiser.output_width < model.text_space.dim
    return narrow and isinstance(model.prediction, EpsilonPrediction) and not model.linear_path


def verdict(model: TextDiffusion, figures: dict[str, Any]) -> str:
    """One sentence: where the model stands against the reference predictors, and why if it stands below."""
    bins = {name: figures["val"][name]["noise_cosine"]["bins"] for name in PREDICTORS}
    below = {
        TITLES[name]: sum(m < r for m, r in zip(bins["model"], bins[name], strict=True)) for name in PREDICTORS[1:]
    }
    behind = {title: count for title, count in below.items() if count}
    if not behind:
        return "Above both reference predictors at all ten noise levels."
    sentence = "Below " + " and ".join(f"'{title}' at {count} of 10 noise levels" for title, count in behind.items())
    if is_bounded(model):
        width, dim = model.denoiser.output_width, model.text_space.dim
        sentence += (
            f": the output is {width} wide for {dim} channels and must hold noise that fills all of them, which bounds "
            f"cosine similarity by √({width}/{dim}) = {rank_bound(width, dim):.3f}; use prediction=v, or model.width=full"
        )
    return sentence + "."


def print_summary(model: TextDiffusion, figures: dict[str, Any], texts: list[str], run: Run) -> None:
    """The table, the verdict, the samples and the path; on the terminal and in the log."""
    table = Table(title="Validation split, averaged weights: mean of ten noise levels", title_justify="left")
    table.add_column("predictor")
    for title in ("cos ε", "mag ε", "cos x₀", "mag x₀"):
        table.add_column(title, justify="right")
    for name in PREDICTORS:
        table.add_row(TITLES[name], *(f"{figures['val'][name][q]['overall']:.3f}" for q in QUANTITIES))
    if is_bounded(model):
        width, dim = model.denoiser.output_width, model.text_space.dim
        bound = f"{figures['rank_bound']:.3f}"
        table.add_row(f"bound √({width}/{dim})", bound, bound, "", "")
    console = Console(width=min(Console().width, 100))
    console.print(table)
    console.print(verdict(model, figures), highlight=False, markup=False)
    for text in texts:
        console.print("› " + " ".join(text.split()), highlight=False, markup=False)
    console.print(f"{run.directory}", highlight=False, markup=False, soft_wrap=True)
    log.debug("%s", verdict(model, figures))
