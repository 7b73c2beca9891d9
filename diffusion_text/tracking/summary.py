"""What a run was and what came out, in a table that fits a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from torch import nn

from diffusion_text.diagnostics.preflight import Check
from diffusion_text.diagnostics.references import rank_bound
from diffusion_text.metrics.noise_prediction import NUM_BINS, QUANTITIES
from diffusion_text.models.text_diffusion import PREDICTORS, TextDiffusion
from diffusion_text.runs import Run

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
    return model.denoiser.output_width < model.text_space.dim and model.is_bare_epsilon


def verdict(model: TextDiffusion, figures: dict[str, Any]) -> str:
    """One sentence: where the model stands against the reference predictors, and why if it stands below."""
    bins = {name: figures["val"][name]["noise_cosine"]["bins"] for name in PREDICTORS}
    below = {
        TITLES[name]: sum(not m >= r for m, r in zip(bins["model"], bins[name], strict=True)) for name in PREDICTORS[1:]
    }
    behind = {title: count for title, count in below.items() if count}
    if not behind:
        return "Above both reference predictors at all ten noise levels."
    sentence = "Below " + " and ".join(f"'{title}' at {count} of 10 noise levels" for title, count in behind.items())
    if is_bounded(model):
        width, dim = model.denoiser.output_width, model.text_space.dim
        sentence += (
            f": the output is {width} wide and must hold noise that fills {dim} channels, so its cosine is at most "
            f"√({width}/{dim}) = {rank_bound(width, dim):.3f}; use prediction=v, or model.width=full"
        )
    return sentence + "."


def print_preflight(checks: list[Check]) -> None:
    """The checks with their measured numbers; advice where one is not ok."""
    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    table = Table(title="Preflight", title_justify="left")
    for title in ("check", "measured", "verdict", "advice"):
        table.add_column(title)
    for check in checks:
        table.add_row(check.name, check.measured, f"[{colours[check.verdict]}]{check.verdict}[/]", check.advice)
    console().print(table)


def console() -> Console:
    """A console no wider than a page."""
    return Console(width=min(Console().width, 120))


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
    out = console()
    out.print(table)
    out.print(figures["verdict"], highlight=False, markup=False)
    for text in texts:
        out.print("› " + " ".join(text.split()), highlight=False, markup=False)
    out.print(f"{run.directory}", highlight=False, markup=False, soft_wrap=True)
