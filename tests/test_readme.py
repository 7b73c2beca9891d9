"""The README's commands do what they say: each is run as written, made small by what is appended."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHORT = [
    "report.quality=4",
    "report.garbled=2",
    "report.trace_steps=2",
    "preflight=warn",
    "text_space.dim=16",
    "trainer.max_steps=2",
    "sampler.num_steps=2",
    "num_samples=1",
]
BART = ["text_space.layers=1", "text_space.heads=2", "text_space.vocab_size=320", "text_space.num_steps=2"]


def smaller(script, arguments, corpus):
    """Overrides that make a command take seconds."""
    if script == "sample.py":
        return ["sampler.num_steps=3"]
    words = ["data=text_files", f"data.dir={corpus}", "data.length=8"]
    return [*SHORT, *words, *([] if "diffusion_lm" in " ".join(arguments) else BART)]


def commands():
    """Every python command in the README's code blocks and transcripts, without its comment."""
    blocks = re.findall(r"```(?:bash)?\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [match.group(1) for line in lines if (match := re.search(r"(?:^|\$ |&& )(python \S+\.py.*)$", line))]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty directory to work in, with a cache of its own."""
    return tmp_path_factory.mktemp("readme")


def test_the_readme_has_commands():
    assert len(commands()) >= 5


@pytest.mark.parametrize("command", commands())
def test_command(place, words_file, command):
    _, script, *arguments = shlex.split(command.replace("PATH", str(words_file)))
    result = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments, *smaller(script, arguments, words_file)],
        cwd=place, env=os.environ | {"DIFFUSION_TEXT_CACHE": str(place / "cache")},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_setup_and_test_commands_are_what_ci_runs():
    readme, ci = ((ROOT / file).read_text(encoding="utf-8") for file in ("README.md", ".ci/run"))
    assert 'pip install -e ".[dev]" && pytest' in readme
    assert [line for line in ci.splitlines() if line.startswith("pip install") and '-e ".[dev]"' in line]
    assert "\npytest\n" in ci
