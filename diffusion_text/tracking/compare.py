"""Compare runs: what was set differently, and what came of it. The best is first.

python -m diffusion_text.tracking.compare outputs/DATE/RUN outputs/DATE/OTHER
python -m diffusion_text.tracking.compare outputs/DATE/SWEEP     all runs below a directory
python -m diffusion_text.tracking.compare outputs metric=val/loss direction=minimize out=all

metric=val/information     any final figure of a run's metrics.json, as it is logged
direction=maximize         or minimize: which end of it is best
out=comparison             writes comparison.csv, comparison.figures.csv (kind, unit and ruler of each figure) and .html
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from diffusion_text.commands import arguments, command
from diffusion_text.errors import UserError
from diffusion_text.tracking.comparison import OPENING, Comparison, find_runs
from diffusion_text.tracking.pages import render
from diffusion_text.tracking.records import Record
from diffusion_text.tracking.seeds import Group, groups
from diffusion_text.tracking.terminal import console

DEFAULTS = {"metric": "val/information", "direction": "maximize", "out": "comparison"}
FIGURES = {
    "val/loss": "val/loss",
    "val/information": "information",
    "sample_quality": "quality",
    "parameters": "parameters",
    "seconds": "minutes",
}  # beside the one that is compared by, the most telling first
MARK = '<main data-page="comparison">'


def main(argv: list[str]) -> None:
    """The command line."""
    places, values = arguments(argv, DEFAULTS)
    if not places:
        raise UserError("no run is given: python -m diffusion_text.tracking.compare RUN RUN …, or --help")
    comparison = Comparison(find_runs(places), values["metric"], values["direction"])
    out = Path(values["out"])
    show(comparison, out.name, out.with_name(f"{out.name}.csv"), out.with_name(f"{out.name}.html"))


def show(comparison: Comparison, title: str, table: Path, page: Path) -> None:
    """Print the comparison, and write it as a CSV and as a page over earlier ones.

    Raises UserError where a file of another kind has such a name.
    """
    for file, sign in ((table, ",".join(OPENING)), (page, MARK)):
        if file.exists() and sign not in file.read_text(encoding="utf-8", errors="replace"):
            raise UserError(f"{file} is something else and would be overwritten: move it, or choose another out=NAME")
    written = html(comparison, title, table, page)
    try:
        table.write_text(comparison.csv(), encoding="utf-8")
        table.with_suffix(".figures.csv").write_text(comparison.rulers(), encoding="utf-8")
        page.write_text(written, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {error.filename}: {error.strerror}; choose another out=NAME") from error
    print_table(comparison)
    print(page)


# ---- in the terminal


def print_table(comparison: Comparison) -> None:
    """As many figures as fit beside the settings; below, why runs failed."""
    out = console()
    names = [name for name in FIGURES if name in used_figures(comparison)]
    table = rich_table(comparison, names)
    anything = out.options.update(width=10 * out.width)  # what the table would take if it could
    while names and Measurement.get(out, anything, table).maximum > out.width:
        names.pop()
        table = rich_table(comparison, names)
    out.print(table)
    out.print(comparison.described, highlight=False, markup=False, end="\n" if comparison.described else "")
    if together := groups(comparison):
        out.print(seed_table(comparison, together))
    if comparison.misleading:
        out.print(comparison.misleading, highlight=False, markup=False)
    for record, label in zip(comparison.records, labels(comparison.records), strict=True):
        if record.error:
            out.print(f"{label} failed: {error_of(record)}", highlight=False, markup=False)


def seed_table(comparison: Comparison, together: list[Group]) -> Table:
    """Runs that differ in the seed alone as one row, and whether it can be told from the best."""
    table = Table(title="Over seeds: mean ± standard deviation", title_justify="left")
    for title in together[0].settings:
        table.add_column(Text(title))
    for title in ("runs", heading(comparison)):
        table.add_column(Text(title), justify="right")
    table.add_column("")
    for i, group in enumerate(together):
        told = "" if i == 0 or not group.level else "no different from the best"
        table.add_row(*map(Text, group.settings.values()), str(group.runs), group.figure, told)
    return table


def rich_table(comparison: Comparison, names: list[str]) -> Table:
    """The settings that vary, the figure that runs are compared by, and these figures."""
    table = Table()
    for title in ("run", *comparison.varied):
        table.add_column(Text(title))
    for title in (heading(comparison), *(FIGURES[name] for name in names)):
        table.add_column(Text(title), justify="right")
    for i, (record, label) in enumerate(zip(comparison.records, labels(comparison.records), strict=True)):
        chosen = [values[i] for values in comparison.varied.values()]
        cells = [label, *chosen, outcome(comparison, record), *(figure(record, name) for name in names)]
        table.add_row(*map(Text, cells))
    return table


def labels(records: list[Record]) -> list[str]:
    """The numbers of a sweep's jobs, which their directories' names begin with; otherwise the whole names."""
    numbers = [record.name.partition("-")[0] for record in records]
    one_sweep = len({record.run.directory.resolve().parent for record in records}) == 1
    distinct = all(map(str.isdigit, numbers)) and len(set(numbers)) == len(numbers)
    return numbers if one_sweep and distinct else [record.name for record in records]


def heading(comparison: Comparison) -> str:
    """The figure that runs are compared by, with an arrow to its better end."""
    return f"{comparison.metric} {'↑' if comparison.direction == 'maximize' else '↓'}"


def used_figures(comparison: Comparison) -> set[str]:
    """The figures that some run has, but for the one that is compared by."""
    return {name for record in comparison.records for name in record.final} - {comparison.metric}


def outcome(comparison: Comparison, record: Record) -> str:
    """The figure, or how far the run came."""
    if record.status != "finished":
        return record.status
    return figure(record, comparison.metric)


def figure(record: Record, name: str) -> str:
    """A final figure in few digits; nothing where there is none."""
    value = record.final.get(name)
    if value is None or record.status != "finished":
        return ""
    if name == "seconds":
        return f"{value / 60:.1f}"
    if name == "parameters":
        return f"{value / 1e6:.2f} M" if value >= 1e5 else f"{value:,.0f}"
    return f"{value:.4g}"


def error_of(record: Record) -> str:
    """Why a run failed; a user's mistake is told by its message alone."""
    return (record.error or "").removeprefix("UserError: ")


# ---- as a page


def html(comparison: Comparison, title: str, table: Path, page: Path) -> str:
    """The page, to lie at `page` beside the CSV `table`."""
    from diffusion_text.tracking.comparison_charts import overview, setting_charts

    names = [name for name in FIGURES if name in used_figures(comparison)]
    rows: list[dict[str, Any]] = [
        {
            "run": record.name,
            "link": link(record, page),
            "settings": {name: values[i] for name, values in comparison.varied.items()},
            "value": comparison.value(record),
            "outcome": outcome(comparison, record),
            "status": record.status,
            "figures": [figure(record, name) for name in names],
            "error": error_of(record),
        }
        for i, record in enumerate(comparison.records)
    ]
    drawn = [row for row in rows if row["value"] is not None and math.isfinite(row["value"])]
    metric = comparison.metric
    effects = setting_charts(drawn, metric) if drawn else {}
    charts = {f"setting {name}": spec for name, spec in effects.items()}
    if drawn and len(comparison.varied) > 2:
        charts["overview"] = overview(drawn, metric, comparison.direction)
    return render(
        "sweep.html", charts, title=title, comparison=comparison, heading=heading(comparison), rows=rows,
        groups=groups(comparison), figures=[FIGURES[name] for name in names], table=table.name,
    )  # fmt: skip


def link(record: Record, page: Path) -> str | None:
    """Where the run's report lies, seen from the page."""
    if not record.run.report.is_file():
        return None
    relative = os.path.relpath(record.run.report.resolve(), page.resolve().parent)
    return quote(Path(relative).as_posix())


if __name__ == "__main__":
    command(main, __doc__ or "")
