"""The model card of an export: what it is, how to load it, its figures with their rulers, how it was trained."""

from __future__ import annotations

import re
import shlex
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import diffusion_text
from diffusion_text.storage import read_yaml
from diffusion_text.tracking.records import Record
from diffusion_text.tracking.report import verdicts

PLACE = re.compile(r"=['\"]?[/~].*")  # the value of a setting


def model_card(record: Record, description: dict[str, str], step: int, corpus: str, licence: str | None) -> str:
    """Markdown. Figures are of the step that metrics.json says; of another there are none."""
    environment = Environment(
        loader=PackageLoader("diffusion_text.tracking"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    figures, revision = figures_of(record, step), record.environment.get("revision")
    return environment.get_template("card.md").render(
        record=record,
        description=description,
        step=step,
        version=diffusion_text.__version__,
        revision=f" at {revision[:12]}" if revision else "",
        verdicts=verdicts(figures) if figures else [],
        figures=rows(record) if figures else [],
        ruler=ruler(record),
        command=command(record),
        corpus=corpus,
        licence=licence,
    )


def figures_of(record: Record, step: int) -> dict[str, Any]:
    """The final figures, where they are of this step."""
    return record.figures if record.figures.get("best_step") == step else {}


def rows(record: Record) -> list[list[str]]:
    """Of the figures of test split and samples that one can be better in: value and error, beside real text's, kind,
    unit, better end and what the ruler is made of.
    """
    found = []
    for name, about in record.figures.get("figures", {}).items():
        if about["better"] is None or name.count("/") > 1 or name.startswith("val/") or name not in record.final:
            continue
        error = record.final.get(f"{name}_error")
        value = f"{record.final[name]:.4g}" + ("" if error is None else f" ± {error:.2g}")
        real = record.final.get(name.replace("quality/", "quality/real/")) if "quality/" in name else None
        beside = "" if real is None else f"{real:.4g}"
        found.append([name, value, beside, about["kind"], about["unit"], about["better"], ", ".join(about["ruler"])])
    return found


def ruler(record: Record) -> dict[str, str]:
    """Every fact about the run that one of its figures depends on."""
    abouts = record.figures.get("figures", {}).values()
    return {fact: value for about in abouts for fact, value in about["ruler"].items()}


def command(record: Record) -> str:
    """What was typed, without places; nothing where that was not kept."""
    if not record.run.overrides.is_file():
        return ""
    overrides: list[str] = read_yaml(record.run.overrides, [])
    given = (PLACE.sub("=PATH", str(override)) for override in overrides)
    return shlex.join(["python", "train.py", *given])
