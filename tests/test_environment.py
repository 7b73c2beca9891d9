import subprocess

import pytest
import torch

from diffusion_text import environment as module
from diffusion_text.environment import environment


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one commit in the place of ours."""
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "file").write_text("one")
    who = ["-c", "user.name=a", "-c", "user.email=b"]
    for command in (["init", "-q"], ["add", "file"], [*who, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_the_revision_and_whether_it_was_changed_since(checkout):
    clean = environment()
    assert len(clean["revision"]) == 40
    assert clean["changed"] is False
    (checkout / "file").write_text("two")
    assert environment() == clean | {"changed": True}


def test_without_a_checkout_there_is_no_revision(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROOT", tmp_path)
    found = environment()
    assert (found["revision"], found["changed"]) == (None, False)
    assert found["torch"] == torch.__version__
