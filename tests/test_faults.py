"""The small version of benchmarks/mutations.py: what is damaged is refused in one line, or is as it was."""

import shutil

import pytest
from mutations import FINE, read_all

from diffusion_text.runs import Run


@pytest.mark.parametrize("kind", ["checkpoints", "runs"])
@pytest.mark.parametrize("route", ["latent", "embedding"])
def test_what_is_damaged_is_refused_in_one_line_or_as_it_was(finished, tmp_path, monkeypatch, route, kind):
    monkeypatch.chdir(tmp_path)
    run = Run(shutil.copytree(finished(route).run.directory, tmp_path / "run"))
    outcomes = read_all(run, kind, many=40, seed=1)
    assert outcomes.keys() <= set(FINE[kind])
    assert sum(outcomes.values()) == 40
    assert outcomes["refused"] >= 5 or kind == "runs", "most damages of a checkpoint are found"
