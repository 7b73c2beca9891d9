"""What came out of a run, in tables that fit a terminal."""

from __future__ import annotations

import math
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from diffusion_text.diagnostics.collapse import collapse_alarms
from diffusion_text.diagnostics.preflight import Check
from diffusion_text.diffusion.information import MIDDLES
from diffusion_text.metrics.likelihood import Likelihood
from diffusion_text.metrics.noise_prediction import NUM_BINS, QUANTITIES
from diffusion_text.metrics.text_quality import TextQuality
from diffusion_text.models.evaluation import PREDICTORS, TELLING
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.models.writing import Writer
from diffusion_text.tracking.terminal import console
from diffusion_text.tracking.titles import INFORMATION, JUDGED_BY_A_MODEL, QUALITY
from diffusion_text.tracking.titles import PREDICTORS as TITLES

Columns = dict[str, dict[str, float]]  # text quality of samples, real text and unigrams
GAINED = 0.97  # share of the loss without context above which context has taught nothing
EXPLODED = 3  # root mean square of sampled x_0 above which it is nothing like data, whose own is 1


def startup_table(rows: dict[str, str]) -> str:
    """What is about to be trained, a part a line."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in rows.items():
        table.add_row(Text(name, style="dim"), Text(value))
    out = console()
    with out.capture() as captured:
        out.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def preflight_table(checks: list[Check]) -> str:
    """The checks with their measured numbers; below, advice where one is not ok."""
    table = Table("check", "measured", "verdict")
    for check in checks:
        table.add_row(check.name, check.measured, check.verdict)
    out = console()
    with out.capture() as captured:
        out.print(table)
        for check in checks:
            if check.advice:
                out.print(
                    f"{check.verdict}: {check.name} {check.measured}; {check.advice}", highlight=False, markup=False
                )
    return captured.get().rstrip()


def quality_rows(columns: Columns) -> list[list[str]]:
    """Text quality's table: a figure's title, then its value in each column."""
    return [
        [title, *(f"{column[name]:.3f}" if name in column else "" for column in columns.values())]
        for name, title in (QUALITY | JUDGED_BY_A_MODEL).items()
        if name in columns["samples"]
    ]


# ---- diffusion


def diffusion_figures(model: TextDiffusion, logged: dict[str, Any]) -> dict[str, Any]:
    """Loss and, for each predictor, each quantity's overall figure and bins, of validation and test split; verdict."""
    figures: dict[str, Any] = {"bound": model.bound, "reference": model.reference}
    for stage in ("val", "test"):
        parts = ("information_error", "information_found", "information_lost", "loss")
        figures[stage] = {name: with_bins(logged, f"{stage}/{name}", len(MIDDLES)) for name in INFORMATION}
        figures[stage] |= {name: float(logged[f"{stage}/{name}"]) for name in parts}
        if f"{stage}/{TELLING}/information" in logged:
            figures[stage][TELLING] = {
                "information": with_bins(logged, f"{stage}/{TELLING}/information", len(MIDDLES)),
                "information_error": float(logged[f"{stage}/{TELLING}/information_error"]),
            }
        for name in PREDICTORS:
            prefix = stage if name == "model" else f"{stage}/{name}"
            figures[stage][name] = {
                quantity: with_bins(logged, f"{prefix}/{quantity}", NUM_BINS) for quantity in QUANTITIES
            }
    if TELLING in figures["val"]:
        figures["telling_verdict"] = telling_verdict(figures["val"][TELLING])
    return figures | {
        "information_verdict": information_verdict(figures),
        "verdict": verdict(model, figures),
        "loss_verdict": loss_verdict(logged),
    }


def with_bins(logged: dict[str, Any], name: str, bins: int) -> dict[str, Any]:
    """A figure overall, and bin by bin."""
    return {"overall": float(logged[name]), "bins": [float(logged[f"{name}/{i}"]) for i in range(bins)]}


def information_verdict(figures: dict[str, Any]) -> str:
    """One sentence: what the model knows that its reference does not, whatever its schedule; where it knows less."""
    val = figures["val"]
    nats, error, lost = val["information"]["overall"], val["information_error"], val["information_lost"]
    if not nats > 2 * error:
        sentence = f"Knows no more than {figures['reference']}: {nats:.2f} ± {error:.2f} nats a token"
    else:
        sentence = f"Knows {nats:.2f} ± {error:.2f} nats a token beyond {figures['reference']}"
    sentence += f" ({val['information_found']:.2f} found, {lost:.2f} lost"
    if lost > error:
        worst = min(range(len(MIDDLES)), key=val["information"]["bins"].__getitem__)
        sentence += f", most around log SNR {MIDDLES[worst]:.1f}"
    return sentence + ")."


def telling_verdict(telling: dict[str, Any]) -> str:
    """One sentence: what the model knows that it does not when it is told nothing."""
    nats, error = telling["information"]["overall"], telling["information_error"]
    worth = f"{nats:.2f} ± {error:.2f} nats a token"
    if nats <= 2 * error:
        return f"It ignores what it is told: that is worth {worth}, beside the same model told nothing."
    most = max(range(len(MIDDLES)), key=telling["information"]["bins"].__getitem__)
    return f"What it is told is worth {worth}, most around log SNR {MIDDLES[most]:.1f}."


def verdict(model: TextDiffusion, figures: dict[str, Any]) -> str:
    """One sentence: where the model's noise cosine stands against the reference predictors', and why if below."""
    bins = {name: figures["val"][name]["noise_cosine"]["bins"] for name in PREDICTORS}
    below = {
        TITLES[name]: sum(not m >= r for m, r in zip(bins["model"], bins[name], strict=True)) for name in PREDICTORS[1:]
    }
    behind = {title: count for title, count in below.items() if count}
    if not behind:
        return "Under this schedule, above both reference predictors at all ten noise levels."
    places = " and ".join(f"'{title}' at {count} of 10 noise levels" for title, count in behind.items())
    sentence = f"Under this schedule, below {places}"
    if model.bound is not None:
        width, dim = model.denoiser.output_width, model.text_space.dim
        sentence += (
            f": the output is {width} wide and must hold noise that fills {dim} channels, so its cosine is at most "
            f"√({width}/{dim}) = {model.bound:.3f}; use prediction=v, or model.width=full"
        )
    return sentence + "."


def loss_verdict(logged: dict[str, Any]) -> str:
    """One sentence: what the loss is worth beside the one that needs no training and no context, where there is one."""
    part = "diffusion" if "val/diffusion" in logged else "loss"
    if f"val/without_context/{part}" not in logged:
        return f"Validation loss {float(logged['val/loss']):.4g}."
    ours, reference = (float(logged[f"{prefix}/{part}"]) for prefix in ("val", "val/without_context"))
    sentence = f"Validation loss {ours:.4g}; the best predictor that sees no context has {reference:.4g}."
    return sentence if ours < GAINED * reference else f"{sentence} Nothing was learned from context."


def weights_verdict(best_step: int, step: int) -> str:
    """One sentence: training went on after the weights were at their best."""
    more = f"{step - best_step:,} more steps made them no better"
    return f"Weights of step {best_step:,}, the best at validation: {more}."


def sampling_verdict(rms: float, peak_rms: float) -> str:
    """One sentence on the size of what was sampled."""
    sentence = f"Samples of x_0 have RMS {rms:.3g}, where data has 1; at most {peak_rms:.3g} on the way."
    if rms <= EXPLODED and peak_rms <= EXPLODED:
        return sentence
    return f"{sentence} They blew up: bound x_0 with sampler.clip, or use prediction=v or x0."


def quality_verdict(columns: Columns) -> str:
    """One sentence on how much samples are like real text: never the judge alone, which repetition pleases."""
    samples, real = columns["samples"], columns["real text"]
    if math.isnan(samples["judge_nll"]):
        return "Text quality: the samples are empty, there is nothing to judge."
    figures = {
        "judge_nll": "5-gram judge {:.2f} nats a token",
        "text_entropy": "entropy of each text {:.2f}",
        "entropy": "of all together {:.2f}",
        "unique_texts": "unique texts {:.2f}",
    }
    said = (f"{title.format(samples[name])} (real text {real[name]:.2f})" for name, title in figures.items())
    collapses = ", ".join(alarm.name for alarm in collapse_alarms(samples, real, "", rms=1.0))
    sentence = f"Text quality: {', '.join(said)}{f'; {collapses}' if collapses else ''}."
    return sentence + source_verdict(columns) + nonsense_verdict(columns)


def source_verdict(columns: Columns) -> str:
    """A sentence where the judge prefers samples that their source itself finds less probable than its own texts."""
    samples, real = columns["samples"], columns["real text"]
    if "source_nll" not in samples or samples["judge_nll"] >= real["judge_nll"]:
        return ""
    if samples["source_nll"] <= real["source_nll"]:
        return ""
    return " The judge prefers these samples to texts of their source, which finds them less probable: it is fooled."


def nonsense_verdict(columns: Columns) -> str:
    """A sentence on each figure with a better end by which nonsense beats the samples; nothing where there is none."""
    nonsense = {name: column for name, column in columns.items() if name not in ("samples", "real text")}
    said = ""
    for name in (name for name, figure in TextQuality.FIGURES.items() if figure.better):
        end = max if TextQuality.FIGURES[name].better == "higher" else min
        ours = columns["samples"][name]
        beaten_by = [other for other, column in nonsense.items() if end(column[name], ours) != ours]
        if beaten_by:
            said += f" By {QUALITY[name]} alone nonsense is better ({', '.join(beaten_by)}): it says nothing here."
    return said


def print_figures(model: Writer, figures: dict[str, Any]) -> None:
    """What the model knows: tables where there are noise levels, a sentence where there are none."""
    out = console()
    if not isinstance(model, TextDiffusion):
        out.print(figures["information_verdict"], highlight=False, markup=False)
        return
    out.print(information_table(figures))
    for name in ("information_verdict", "telling_verdict"):
        if name in figures:
            out.print(figures[name], highlight=False, markup=False)
    table = Table(title="Under this schedule: mean of ten times", title_justify="left")
    table.add_column("predictor")
    for title in ("cos ε", "mag ε", "cos x₀", "mag x₀"):
        table.add_column(title, justify="right")
    for name in PREDICTORS:
        table.add_row(TITLES[name], *(f"{figures['val'][name][q]['overall']:.3f}" for q in QUANTITIES))
    if model.bound is not None:
        width, dim = model.denoiser.output_width, model.text_space.dim
        table.add_row(f"bound √({width}/{dim})", f"{model.bound:.3f}", f"{model.bound:.3f}", "", "")
    out.print(table)
    for sentence in (figures["verdict"], figures["loss_verdict"]):
        out.print(sentence, highlight=False, markup=False)


def print_words(figures: dict[str, Any], texts: list[str]) -> None:
    """Which weights they are of, alarms, what the samples are like, and the samples."""
    out = console()
    if "weights_verdict" in figures:
        out.print(figures["weights_verdict"], highlight=False, markup=False)
    for alarm in figures.get("alarms", []):
        sentence = f"Step {alarm['step']}, {alarm['name']}: {alarm['measured']}; {alarm['cause']}."
        out.print(sentence, highlight=False, markup=False)
    if "samples" in figures:
        out.print(figures["samples"]["verdict"], highlight=False, markup=False)
    for name in ("sample_quality_verdict", "quality_verdict"):
        if name in figures:
            out.print(figures[name], highlight=False, markup=False)
    for text in texts:
        out.print("› " + " ".join(text.split()), highlight=False, markup=False)


def short(value: float) -> str:
    """A number in at most six characters: some are huge, of networks that are wrong where nothing should be."""
    return f"{value:.{2 if abs(value) < 10 else 1}f}" if abs(value) < 1000 else f"{value:.0e}".replace("e+0", "e")


def information_table(figures: dict[str, Any]) -> Table:
    """What the model knows beyond its reference, and the share of the reference's error that is gone, by log SNR."""
    title = "Validation split, averaged weights, whatever the schedule"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("log SNR")
    for level in reversed(MIDDLES):  # as time goes: from least noise to most
        table.add_column(f"{level:.1f}", justify="right")
    for name, title in (("information", "nats"), ("skill", "skill")):
        table.add_row(title, *(short(value) for value in reversed(figures["val"][name]["bins"])))
    if TELLING in figures["val"]:
        bins = figures["val"][TELLING]["information"]["bins"]
        table.add_row("told", *(short(value) for value in reversed(bins)))
    return table


# ---- tokens


def token_figures(model: Writer, logged: dict[str, Any]) -> dict[str, Any]:
    """−log p and what of it is beyond unigrams, of validation and test split."""
    figures: dict[str, Any] = {"reference": model.reference}
    for stage in ("val", "test"):
        figures[stage] = {name: float(logged[f"{stage}/{name}"]) for name in ("loss", *Likelihood.FIGURES)}
    val = figures["val"]
    sign = "=" if model.likelihood == "exact" else "≤"
    known, error = val["information"], val["information_error"]
    more = f"{known:.3f} ± {error:.3f} nats a token"
    knows = f"{more} beyond {model.reference}" if known > 2 * error else f"no more than {model.reference}: {more}"
    sentence = f"Knows {knows}; −log p {sign} {val['nll']:.3f} ± {val['nll_error']:.3f}."
    return figures | {"information_verdict": sentence}


def control_table(written: dict[str, Any]) -> list[list[str]]:
    """Titles, then of each set of texts what is said, its quality, and the evaluations of the network and of a
    classifier.
    """
    rows = [
        [
            name,
            *(f"{row[share]:.1%}" for share in ("said", "verbatim")),
            *(f"{row[figure]:.3f}" for figure in ("judge_nll", "text_entropy", "distinct_3")),
            " + ".join(str(row[spent]) for spent in ("nfe", "gradients") if row[spent]),
        ]
        for name, row in written.items()
        if isinstance(row, dict)
    ]
    return [["", "said", "verbatim", "judge NLL", "entropy", "distinct 3-grams", "NFE"], *rows]
