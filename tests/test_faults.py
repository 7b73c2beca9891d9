"""The small versions of benchmarks/mutations.py (what is damaged is refused in one line, or is as it was), kills.py
and io_faults.py (whatever a training dies of, the same command ends as if it had not).
"""

import shutil
from pathlib import Path

import forked
import pytest

from benchmarks.mutations import FINE, exported, read_all
from diffusion_text.runs import Run

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("kind", FINE)
@pytest.mark.parametrize("route", ["latent", "embedding"])
def test_what_is_damaged_is_refused_in_one_line_or_as_it_was(finished, tmp_path, monkeypatch, route, kind):
    monkeypatch.chdir(tmp_path)
    run = Run(shutil.copytree(finished(route).run.directory, tmp_path / "run"))
    outcomes = read_all(exported(run) if kind == "exports" else run, kind, many=40, seed=1)
    assert outcomes.keys() <= set(FINE[kind])
    assert sum(outcomes.values()) == 40
    assert outcomes["refused"] >= 5 or kind == "runs", "most damages are found"


@pytest.mark.parametrize(
    ("benchmark", "brief", "of_each_route"), [("kills", "trials=1", 1), ("io_faults", "every=400", 3)]
)
def test_whatever_a_training_dies_of_the_same_command_ends_as_if_it_had_not(tmp_path, benchmark, brief, of_each_route):
    ended = forked.call(BENCHMARKS / f"{benchmark}.py", brief, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout
    results = [line for line in ended.stdout.splitlines() if not line.startswith(" ")]
    assert [line.partition(",")[0].partition(":")[0] for line in results] == [
        route for route in ("latent", "embedding") for _ in range(of_each_route)
    ]
