import csv
import io
import json
import shutil
import subprocess
import sys

import pytest
from selenium.webdriver.common.by import By

from diffusion_text.errors import UserError
from diffusion_text.tracking import compare
from diffusion_text.tracking.comparison import Comparison, find_runs
from diffusion_text.tracking.comparison_charts import positions

NONE = {}  # final figures of a run that came to none


def make_run(directory, overrides, figures=NONE, error=None):
    """A run directory with what a comparison reads."""
    (directory / ".hydra").mkdir(parents=True)
    lines = [f"{name}={value}" for name, value in overrides.items()]
    (directory / ".hydra" / "overrides.yaml").write_text(json.dumps(lines), encoding="utf-8")
    choices = {"hydra": {"runtime": {"choices": {"schedule": "sqrt", "tokenizer": None}}}}
    (directory / ".hydra" / "hydra.yaml").write_text(json.dumps(choices), encoding="utf-8")
    (directory / "config.yaml").write_text(json.dumps({"data": {"length": 64, "dir": None}}), encoding="utf-8")
    if figures is not NONE:
        cosine, loss = figures
        model = {"noise_cosine": {"overall": cosine, "bins": [cosine] * 10}}
        (directory / "metrics.json").write_text(
            json.dumps(
                {
                    "val": {"loss": loss, "model": model, "information": model["noise_cosine"]},
                    "parameters": 1234567,
                    "seconds": 90,
                }
            ),
            encoding="utf-8",
        )
        (directory / "report.html").write_text("<!doctype html><title>report</title>", encoding="utf-8")
    if error:
        (directory / "error.txt").write_text(error + "\n", encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Twelve jobs: four learning rates by three others; two failed, one was killed, one diverged."""
    place = tmp_path_factory.mktemp("day") / "a sweep"
    jobs = [
        {"schedule": schedule, "prediction": prediction, "optimizer.lr": lr, "seed": "3"}
        for schedule, prediction in (("sqrt", "v"), ("cosine", "v"), ("cosine", "x0"))
        for lr in ("1e-4", "1e-3", "0.00316227766017", "1e-2")
    ]
    for i, job in enumerate(jobs):
        ended = {
            2: {"error": "UserError: a <b> wrong value: use another"},
            5: {},
            8: {"figures": (float("nan"), float("nan"))},
            10: {"figures": (0.99, 0.0), "error": "KeyError: 'again'"},  # what an earlier attempt left counts no more
        }.get(i, {"figures": (0.5 + i / 100, 1.0 - i / 100)})
        make_run(place / f"{i}-textunet", job, **ended)
    return place


@pytest.fixture
def compared(sweep, tmp_path, monkeypatch, capsys):
    """A function that calls the command line in an empty directory and returns what it printed."""

    def compared(*arguments, width=120):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", str(width))
        compare.main([*map(str, arguments)])
        return capsys.readouterr().out

    return compared


def cells(shown):
    """The rows of a printed table."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line.startswith("│")]


# ---- order and content


def test_the_best_run_is_first_and_what_has_no_figure_last(compared, sweep):
    rows = cells(compared(sweep))
    assert [row[0] for row in rows] == ["11", "9", "7", "6", "4", "3", "1", "0", "8", "5", "2", "10"]
    assert rows[0][:5] == ["11", "cosine", "x0", "1e-2", "0.61"]
    assert [row[4] for row in rows[-4:]] == ["nan", "unfinished", "failed", "failed"]


def test_the_best_is_the_lowest_where_one_minimises(compared, sweep):
    rows = cells(compared(sweep, "metric=val/noise_cosine", "direction=minimize"))
    assert [row[0] for row in rows[:3]] == ["0", "1", "3"]


def test_only_what_varies_is_a_column_and_long_numbers_are_short(compared, sweep):
    shown = compared(sweep)
    assert "seed" not in shown
    assert {"0.003162"} == {row[3] for row in cells(shown) if row[0] == "6"}


def test_why_a_run_failed_is_said_below(compared, sweep):
    lines = compared(sweep).splitlines()
    assert "2 failed: a <b> wrong value: use another" in lines
    assert "10 failed: KeyError: 'again'" in lines


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_its_terminal_and_keeps_settings_and_outcome_whole(compared, sweep, width):
    shown = compared(sweep, width=width)
    table = [line for line in shown.splitlines() if line[:1] in "┏┃┡│└"]
    assert max(map(len, table)) <= width
    assert "…" not in shown
    assert ("minutes" in shown) == (width == 120)


def test_the_csv_has_every_figure_of_every_run_in_the_tables_order(compared, sweep, tmp_path):
    compared(sweep)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "comparison.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 12
    assert rows[0].items() >= {
        "run": "11-textunet", "status": "finished", "error": "", "optimizer.lr": "1e-2", "seed": "3",
        "val/information": "0.61", "val/information/9": "0.61", "parameters": "1234567.0",
    }.items()  # fmt: skip
    [failed] = [row for row in rows if row["run"] == "2-textunet"]
    assert failed["status"] == "failed"
    assert failed["error"] == "UserError: a <b> wrong value: use another"
    assert failed["optimizer.lr"] == "0.00316227766017"
    assert failed["val/loss"] == ""


def test_runs_from_anywhere_are_told_apart_by_what_each_took(tmp_path):
    usual = make_run(tmp_path / "one", {"resume": "elsewhere"}, (0.5, 1.0))
    other = make_run(tmp_path / "day" / "two", {"schedule": "cosine", "data.length": "32"}, (0.6, 1.0))
    comparison = Comparison(find_runs([usual, tmp_path / "day", other]), "val/noise_cosine", "maximize")
    assert [record.name for record in comparison.records] == ["two", "one"]
    assert comparison.varied == {"schedule": ["cosine", "sqrt"], "data.length": ["32", "64"]}


# ---- the page


@pytest.fixture
def opened(compared, sweep, tmp_path, browser):
    """The sweep's page in a browser."""
    compared(sweep, "out=the page")
    browser.get((tmp_path / "the page.html").as_uri())
    return browser


def test_every_chart_of_the_page_is_drawn_without_a_complaint(opened):
    charts = opened.find_elements(By.CSS_SELECTOR, "[data-chart]")
    assert [chart.get_attribute("data-chart") for chart in charts] == [
        "setting schedule", "setting prediction", "setting optimizer.lr", "overview",
    ]  # fmt: skip
    assert all(chart.find_elements(By.CSS_SELECTOR, "svg path") for chart in charts)
    assert opened.get_log("browser") == []


def test_the_page_has_the_sorted_table_and_why_runs_failed(opened):
    names = [cell.text for cell in opened.find_elements(By.CSS_SELECTOR, "tbody td:first-child")]
    assert names[:2] == ["11-textunet", "9-textunet"]
    assert names[-1] == "10-textunet"
    errors = [element.text for element in opened.find_elements(By.CSS_SELECTOR, "dd.fail")]
    assert errors == ["a <b> wrong value: use another", "KeyError: 'again'"]


def test_the_pages_links_lead_to_reports_and_figures(opened, sweep, tmp_path):
    links = {link.text: link.get_attribute("href") for link in opened.find_elements(By.CSS_SELECTOR, "main a")}
    assert links["11-textunet"] == (sweep / "11-textunet" / "report.html").as_uri()
    assert links["the page.csv"] == (tmp_path / "the page.csv").as_uri()
    assert "5-textunet" not in links, "it has no report"


def test_a_page_moved_with_its_runs_still_finds_them(compared, sweep, tmp_path):
    place = shutil.copytree(sweep, tmp_path / "sweep")
    compared(place, f"out={place}/all")
    assert 'href="11-textunet/report.html"' in (place / "all.html").read_text(encoding="utf-8")


def test_values_stand_evenly_and_numbers_in_order_on_an_axis():
    assert positions(["sqrt", "cosine", "sqrt", "linear"]) == [1, 0.5, 1, 0]
    assert positions(["1e-2", "1e-4", "1e-3"]) == [1, 0, 0.5]
    assert positions([2.0, 4.0, 3.0]) == [0, 1, 0.5]
    assert positions([2.0, 2.0]) == [0.5, 0.5]


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere is no run and there is none below it; runs lie in outputs/DATE/TIME-NAME"),
        (["metric=val/nose_cosine"], "no run has a figure val/nose_cosine; the nearest are val/noise_cosine"),
        (["metric=zzz"], "no run has a figure zzz; there are parameters, seconds, val/information, val/loss"),
        (["direction=up"], "direction=up is neither maximize nor minimize"),
        (["metrc=val/loss"], "metrc: there is no such argument, did you mean metric?"),
        (["out=nowhere/all"], "cannot write nowhere/all.csv: "),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(compared, sweep, tmp_path, arguments, says):
    with pytest.raises(UserError) as refusal:
        compared(sweep, *arguments)
    assert str(refusal.value).startswith(says)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["notes.csv", "notes.html"])
def test_a_file_of_another_kind_is_not_overwritten(compared, sweep, tmp_path, name):
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=rf"^{name} is something else [^\n]*out=NAME$"):
        compared(sweep, "out=notes")
    assert [(file.name, file.read_text(encoding="utf-8")) for file in tmp_path.iterdir()] == [(name, "mine")]


def test_an_earlier_comparison_is_replaced(compared, sweep, tmp_path):
    compared(sweep / "0-textunet", sweep / "1-textunet")
    compared(sweep)
    assert "11-textunet" in (tmp_path / "comparison.html").read_text(encoding="utf-8")


def test_help_teaches():
    command = [sys.executable, "-m", "diffusion_text.tracking.compare", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "python -m diffusion_text.tracking.compare outputs/DATE/RUN" in shown
    assert "metric=" in shown


def test_failures_alone_are_shown_whatever_the_figure(compared, sweep):
    shown = compared(sweep / "2-textunet", sweep / "5-textunet", "metric=quality/judge_nll")
    assert [row[-1] for row in cells(shown)] == ["unfinished", "failed"]
