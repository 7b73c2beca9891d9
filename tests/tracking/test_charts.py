import math
from itertools import pairwise

import pytest

from diffusion_text.tracking.charts import (
    FLOOR,
    POINTS,
    curves,
    for_page,
    information,
    line_chart,
    noise_prediction,
    thinned,
)
from diffusion_text.tracking.titles import QUANTITIES


def points(chart):
    """The points of a chart by line."""
    found = {}
    for row in for_page(chart)["data"]["values"]:
        found.setdefault(row["line"], []).append((row["x"], row["y"]))
    return found


@pytest.mark.parametrize("length", [0, 1, POINTS - 1, POINTS, POINTS + 1, 10 * POINTS])
def test_a_long_line_is_thinned_evenly_and_keeps_its_end(length):
    line = [(i, i) for i in range(length)]
    kept = thinned(line)
    assert kept[-1:] == line[-1:]
    assert len(kept) <= POINTS
    assert len({b - a for (a, _), (b, _) in pairwise(kept)}) <= 1
    assert len(kept) > POINTS / 2 or kept == line


def test_what_is_not_finite_is_not_drawn():
    chart = line_chart({"one": [(0, 1.0), (1, math.nan), (2, math.inf)], "two": [(0, 2.0)]}, "step", "loss")
    assert points(chart) == {"one": [(0, 1.0)], "two": [(0, 2.0)]}


def test_a_line_looks_the_same_in_every_chart():
    def looks(*names):
        encoding = for_page(line_chart({name: [(0, 1.0)] for name in names}, "step", "loss"))["encoding"]
        return {
            name: (colour, str(dash))
            for name, colour, dash in zip(
                encoding["color"]["scale"]["domain"],
                encoding["color"]["scale"]["range"],
                encoding["strokeDash"]["scale"]["range"],
                strict=True,
            )
        }

    one, other = looks("this model", "best linear predictor"), looks("best linear predictor", "this model", "new")
    assert one.items() <= other.items()
    assert len(set(other.values())) == 3


def test_a_ratio_of_a_thousand_leaves_room_for_the_others():
    spec = for_page(line_chart({"one": [(0, 1000.0), (1, 0.5)]}, "t", "ratio", ceiling=1.5))
    assert spec["encoding"]["y"]["scale"]["domain"] == [0, 1.5]


def test_rounding_errors_are_not_drawn_out_to_a_curve():
    low, high = for_page(line_chart({"one": [(0, 1.0), (1, 1.0 + 1e-7)]}, "step", "RMS"))["encoding"]["y"]["scale"][
        "domain"
    ]
    assert low < 0.9996 < 1.0004 < high
    wide = for_page(line_chart({"one": [(0, 1.0), (1, 3.0)]}, "step", "loss"))["encoding"]["y"]["scale"]
    assert wide["domain"] == [1.0, 3.0]


def test_each_quantity_is_drawn_beside_the_reference_predictors_and_the_bound(finished):
    figures = finished("latent").figures
    charts = noise_prediction(figures)
    for quantity, title in QUANTITIES.items():
        lines = points(charts.pop(title))
        for name, label in (("model", "this model"), ("linear", "best linear predictor")):
            assert [y for _, y in lines[label]] == figures["val"][name][quantity]["bins"]
        assert ("the architecture's bound" in lines) == quantity.startswith("noise")
        assert [x for x, _ in lines["this model"]] == pytest.approx([0.05 + i / 10 for i in range(10)])
    assert not charts


def test_information_is_drawn_against_log_snr_beside_nothing_known(finished):
    figures = finished("embedding").figures
    for name, chart in zip(("information", "skill"), information(figures).values(), strict=True):
        lines = points(chart)
        assert [y for _, y in lines["this model"]] == [max(value, -FLOOR) for value in figures["val"][name]["bins"]]
        assert {y for _, y in lines["what each position says by itself"]} == {0}
        assert [x for x, _ in lines["this model"]] == pytest.approx([-8.1 + 1.8 * i for i in range(10)])


def test_curves_are_what_was_logged(finished):
    record = finished("embedding")
    sections = curves(record)
    assert list(sections) == ["Training", "Text quality while training", "Embedding health", "Speed and optimisation"]
    drawn = points(sections["Training"]["loss"])
    assert drawn["validation"] == record.curve("val/loss")
    assert len(drawn["training"]) == 6
    assert points(sections["Embedding health"]["effective rank"])["embeddings"] == record.curve(
        "embedding/effective_rank"
    )
    assert "Embedding health" not in curves(finished("latent"))


def test_what_is_measured_at_other_times_is_not_drawn_in_one_chart(finished, monkeypatch):
    record = finished("embedding")
    together = curves(record)["Training"]
    monkeypatch.setitem(record.config["time_sampling"], "_target_", "time_sampling.AdaptiveTimes")
    apart = curves(record)["Training"]
    assert set(together) < set(apart)
    assert set(points(apart["loss"])) == {"validation", "without context"}
    assert set(points(apart["loss, as training draws times"])) == {"training"}
