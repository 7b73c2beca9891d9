"""Charts as Vega-Lite, which pages draw, and as pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusion_text.diffusion.information import MIDDLES
from diffusion_text.metrics.noise_prediction import NUM_BINS
from diffusion_text.models.evaluation import TELLING
from diffusion_text.tracking.pages import Spec
from diffusion_text.tracking.records import Record
from diffusion_text.tracking.titles import INFORMATION, QUALITY, QUANTITIES
from diffusion_text.tracking.titles import PREDICTORS as TITLES

Line = Sequence[tuple[float, float]]
POINTS = 400  # that a line keeps; more than a chart has pixels for
BOUND = "the architecture's bound"
DOTTED_UP_TO = 40  # points of a line; more would run together
CLOSEST = 1e-3  # relative spread that an axis is drawn out to
FLOOR = 10.0  # below 0, of information and skill; a network may be as wrong as it likes
CEILING = 1.5  # of an axis; a magnitude ratio may be a thousand
BLUE, ORANGE, GREY, RED, GREEN, PURPLE = "#3b82f6", "#e8853a", "#8b949e", "#d64545", "#2e9e5b", "#9467bd"
SOLID, DASHED, DOTTED = [1, 0], [6, 4], [2, 3]
STYLES = {  # a line that is in several charts looks the same in all
    "this model": (BLUE, SOLID),
    "validation": (BLUE, SOLID),
    "samples": (BLUE, SOLID),
    "training": (GREEN, SOLID),
    TITLES["do_nothing"]: (GREY, DOTTED),
    TITLES["linear"]: (ORANGE, DASHED),
    "without context": (ORANGE, DASHED),
    "real text": (ORANGE, DASHED),
    "the commonest value": (ORANGE, DASHED),
    "guidance": (BLUE, SOLID),
    "classifier": (PURPLE, SOLID),
    "nothing asked": (GREY, SOLID),
    "real texts": (ORANGE, SOLID),
    "of something else": (RED, SOLID),
    "looked up": (GREEN, SOLID),
    BOUND: (RED, SOLID),
}
OTHERS = ((BLUE, SOLID), (GREEN, SOLID), (PURPLE, SOLID), (ORANGE, SOLID))


def line_chart(lines: Mapping[str, Line], x: str, title: str, ceiling: float | None = None) -> Any:
    """A chart with one line for each name, from its points (x, y); values above `ceiling` leave it at the top."""
    import altair as alt

    points = [(name, a, b) for name, line in lines.items() for a, b in thinned(line) if math.isfinite(b)]
    rows = [{"line": name, "x": a, "y": b} for name, a, b in points]
    styles = [STYLES.get(name, OTHERS[i % len(OTHERS)]) for i, name in enumerate(lines)]
    colours, dashes = ([style[k] for style in styles] for k in (0, 1))
    legend = None if len(lines) == 1 else alt.Legend(title=None, orient="bottom", columns=2, labelLimit=220)
    domain, few = span([b for *_, b in points], ceiling), max(map(len, lines.values()), default=0) <= DOTTED_UP_TO
    return (
        alt.Chart(alt.Data(values=rows))
        .properties(title=alt.Title(title, anchor="start", fontWeight="normal"))
        .mark_line(clip=ceiling is not None, point=few, strokeWidth=2)
        .encode(
            x=alt.X("x:Q", title=x),
            y=alt.Y("y:Q", title=None, scale=alt.Scale(domain=domain, nice=ceiling is None, zero=False)),
            color=alt.Color("line:N", scale=alt.Scale(domain=list(lines), range=colours), legend=legend),
            strokeDash=alt.StrokeDash("line:N", scale=alt.Scale(domain=list(lines), range=dashes), legend=legend),
            tooltip=[alt.Tooltip("line:N", title=title), alt.Tooltip("x:Q", title=x), alt.Tooltip("y:Q", format=".4g")],
        )
    )


def span(values: list[float], ceiling: float | None) -> list[float]:
    """What an axis shows of these values: from 0 to `ceiling` at most, or all of them, but no rounding errors."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if ceiling is not None:
        return [0, min(ceiling, 1.05 * high)]
    room = max(0.0, CLOSEST * max(abs(low), abs(high)) - (high - low)) / 2
    return [low - room, high + room]


def thinned(line: Line) -> Line:
    """At most POINTS of a line, evenly chosen, the last among them."""
    stride = math.ceil(len(line) / POINTS)
    return line[::-1][::stride][::-1] if stride else line


def for_page(chart: Any, alone: bool = False) -> Spec:
    """As wide as its place on a page, or as the page."""
    return json.loads(chart.properties(width="container", height=420 if alone else 230, autosize=fit()).to_json())


def fit() -> Any:
    import altair as alt

    return alt.AutoSizeParams(type="fit", contains="padding")


def save_picture(chart: Any, path: Path) -> None:
    """As a PNG."""
    import vl_convert

    path.write_bytes(vl_convert.vegalite_to_png(chart.to_json(), scale=2))


# ---- what is drawn of a run


def information(figures: dict[str, Any]) -> dict[str, Any]:
    """What the model knows beyond its reference, by log SNR, on the validation split."""
    charts = {}
    for name, title in INFORMATION.items():
        ours = [(level, max(value, -FLOOR)) for level, value in zip(MIDDLES, figures["val"][name]["bins"], strict=True)]
        lines = {"this model": ours, figures["reference"]: [(level, 0.0) for level in (MIDDLES[0], MIDDLES[-1])]}
        if name == "information" and TELLING in figures["val"]:
            told = figures["val"][TELLING]["information"]["bins"]
            lines["of it by what it is told"] = [*zip(MIDDLES, told, strict=True)]
        charts[title] = line_chart(lines, "log SNR", title)
    return charts


def noise_prediction(figures: dict[str, Any]) -> dict[str, Any]:
    """For each quantity, the model and the reference predictors at ten times, on the validation split."""
    t = [(i + 0.5) / NUM_BINS for i in range(NUM_BINS)]
    charts = {}
    for quantity, title in QUANTITIES.items():
        lines = {
            label: list(zip(t, figures["val"][name][quantity]["bins"], strict=True)) for name, label in TITLES.items()
        }
        if figures["bound"] is not None and quantity.startswith("noise"):
            lines[BOUND] = [(moment, figures["bound"]) for moment in t]
        charts[title] = line_chart(lines, "t", title, CEILING)
    return charts


def values_read(figures: dict[str, Any]) -> dict[str, Any]:
    """The share of what is known of the validation split's texts that a classifier reads, at ten times."""
    val, title = figures["val"], "share of what is known that is read"
    t = [(i + 0.5) / NUM_BINS for i in range(NUM_BINS)]
    commonest = [(moment, val["commonest"]) for moment in t]
    lines = {"this model": [*zip(t, val["values_read"]["bins"], strict=True)], "the commonest value": commonest}
    return {title: line_chart(lines, "t", title, 1.0)}


def save_noise_prediction(path: Path, figures: dict[str, Any]) -> None:
    """The same in one picture."""
    import altair as alt

    charts = [chart.properties(width=340, height=200) for chart in noise_prediction(figures).values()]
    save_picture(alt.concat(*charts, columns=2), path)


def frontier(written: dict[str, Any]) -> dict[str, Any]:
    """Judge NLL against entropy: a line for each knob and NFE, and real text's point; none where none was drawn."""
    if not written:
        return {}
    rows, real = written["points"], written["real"]
    lines = {
        f"{knob}, NFE {nfe}": sorted(
            (row["text_entropy"], row["judge_nll"]) for row in rows if (row["nfe"], row["knob"]) == (nfe, knob)
        )
        for nfe, knob in dict.fromkeys((row["nfe"], row["knob"]) for row in rows)
    }
    lines["real text"] = [(real["text_entropy"], real["judge_nll"])]
    title = "judge NLL, nats a token: lower is better"
    return {title: line_chart(lines, "entropy of each text, nats", title)}


def control(written: dict[str, Any]) -> dict[str, Any]:
    """What is said of what is asked for, against the judge NLL: a line over the guidances, one over a classifier's
    scales, and a point for whatever stands beside them.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for name, row in written.items():
        if isinstance(row, dict):
            steered = next((way for way in ("guidance", "classifier") if name.startswith(way)), name)
            points.setdefault(steered, []).append((100 * row["said"], row["judge_nll"]))
    title = "judge NLL, nats a token: lower is better"
    return {title: line_chart(points, "% of what is asked for that is said", title)} if points else {}


CURVES: dict[str, dict[str, dict[str, str]]] = {  # section: chart: {line: metric}
    "Training": {
        "loss": {"training": "train/loss", "validation": "val/loss", "without context": "val/without_context/loss"},
        "information, nats a token": {
            "validation": "val/information",
            "found": "val/information_found",
            "lost": "val/information_lost",
        },
        **{
            f"{title}, under this schedule": {
                "training": f"train/{quantity}",
                "validation": f"val/{quantity}",
                TITLES["do_nothing"]: f"val/do_nothing/{quantity}",
                TITLES["linear"]: f"val/linear/{quantity}",
                BOUND: "val/bound",
            }
            for quantity, title in QUANTITIES.items()
            if quantity.startswith("noise")
        },
        "token accuracy": {"given those before": "val/accuracy", "decoded freely": "val/token_accuracy"},
        "KL, nats a latent": {"training": "train/kl", "validation": "val/kl"},
    },
    "Text quality while training": {
        QUALITY[name]: {"samples": f"quality/{name}", "real text": f"quality/real/{name}"}
        for name in ("judge_nll", "unigram_kl", "distinct_3", "top_share")
    },
    "Embedding health": {
        "RMS, where noise has 1": {"embeddings": "embedding/rms"},
        "margin to the nearest neighbour, in sigma at t = 0.5": {"embeddings": "embedding/margin"},
        "effective rank": {"embeddings": "embedding/effective_rank"},
        "correlation of norm with frequency": {"embeddings": "embedding/norm_frequency"},
    },
    "Speed and optimisation": {
        "steps a second": {"training": "speed/steps_per_second"},
        "tokens a second": {"training": "speed/tokens_per_second"},
        "gradient norm": {"training": "train/gradient_norm"},
        "learning rate": {"training": "train/learning_rate"},
    },
}


EVEN = ("", "UniformTimes", "StratifiedTimes")  # by which training draws times as evaluation does


def curves(record: Record) -> dict[str, dict[str, Any]]:
    """For each section, the charts of what the run logged over its steps."""
    times: dict[str, Any] = record.config.get("time_sampling") or {}
    sections, evenly = {}, times.get("_target_", "").rpartition(".")[2] in EVEN
    for section, charts in CURVES.items():
        drawn = {}
        for title, metrics in (charts if evenly or section != "Training" else apart(charts)).items():
            lines = {name: line for name, metric in metrics.items() if (line := record.curve(metric))}
            if lines:
                drawn[title] = line_chart(lines, "step", title)
        if drawn:
            sections[section] = drawn
    return sections


def apart(charts: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """What training measures in charts of its own, as it does not compare with what evaluation does at all times."""
    return {
        own: {name: metric for name, metric in metrics.items() if metric.startswith("train/") is training}
        for title, metrics in charts.items()
        for own, training in ((title, False), (f"{title}, as training draws times", True))
    }
