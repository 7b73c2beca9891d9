import logging
import sys

import pytest

from diffusion_text.console import Console
from diffusion_text.progress import counted, counting, remaining, short


def test_every_item_is_counted_and_passed_on():
    done = []
    assert list(counted("abc", done.append)) == ["a", "b", "c"]
    assert done == [1, 1, 1]


@pytest.mark.parametrize("total", [3, None])
def test_where_nobody_watches_nothing_is_shown(capsys, total):
    with counting("Sampling", total) as done:
        done(2)
    assert capsys.readouterr() == ("", "")


def test_where_someone_watches_a_bar_tells_what_is_done(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with counting("Sampling", 8) as done:
        done(2)
        done(3)
    shown = capsys.readouterr().out
    assert "Sampling" in shown
    assert "5/8" in shown


def test_time_left_is_minutes_and_seconds():
    assert remaining(125.4) == "2:05"


def test_metrics_have_the_names_of_tables():
    assert [short(name) for name in ("train/loss", "val/noise_cosine", "train/noise_magnitude")] == [
        "loss", "val cos ε", "mag ε",
    ]  # fmt: skip


def test_lines_go_where_standard_output_goes_now(monkeypatch, capsys):
    handler = Console()
    record = logging.LogRecord("name", logging.INFO, "file", 1, "one", None, None)
    handler.handle(record)
    written = []
    monkeypatch.setattr(sys, "stdout", type("Bar", (), {"write": written.append, "flush": lambda self: None})())
    handler.handle(record)
    monkeypatch.undo()
    assert capsys.readouterr().out == "one\n"
    assert "".join(written) == "one\n"
