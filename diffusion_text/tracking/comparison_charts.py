"""What a setting does to a figure, drawn: Vega-Lite, as wide as the page gives room for."""

from __future__ import annotations

from typing import Any

import altair as alt

from diffusion_text.tracking.pages import Spec

INK = "#3b82c4"  # reads on white and on black
Row = dict[str, Any]  # run, settings (a dict of strings), value: the figure that runs are compared by


def setting_charts(rows: list[Row], metric: str) -> dict[str, Spec]:
    """For each setting, the figure of every run against it."""
    return {name: setting_chart(rows, name, metric) for name in rows[0]["settings"]}


def setting_chart(rows: list[Row], name: str, metric: str) -> Spec:
    """Numbers from left to right with the median of each; other values below one another, the best at the top."""
    values = [number(row["settings"][name]) for row in rows]
    numeric = all(value is not None for value in values)
    data = [
        {"run": row["run"], "told": told(row), "value": row["value"], "x": value if numeric else row["settings"][name]}
        for row, value in zip(rows, values, strict=True)
    ]
    shown = [alt.Tooltip("run:N"), alt.Tooltip("told:N", title="settings"), alt.Tooltip("value:Q", title=metric)]
    figure = alt.Scale(zero=False, nice=True, padding=12)
    base = alt.Chart(alt.Data(values=data))
    if numeric:
        x = alt.X("x:Q", title=name, scale=spacing(values), axis=alt.Axis(values=sorted(set(values)), format="~g"))  # type: ignore[type-var]
        y = alt.Y("value:Q", title=metric, scale=figure)
        middle = base.mark_line(color=INK, opacity=0.5).encode(x=x, y=alt.Y("median(value):Q", title=metric))
        height = 220
    else:
        order = list(dict.fromkeys(row["settings"][name] for row in rows))
        x = alt.X("value:Q", title=metric, scale=figure, axis=alt.Axis(tickCount=5))
        y = alt.Y("x:N", title=name, sort=order, axis=alt.Axis(labelLimit=140))
        middle = base.mark_tick(color=INK, thickness=2, size=22).encode(x=alt.X("median(value):Q", title=metric), y=y)
        height = 44 * len(order) + 10
    points = base.mark_circle(size=80, color=INK, opacity=0.75).encode(x=x, y=y, tooltip=shown)
    return alt.layer(middle, points).properties(width="container", height=height).to_dict()


def overview(rows: list[Row], metric: str, direction: str) -> Spec:
    """Parallel coordinates: a line a run through its value of every setting to the figure that it came to."""
    names = [*rows[0]["settings"], metric]
    columns = [[row["settings"][name] for row in rows] for name in names[:-1]] + [[row["value"] for row in rows]]
    places = {name: positions(column) for name, column in zip(names, columns, strict=True)}
    shared = [{"run": row["run"], "told": told(row), "value": row["value"]} for row in rows]
    lines = [line | {"axis": name, "place": places[name][i]} for name in names for i, line in enumerate(shared)]
    labels = {
        (name, place): value if isinstance(value, str) else f"{value:.4g}"
        for name, column in zip(names, columns, strict=True)
        for value, place in zip(column, places[name], strict=True)
        if isinstance(value, str) or place in (0, 1)
    }
    axis = alt.X("axis:N", sort=names, title=None, scale=alt.Scale(type="point", padding=0.3))
    axis.axis = alt.Axis(orient="top", domain=False, ticks=False, labelAngle=0, labelPadding=24, labelFontWeight=600)
    height = alt.Y("place:Q", axis=None, scale=alt.Scale(domain=[0, 1]))
    seen = alt.SchemeParams(name="viridis", extent=[0.25, 0.9])  # on white and on black
    best = alt.Scale(scheme=seen, reverse=direction == "minimize")
    runs = (
        alt.Chart(alt.Data(values=lines))
        .mark_line(strokeWidth=2, opacity=0.8)
        .encode(
            x=axis, y=height, detail="run:N", color=alt.Color("value:Q", scale=best, legend=None),
            tooltip=["run:N", alt.Tooltip("told:N", title="settings"), alt.Tooltip("value:Q", title=metric)],
        )
    )  # fmt: skip
    rules = alt.Chart(alt.Data(values=[{"axis": name} for name in names])).mark_rule(opacity=0.5).encode(x=axis)
    written = [{"axis": name, "place": place, "label": label} for (name, place), label in labels.items()]
    texts = (
        alt.Chart(alt.Data(values=written))
        .mark_text(align="left", dx=6, dy=-10, fontSize=11)
        .encode(x=axis, y=height, text="label:N")
    )
    return alt.layer(rules, runs, texts).properties(width="container", height=300).to_dict()


def told(row: Row) -> str:
    """A run's settings as one would write them."""
    return " ".join(f"{name}={value}" for name, value in row["settings"].items())


def number(text: str) -> float | None:
    """The number that a value is, if it is one."""
    try:
        return float(text)
    except ValueError:
        return None


def spacing(values: list[Any]) -> alt.Scale:
    """Even steps of the logarithm where values span a decade and more."""
    wide = min(values) > 0 and max(values) >= 10 * min(values)
    return alt.Scale(type="log" if wide else "linear", zero=False, nice=False, padding=16)


def positions(values: list[Any]) -> list[float]:
    """Where values stand on an axis from 0 to 1: numbers as a figure, names as evenly spread as they first come."""
    if all(isinstance(value, float) for value in values):
        low, high = min(values), max(values)
        return [(value - low) / (high - low) if high > low else 0.5 for value in values]
    distinct = list(dict.fromkeys(values))
    if all(number(value) is not None for value in distinct):
        distinct.sort(key=float)
    else:
        distinct.reverse()  # what came first, the best run's, stands at the top
    return [distinct.index(value) / max(len(distinct) - 1, 1) for value in values]
