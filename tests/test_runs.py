import os
from pathlib import Path

import pytest

from diffusion_text.errors import UserError
from diffusion_text.runs import Run, find_checkpoint


def checkpoint(run, name="best.ckpt", age=0):
    """A file where a run's checkpoint lies, written `age` seconds ago."""
    file = run / "checkpoints" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.utime(file, (file.stat().st_mtime - age,) * 2)
    return file


def test_the_newest_run_is_the_one_trained_last(tmp_path):
    checkpoint(tmp_path / "2026-01-02" / "08-00-00-new-name", age=50)
    last_trained = checkpoint(tmp_path / "2026-01-01" / "09-00-00-old-name", age=10)
    checkpoint(tmp_path / "2026-01-03" / "sweep" / "0-name", age=90)
    assert find_checkpoint(None, None, str(tmp_path)) == last_trained


def test_a_runs_best_checkpoint_comes_before_its_last(tmp_path):
    last = checkpoint(tmp_path, "last.ckpt")
    assert find_checkpoint(str(tmp_path), None, "unused") == last
    best = checkpoint(tmp_path, age=100)
    assert find_checkpoint(str(tmp_path), None, "unused") == best


def test_a_checkpoint_named_outright_is_taken(tmp_path):
    checkpoint(tmp_path)
    last = checkpoint(tmp_path, "last.ckpt")
    assert find_checkpoint(None, str(last), str(tmp_path)) == last


def test_a_checkpoint_knows_its_run(tmp_path):
    assert Run.of_checkpoint(checkpoint(tmp_path)).directory == tmp_path.resolve()


@pytest.mark.parametrize(
    ("run", "ckpt", "says"),
    [
        (None, None, r"no run below \S+: train one with python train\.py, or name it with run=DIR"),
        ("nowhere", None, r"run=nowhere is no run: [^\n]*runs lie in \S+/DATE/TIME-NAME"),
        (None, "none.ckpt", r"ckpt=none\.ckpt is no file; a run's checkpoints lie in RUN/checkpoints"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(tmp_path, run, ckpt, says):
    with pytest.raises(UserError, match=rf"^[^\n]*{says}$"):
        find_checkpoint(run, ckpt, str(tmp_path))


def test_a_directory_without_checkpoints_is_no_run(tmp_path: Path):
    with pytest.raises(UserError, match="is no run"):
        find_checkpoint(str(tmp_path), None, "outputs")
