"""A run's report: report.html in its directory, one file that needs nothing else."""

from __future__ import annotations

from itertools import chain
from typing import Any

from diffusion_text.storage import write_text
from diffusion_text.tracking import charts
from diffusion_text.tracking.auxiliary import AUTOENCODER_ROWS
from diffusion_text.tracking.pages import render
from diffusion_text.tracking.records import Record
from diffusion_text.tracking.summary import control_table, quality_rows
from diffusion_text.tracking.titles import PREDICTORS, QUANTITIES

Rows = list[list[str]]


def write_report(record: Record) -> None:
    """All that a finished run's directory holds, on one page."""
    sections = {section: name_charts(section, drawn) for section, drawn in charts.curves(record).items()}
    by_snr, by_noise = (
        name_charts(section, draw(record.figures) if "model" in record.figures["val"] else {})
        for section, draw in (("by log SNR", charts.information), ("by t", charts.noise_prediction))
    )
    if "values_read" in record.figures["val"]:
        by_noise = name_charts("by t", charts.values_read(record.figures))
    frontier = name_charts("frontier", charts.frontier(record.newest_json("frontier*.json")))
    asked = record.newest_json("control*.json")
    control = name_charts("control", charts.control(asked))
    drawn = {
        name: charts.for_page(chart)
        for _, name, chart in chain(by_snr, by_noise, frontier, control, *sections.values())
    }
    page = render(
        "report.html",
        charts=drawn,
        record=record,
        verdicts=verdicts(record.figures),
        facts=facts(record),
        predictors=predictor_rows(record.figures),
        splits=split_rows(record.figures),
        by_snr=by_snr,
        by_noise=by_noise,
        frontier=frontier,
        sections=sections,
        quality=quality(record.figures),
        samples=record.newest("*-seed-*.jsonl"),
        garbled=record.newest("garble*.jsonl")[1:],
        garbled_scores=garbled_rows(record.figures),
        control=control,
        control_table=control_table(asked),
        trace=record.newest("trace*.jsonl"),
    )
    write_text(record.run.report, page)


def name_charts(section: str, drawn: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Title, name on the page, and the chart."""
    return [(title, f"{section}: {title}", chart) for title, chart in drawn.items()]


def verdicts(figures: dict[str, Any]) -> list[str]:
    """What the run comes to, in sentences."""
    alarms = [f"Step {a['step']}, {a['name']}: {a['measured']}; {a['cause']}." for a in figures.get("alarms", [])]
    samples = [figures["samples"]["verdict"]] if "samples" in figures else []
    about_model, about_text = (
        ("information_verdict", "telling_verdict", "verdict", "loss_verdict", "weights_verdict"),
        ("sample_quality_verdict", "quality_verdict"),
    )
    named = [[figures[name] for name in names if name in figures] for names in (about_model, about_text)]
    return named[0] + alarms + samples + named[1]


def facts(record: Record) -> dict[str, str]:
    """The run in numbers."""
    figures, config, environment = record.figures, record.config, record.environment
    rates = [record.curve(f"speed/{name}_per_second")[-1:] for name in ("steps", "tokens")]
    speed = [f"{value:,.{digits}f}" for [(_, value)], digits in zip(rates, (1, 0), strict=True)] if all(rates) else []
    revision = (environment.get("revision") or "no checkout")[:12] + (" and changes" if environment["changed"] else "")
    return {
        "parameters": f"{figures['parameters']:,}",
        "steps": f"{figures['step']:,}, best at {figures['best_step']:,}",
        "time": f"{figures['seconds'] / 60:.1f} minutes",
        "speed": f"{speed[0]} steps a second, {speed[1]} tokens a second at the end" if speed else "not measured",
        "seed": str(config["seed"]),
        "device": f"{environment['device']}, threads: {environment['threads']}, {config['trainer']['precision']}",
        "code": f"{revision}; Python {environment['python']}, torch {environment['torch']}",
    }


def predictor_rows(figures: dict[str, Any]) -> Rows:
    """Model, reference predictors and bound: cosine similarity and magnitude ratio over all noise levels."""
    if "model" not in figures["val"]:
        return []
    rows = [
        [title, *(f"{figures['val'][name][quantity]['overall']:.3f}" for quantity in QUANTITIES)]
        for name, title in PREDICTORS.items()
    ]
    bound = figures["bound"]
    return rows if bound is None else [*rows, [charts.BOUND, f"{bound:.3f}", f"{bound:.3f}", "", ""]]


def split_rows(figures: dict[str, Any]) -> Rows:
    """Figures on validation and test split, of what has no noise levels: a text autoencoder, a model of tokens."""
    splits = [figures["val"], figures["test"]]
    rows = {"nll": "−log p, nats a token", "information": "beyond unigrams, nats a token"} | AUTOENCODER_ROWS
    return [
        [title, *(f"{split[name]:.3f}" for split in splits)]
        for name, title in rows.items()
        if all(name in split for split in splits) and "model" not in figures["val"]
    ]


def garbled_rows(figures: dict[str, Any]) -> Rows:
    """Word error rate and chrF of garbled texts, of their latents decoded as they are, and of what was restored."""
    return [
        [name, f"{score['word_error_rate']:.3f}", f"{score['chrf']:.3f}"]
        for name, score in figures.get("garbled", {}).items()
    ]


def quality(figures: dict[str, Any]) -> dict[str, Any] | None:
    """Text quality's columns and rows."""
    if "quality" not in figures:
        return None
    beside = {name: column for name, column in figures["quality"].items() if isinstance(column, dict)}
    columns = {"samples": figures["quality"], "real text": beside.pop("real")} | beside
    return {"columns": list(columns), "rows": quality_rows(columns)}
