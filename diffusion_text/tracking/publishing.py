"""What a run came to, for W&B."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from diffusion_text import sampled_texts
from diffusion_text.diffusion.information import MIDDLES
from diffusion_text.metrics.noise_prediction import NUM_BINS, QUANTITIES
from diffusion_text.models.evaluation import PREDICTORS
from diffusion_text.tracking.records import Record
from diffusion_text.tracking.titles import INFORMATION

T, LOG_SNR = "diagnostics/t", "diagnostics/log_snr"


def publish(loggers: Iterable[Logger], record: Record) -> None:
    """With a W&B logger among the loggers: log what a finished run's directory holds."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            publish_diagnostics(logger, record.figures)
            logger.log_metrics(tables(record) | media(record), record.figures["step"])
            logger.experiment.summary.update(record.final)


def publish_diagnostics(logger: WandbLogger, figures: dict[str, Any]) -> None:
    """Information against log SNR, and the predictors against t."""
    for axis, rows in ((LOG_SNR, by_log_snr(figures)), (T, diagnostics(figures))):
        logger.experiment.define_metric(axis)
        for name in sorted({name for row in rows for name in row} - {axis}):
            # one by one: of several patterns that match, "*" among them, W&B takes any
            logger.experiment.define_metric(name, step_metric=axis)
        for row in rows:
            logger.log_metrics(row)


def by_log_snr(figures: dict[str, Any]) -> list[dict[str, float]]:
    """A row for each bin of log SNR with its middle, `diagnostics/log_snr`; none for what is no diffusion."""
    measured = {f"diagnostics/{name}": figures["val"][name]["bins"] for name in INFORMATION if name in figures["val"]}
    columns = {LOG_SNR: MIDDLES} | measured if measured else {}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def diagnostics(figures: dict[str, Any]) -> list[dict[str, float]]:
    """A row for each noise level with its `diagnostics/t`; none for what is no diffusion."""
    measured = {name: figures["val"][name] for name in PREDICTORS if name in figures["val"]}
    if not measured:
        return []
    columns = {T: [(i + 0.5) / NUM_BINS for i in range(NUM_BINS)]}
    for name, found in measured.items():
        prefix = "diagnostics" if name == "model" else f"diagnostics/{name}"
        columns |= {f"{prefix}/{quantity}": found[quantity]["bins"] for quantity in QUANTITIES}
    if figures["bound"] is not None:
        columns["diagnostics/bound"] = [figures["bound"]] * NUM_BINS
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def tables(record: Record) -> dict[str, Any]:
    """Texts over time, texts that were spoilt and restored, and the trace of one, step by step."""
    from wandb import Table

    trace = [{name: row[name] for name in row if name != "tokens"} for row in record.newest("trace*.jsonl")]
    written = {"texts/garbled": record.newest("garble*.jsonl")[1:], "texts/trace": trace}  # scores come first
    found: dict[str, tuple[list[Any], list[Any]]]
    found = {name: ([*rows[0]], [[*row.values()] for row in rows]) for name, rows in written.items() if rows}
    if record.texts:
        found["texts/sampled"] = sampled_texts.table(record.texts)
    return {name: Table(columns=columns, data=data) for name, (columns, data) in found.items()}


def media(record: Record) -> dict[str, Any]:
    """Pages and plots."""
    from wandb import Html, Image

    found: dict[str, Any] = {}
    if page := record.newest_file("trace*.html"):
        found["texts/trace_page"] = Html(page, inject=False)
    if record.run.report.is_file():
        found["pages/report"] = Html(record.run.report, inject=False)
    if record.run.plot.is_file():
        found["plots/noise_prediction"] = Image(str(record.run.plot))
    return found
