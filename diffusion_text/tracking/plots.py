"""Pictures."""

from pathlib import Path


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
