"""The notebook goes from its first cell to its last, on a run that is smaller than the one it names."""

import json
import re
from pathlib import Path

import pytest

from diffusion_text.composition import compose_training

NOTEBOOK = Path(__file__).parents[2] / "docs" / "pages" / "notebook.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


@pytest.fixture
def run(composed, local, saved, tmp_path):
    """The directory of an untrained model, as the notebook's command makes it, but smaller."""
    [command] = [line for line in "".join(CELLS[0]["source"]).splitlines() if "train.py" in line]
    asked = [setting for setting in re.findall(r"\S+=\S+", command) if not setting.startswith("hydra.")]
    small = ["text_space.dim=16", "model.width=16", "model.depth=1", "data.length=64", "sampler.num_steps=2"]
    saved(compose_training(composed(*asked, *local, *small, "tokenizer.vocab_size=320", f"run_dir={tmp_path}")))
    return tmp_path


def test_every_cell_runs(run):
    names = {}
    for cell in CODE:
        source = "".join(cell["source"]).replace("../../outputs/notebook", str(run))
        exec(compile(source.replace("num_steps=200", "num_steps=2"), "<cell>", "exec"), names)
    assert names["score"].kind == "bound"
    assert names["model"].session.run.directory == run


def test_what_it_shows_was_shown_in_one_go():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert not [output for cell in CODE for output in cell["outputs"] if output["output_type"] == "error"]
    shown = json.dumps([cell["outputs"] for cell in CODE])
    assert "LogitsPrediction" in shown
    assert "/home" not in shown
