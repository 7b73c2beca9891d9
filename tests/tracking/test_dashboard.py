import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_text.errors import UserError
from diffusion_text.tracking import dashboard

ROOT = Path(__file__).parents[2]


def call(*arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "diffusion_text.tracking.dashboard", *arguments],
        cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_it_has_its_sections_and_its_place(tmp_path):
    file = tmp_path / "view.json"
    shown = call("entity=somebody", "project=texts", "dry_run=true", f"file={file}")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"{file}\n", "")
    view = json.loads(file.read_text(encoding="utf-8"))
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == [
        "Information", "Noise prediction, under each run's schedule", "Text quality and collapse", "Embedding health",
        "Samples", "Speed",
    ]  # fmt: skip
    assert (view["entity"], view["project"]) == ("somebody", "texts")
    *predictors, bound = sections[1]["panels"][0]["config"]["metrics"]
    assert predictors == [f"{name}/noise_cosine" for name in ("train", "val", "val/do_nothing", "val/linear")]
    assert bound == "val/bound"
    assert sections[0]["panels"][0]["config"]["metrics"] == ["val/information"]


def test_the_dashboards_help_teaches():
    shown = call("--help")
    assert shown.returncode == 0
    for name in dashboard.DEFAULTS:
        assert f"{name}=" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["entty=me"], "entty: there is no such argument, did you mean entity?; there are entity, "),
        (["outputs"], "outputs: arguments are NAME=VALUE"),
        ([], "entity=ENTITY is your W&B user or team"),
        (["entity=me"], "W&B: No API key configured."),
    ],
)
def test_a_mistake_with_the_dashboard_is_one_line(arguments, says, tmp_path):
    shown = call(*arguments, WANDB_API_KEY="", HOME=str(tmp_path))
    assert shown.returncode == 2
    assert says in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(UserError, match=r'^dashboards need wandb-workspaces: pip install -e "\.\[dashboard\]"$'):
        dashboard.main(["entity=me"])
