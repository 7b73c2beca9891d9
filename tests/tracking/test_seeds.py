import json

import pytest

from diffusion_text.runs import Run
from diffusion_text.tracking.compare import print_table
from diffusion_text.tracking.comparison import Comparison
from diffusion_text.tracking.records import Record
from diffusion_text.tracking.seeds import groups


@pytest.fixture
def compared(tmp_path):
    """A function from rows of (settings, figure) to their comparison."""

    def compared(*rows, direction="maximize"):
        for i, (settings, value) in enumerate(rows):
            directory = tmp_path / str(i)
            (directory / ".hydra").mkdir(parents=True)
            lines = [f"{name}={setting}" for name, setting in settings.items()]
            (directory / ".hydra" / "overrides.yaml").write_text(json.dumps(lines), encoding="utf-8")
            figures = {"val": {"information": {"overall": value}}} if value is not None else {}
            (directory / "metrics.json").write_text(json.dumps(figures), encoding="utf-8")
        records = [Record(Run(tmp_path / str(i))) for i in range(len(rows))]
        return Comparison(records, "val/information", direction)

    return compared


def seeds(schedule, *values):
    return [({"schedule": schedule, "seed": seed}, value) for seed, value in enumerate(values)]


def test_runs_that_differ_in_the_seed_alone_are_one_group_the_best_first(compared):
    low, high = groups(compared(*seeds("sqrt", 1.0, 2.0, 3.0), *seeds("cosine", 9.0, 11.0)))[::-1]
    assert high.settings == {"schedule": "cosine"}
    assert (high.mean, high.runs, high.level) == (10.0, 2, True)
    assert high.spread == pytest.approx(2**0.5)
    assert (low.mean, low.spread, low.runs, low.level) == (2.0, 1.0, 3, False)
    assert low.figure == "2 ± 1"


def test_a_difference_below_the_spread_is_none(compared):
    first, second, third = groups(compared(*seeds("a", 9, 11), *seeds("b", 8.9, 9.1), *seeds("c", 7.9, 8.1)))
    assert [first.level, second.level, third.level] == [True, True, False]


def test_the_lowest_is_best_where_one_minimises(compared):
    assert groups(compared(*seeds("a", 2, 3), *seeds("b", 1, 2), direction="minimize"))[0].settings == {"schedule": "b"}


def test_runs_of_one_seed_each_are_not_grouped(compared):
    assert groups(compared(({"schedule": "a"}, 1.0), ({"schedule": "b"}, 2.0))) == []


def test_what_has_no_figure_is_in_no_group(compared):
    [group] = groups(compared(*seeds("a", 1.0, 2.0, float("nan"), None)))
    assert group.runs == 2


def test_the_groups_are_shown_below_the_runs(compared, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    print_table(compared(*seeds("a", 9, 11), *seeds("b", 8.9, 9.1), *seeds("c", 1.0, 1.1)))
    shown = capsys.readouterr().out
    [row] = [line for line in shown.splitlines() if "9 ± 0.14" in line]
    assert "no different from the best" in row
    assert shown.count("no different from the best") == 1
