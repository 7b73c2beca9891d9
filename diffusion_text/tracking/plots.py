"""Pictures."""

from pathlib import Path
from typing import Any

from diffusion_text.metrics.noise_prediction import NUM_BINS
from diffusion_text.tracking.summary import TITLES


def plot_lines(path: Path, lines: dict[str, tuple[list[float], list[float]]], x_label: str, y_label: str) -> None:
    """One line for each name, from its x and y values, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, (x, y) in lines.items():
        axes.plot(x, y, marker="o", label=name)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def plot_noise_prediction(path: Path, figures: dict[str, Any]) -> None:
    """The model and the reference predictors at ten noise levels, on the validation split, as a PNG."""
    from matplotlib.figure import Figure

    t = [(i + 0.5) / NUM_BINS for i in range(NUM_BINS)]
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = {
        "noise_cosine": "cosine similarity of noise",
        "noise_magnitude": "magnitude ratio of noise",
        "x0_cosine": "cosine similarity of x_0",
        "x0_magnitude": "magnitude ratio of x_0",
    }
    for axes, (quantity, title) in zip(figure.subplots(2, 2, sharex=True).flat, panels.items(), strict=True):
        for (name, label), style in zip(TITLES.items(), ("-o", ":", "--"), strict=True):
            axes.plot(t, figures["val"][name][quantity]["bins"], style, label=label, markersize=4)
        if figures["bound"] is not None and quantity.startswith("noise"):
            axes.axhline(figures["bound"], color="tab:red", label="the architecture's bound")
        axes.set(title=title, ylim=(0, min(axes.get_ylim()[1], 1.5)))
        axes.grid(alpha=0.3)
    for axes in figure.axes[-2:]:
        axes.set_xlabel("t")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150)
