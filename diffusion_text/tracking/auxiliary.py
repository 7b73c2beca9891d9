"""What came out of a training that is not of a model that writes: of a text autoencoder, or of a classifier."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from diffusion_text.metrics.noise_prediction import NUM_BINS
from diffusion_text.models.text_autoencoder import NOISE_LEVELS, noisy_accuracy
from diffusion_text.runs import Run
from diffusion_text.tracking.summary import with_bins
from diffusion_text.tracking.terminal import console

ABOVE = 0.05  # the commonest value's share, from where on a classifier is said to read something
AUTOENCODER_ROWS = {
    "loss": "loss",
    "reconstruction": "reconstruction, nats a token",
    "kl": "KL, nats a latent",
    "accuracy": "token accuracy, given those before",
    "token_accuracy": "token accuracy, decoded freely",
    "exact_match": "texts decoded exactly",
    **{noisy_accuracy(level): f"token accuracy at noise {level:g} std" for level in NOISE_LEVELS},
}


# ---- classifier


def classifier_figures(logged: dict[str, Any]) -> dict[str, Any]:
    """What is read of validation and test split, overall and by time, and what takes no reading; in a sentence too."""
    figures: dict[str, Any] = {
        stage: {
            "loss": float(logged[f"{stage}/loss"]),
            "values_read": with_bins(logged, f"{stage}/values_read", NUM_BINS),
            "commonest": float(logged[f"{stage}/commonest"]),
        }
        for stage in ("val", "test")
    }
    read, commonest = figures["val"]["values_read"]["bins"], figures["val"]["commonest"]
    above = [(time_bin + 1) / NUM_BINS for time_bin, share in enumerate(read) if share > commonest + ABOVE]
    more = f"it reads more up to t = {above[-1]:g}" if above else "nowhere does it read more"
    sentence = f"Where there is least noise it reads {read[0]:.1%} of what is known"
    return figures | {"verdict": f"{sentence}; always the commonest value would be {commonest:.1%}, and {more}."}


def print_classifier(figures: dict[str, Any], run: Run) -> None:
    """The share that is read by time, a sentence, and how to go on."""
    table = Table(title="Share of what is known that is read, validation split, by t", title_justify="left")
    table.add_column("t")
    for time_bin in range(NUM_BINS):
        table.add_column(f"{(time_bin + 0.5) / NUM_BINS:.2f}", justify="right")
    table.add_row("read", *(f"{share:.2f}" for share in figures["val"]["values_read"]["bins"]))
    out = console()
    out.print(table)
    out.print(figures["verdict"], highlight=False, markup=False)
    steer = f"python sample.py run=RUN condition.NAME=VALUE sampler.classifier={run.directory}"
    out.print(f"Steer the run that it reads: {steer}", highlight=False, markup=False, soft_wrap=True)


# ---- text autoencoder


def autoencoder_figures(logged: dict[str, Any]) -> dict[str, Any]:
    """What validation and test measured."""
    stages = {stage: {} for stage in ("val", "test")}  # type: dict[str, Any]
    for name, value in logged.items():
        stage, _, quantity = name.partition("/")
        stages[stage][quantity] = float(value)
    return stages


def print_autoencoder(figures: dict[str, Any], run: Run) -> None:
    """The table, some texts with their reconstructions, and how to go on."""
    table = Table(title="Text autoencoder, averaged weights", title_justify="left")
    table.add_column("figure")
    for stage in ("validation", "test"):
        table.add_column(stage, justify="right")
    for name, title in AUTOENCODER_ROWS.items():
        table.add_row(title, *(f"{figures[stage][name]:.3f}" for stage in ("val", "test")))
    out = console()
    out.print(table)
    for original, reconstruction in figures["reconstructions"]:
        out.print("  " + " ".join(original.split()), highlight=False, markup=False)
        out.print("› " + " ".join(reconstruction.split()), highlight=False, markup=False)
    go_on = f"python train.py text_space=bart_base text_space.pretrained={run.text_space}"
    out.print(f"Diffuse over its latents: {go_on}", highlight=False, markup=False, soft_wrap=True)
