"""What a setting does to a figure, drawn: Vega-Lite, as wide as the page gives room for."""

from __future__ import annotations

from typing import Any

import altair as alt

from diffusion_text.tracking.comparison import number
from diffusion_text.tracking.pages import Spec

INK = "#3b82c4"  # reads on white and on black
MANY = 12  # values of a setting, which would be written over one another
Row = dict[str, Any]  # run, settings (a dict of strings), value: the figure that runs are compared by


def setting_charts(rows: list[Row], metric: str) -> dict[str, Spec]:
    """For each setting, the figure of every run against it."""
    return {name: setting_chart(rows, name, metric) for name in rows[0]["settings"]}


def setting_chart(rows: list[Row], name: str, metric: str) -> Spec:
    """Numbers from left to right; other values below one another, the best run's at the top."""
    values = [row["settings"][name] for row in rows]
    numbers = [float(value) for value in values if number(value) is not None]
    numeric = len(numbers) == len(values)
    data = [
        {"run": row["run"], "told": told(row), "value": row["value"], "setting": value}
        for row, value in zip(rows, numbers if numeric else values, strict=True)
    ]
    figure = alt.Scale(zero=False, padding=12)
    points = alt.Chart().mark_circle(size=80, color=INK, opacity=0.75).encode(tooltip=tooltip(metric))
    if numeric:
        ticks = alt.Axis(values=sorted(set(numbers)), labelExpr="'' + datum.value")
        x = alt.X("setting:Q", title=name, scale=spacing(numbers), axis=ticks)
        points = points.encode(x, alt.Y("value:Q", title=metric, scale=figure))
        middle = alt.Chart().mark_line(color=INK, opacity=0.5).encode(x, alt.Y("median(value):Q", title=metric))
        height = 220
    else:
        order = list(dict.fromkeys(values))
        y = alt.Y("setting:N", title=name, sort=order, axis=alt.Axis(labelLimit=140))
        points = points.encode(alt.X("value:Q", title=metric, scale=figure, axis=alt.Axis(tickCount=5)), y)
        bar = alt.Chart().mark_tick(color=INK, thickness=2, size=22)
        middle, height = bar.encode(alt.X("median(value):Q", title=metric), y), 44 * len(order) + 10
    both = alt.layer(middle, points, data=alt.Data(values=data))
    return both.properties(width="container", height=height).to_dict()


def overview(rows: list[Row], metric: str, direction: str) -> Spec:
    """Parallel coordinates: a line a run through its value of every setting to the figure that it came to."""
    names = [*rows[0]["settings"], metric]
    columns = [[row["settings"][name] for row in rows] for name in names[:-1]] + [[row["value"] for row in rows]]
    places = {name: positions(column) for name, column in zip(names, columns, strict=True)}
    shared = [{"id": i, "run": row["run"], "told": told(row), "value": row["value"]} for i, row in enumerate(rows)]
    lines = [line | {"axis": name, "place": places[name][i]} for name in names for i, line in enumerate(shared)]
    lines.reverse()  # the best run is drawn last, over the others
    labels = {
        (name, place): value if isinstance(value, str) else f"{value:.4g}"
        for name, column in zip(names, columns, strict=True)
        for value, place in zip(column, places[name], strict=True)
        if place in (0, 1) or (isinstance(value, str) and len(set(column)) <= MANY)
    }
    top = alt.Axis(orient="top", domain=False, ticks=False, labelAngle=0, labelPadding=24, labelFontWeight=600)
    axis = alt.X("axis:N", sort=names, title=None, scale=alt.Scale(type="point", padding=0.3), axis=top)
    height = alt.Y("place:Q", axis=None, scale=alt.Scale(domain=[0, 1]))
    seen = alt.SchemeParams(name="viridis", extent=[0.25, 0.9])  # on white and on black
    color = alt.Color("value:Q", scale=alt.Scale(scheme=seen, reverse=direction == "minimize"), legend=None)
    runs = (
        alt.Chart(alt.Data(values=lines))
        .mark_line(strokeWidth=2, opacity=0.8)
        .encode(axis, height, color, detail="id:N", tooltip=tooltip(metric))
    )
    rules = alt.Chart(alt.Data(values=[{"axis": name} for name in names])).mark_rule(opacity=0.5).encode(x=axis)
    written = [{"axis": name, "place": place, "label": label} for (name, place), label in labels.items()]
    texts = (
        alt.Chart(alt.Data(values=written))
        .mark_text(align="left", dx=6, dy=-10, fontSize=11)
        .encode(x=axis, y=height, text="label:N")
    )
    return alt.layer(rules, runs, texts).properties(width="container", height=300).to_dict()


def tooltip(metric: str) -> list[alt.Tooltip]:
    """What a run's mark tells where the pointer is."""
    titles = {"run:N": "run", "told:N": "settings", "value:Q": metric}
    return [alt.Tooltip(field, title=title) for field, title in titles.items()]


def told(row: Row) -> str:
    """A run's settings as one would write them."""
    return " ".join(f"{name}={value}" for name, value in row["settings"].items())


def spacing(values: list[float]) -> alt.Scale:
    """Even steps of the logarithm where values span a decade and more."""
    if min(values) > 0 and max(values) >= 10 * min(values):
        return alt.Scale(type="log", nice=False, padding=16)
    return alt.Scale(zero=False, nice=False, padding=16)


def positions(values: list[Any]) -> list[float]:
    """Where values stand on an axis from 0 to 1: a figure by its size, a setting's values evenly spread."""
    if all(isinstance(value, float) for value in values):
        low, high = min(values), max(values)
        return [(value - low) / (high - low) if high > low else 0.5 for value in values]
    distinct = list(dict.fromkeys(values))
    if all(number(value) is not None for value in distinct):
        distinct.sort(key=float)
    else:
        distinct.reverse()  # what came first, the best run's, stands at the top
    return [distinct.index(value) / max(len(distinct) - 1, 1) for value in values]
