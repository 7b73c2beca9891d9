import json
import os
import re
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from diffusion_text import entry
from diffusion_text.errors import UserError

ROOT = Path(__file__).parents[1]
WITHOUT_TORCH = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    heavy = {"torch", "lightning", "transformers", "datasets", "wandb"} & sys.modules.keys()
    assert not heavy, heavy
"""


@pytest.fixture
def call(tmp_path):
    """A function that runs a script of the root, or Python, in an empty directory."""

    def call(script, *arguments, prefix=()):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "DIFFUSION_TEXT_CACHE": str(tmp_path / "cache")}
        environment.pop("HYDRA_FULL_ERROR", None)
        if not prefix:
            return forked.call(ROOT / script, *arguments, cwd=tmp_path, env=environment)
        return subprocess.run(
            [sys.executable, *prefix, str(ROOT / script), *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return call


def complaint(result):
    """The one line that a user's mistake is answered with."""
    assert result.returncode == 2, result.stderr
    [line] = result.stderr.splitlines()
    assert "Traceback" not in result.stdout
    return line


# ---- a user's mistake is one line and exit code 2


@pytest.mark.parametrize(
    ("script", "argument", "says"),
    [
        ("train.py", "schdule=sqrt", "schdule: there is no such setting, did you mean schedule?"),
        (
            "train.py",
            "experiment=failure/paddin",
            "experiment=failure/paddin: there is no such option, did you mean failure/padding?",
        ),
        ("train.py", "schedule=sqr", "schedule=sqr: there is no such option, did you mean sqrt?"),
        (
            "train.py",
            "trainer.max_step=3",
            "trainer.max_step: there is no such setting, did you mean trainer.max_steps",
        ),
        ("train.py", "model.widht=full", "model.widht: there is no such setting, did you mean model.width?"),
        (
            "train.py",
            "text_space.tied=true",
            "text_space.tied: text_space=bart_mini has no such setting; text_space=embe",
        ),
        (
            "train.py",
            "tokenizer.vocab_size=400",
            "tokenizer.vocab_size: tokenizer=null has no such setting; tokenizer=bpe",
        ),
        (
            "train.py",
            "schedule=3",
            "schedule=3: there is no such option; there are cosine, learned, linear, log_snr_linear, sqrt, tan",
        ),
        (
            "train.py",
            "callbacks=null",
            "callbacks=null: there is no such option; there are collapse, default, early_stop",
        ),
        ("train.py", "schedule={s:3,t:4}", "schedule={s:3,t:4}: there is no such option; there are cosine"),
        ("train.py", "zzzzzzzz=1", "zzzzzzzz: there is no such setting; python train.py --cfg job shows them all"),
        (
            "train.py",
            "schedule=zzzzzz",
            "there is no such option; there are cosine, learned, linear, log_snr_linear, sqrt, tan",
        ),
        ("train.py", "experiment=bart_wikitext", "did you mean bart_wikitext2?"),
        ("train.py", "data.length", "data.length"),
        ("train.py", "out=somewhere", "out: that is no setting of train.py"),
        ("sample.py", "data.length=8", "data.length: that is no setting of sample.py"),
        ("train.py", "data={length:", "'{length:'"),
        ("train.py", "resume=outputs/nowhere", "resume=outputs/nowhere is no run"),
        ("sample.py", "num_sample=3", "num_sample: there is no such setting, did you mean num_samples?"),
        ("sample.py", "task.how=drop", "task.how: task=generate has no such setting; task=garble has"),
        ("sample.py", "sampler=dpm", "sampler=dpm: there is no such option, did you mean ddpm?"),
    ],
)
def test_a_misspelt_override_is_named_with_the_nearest_that_exists(call, script, argument, says):
    line = complaint(call(script, argument, prefix=("-c", WITHOUT_TORCH)))
    assert line.startswith(f"{script}: ")
    assert says in line


def test_a_launcher_is_not_blamed_for_another_mistake(call):
    told = complaint(call("train.py", "hydra/launcher=joblib", "schedule=sqr"))
    assert told.startswith("train.py: schedule=sqr: there is no such option, did you mean sqrt?")


@pytest.mark.parametrize("choice", ["model=diffusion_lm", "text_space=embedding"])
def test_a_setting_that_the_chosen_option_has_not_is_told_with_those_that_have(call, choice):
    """Also where another choice brings the option."""
    told = complaint(call("train.py", choice, "text_space.heads=3"))
    assert told == "train.py: text_space.heads: text_space=embedding has no such setting; text_space=bart_mini has"


def test_a_run_directory_that_cannot_be_written_is_named(call, tmp_path):
    (tmp_path / "file").touch()
    line = complaint(call("train.py", f"hydra.run.dir={tmp_path}/file/run"))
    assert line.startswith(f"train.py: cannot write {tmp_path}/file")
    assert "hydra.run.dir" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["data=text_files", "data.dir=nowhere"], "data.dir=nowhere does not exist"),
        (["data.length=${nowhere}"], "data.length: Interpolation key 'nowhere' not found"),
        (["model=latent_transformer", "model.depth=2.5"], "model.depth=2.5 is not a whole number of at least 1"),
        (["model=latent_transformer", "model.width=true"], "model.width=true is not a whole number of at least 2"),
    ],
    ids=str,
)
def test_a_mistake_found_inside_the_job_is_one_line_too(call, arguments, says):
    assert complaint(call("train.py", *arguments)) == f"train.py: {says}"


def test_sampling_from_what_is_no_run_is_one_line(call, tmp_path):
    assert "sample.py: run=nowhere is no run" in complaint(call("sample.py", "run=nowhere"))
    assert not list(tmp_path.iterdir()), "looking for a run leaves nothing behind"


# ---- help comes at once


@pytest.mark.parametrize("script", ["train.py", "sample.py"])
def test_help_and_configuration_need_no_torch(call, script, tmp_path):
    shown = call(script, "--help", prefix=("-c", WITHOUT_TORCH))
    assert shown.returncode == 0, shown.stderr
    assert f"python {script} " in shown.stdout
    groups = re.compile(r"[a-z_/]+: ")  # each in a line, however many options it has
    assert max(len(line) for line in shown.stdout.splitlines() if not groups.match(line)) <= 120
    assert "$" not in shown.stdout
    configuration = call(script, "--cfg", "job", prefix=("-c", WITHOUT_TORCH))
    assert configuration.returncode == 0, configuration.stderr
    assert "num_samples: 5" in configuration.stdout
    assert not list(tmp_path.iterdir()), "a look leaves nothing behind"


def test_help_shows_every_group_and_option(call):
    shown = call("train.py", "--help").stdout
    for group in {file.parent for file in (ROOT / "conf").glob("*/*.yaml")}:
        [line] = [line for line in shown.splitlines() if line.strip().startswith(f"{group.name}:")]
        options = set(line.partition(":")[2].replace(",", " ").split())
        assert options == {file.stem for file in group.glob("*.yaml")}


# ---- arguments


@pytest.fixture
def run_of(tmp_path):
    """A function that makes a run directory with such a record."""

    def make(name="run", **changes):
        (tmp_path / name).mkdir(parents=True)
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        (tmp_path / name / "changes.json").write_text(json.dumps(changes), encoding="utf-8")
        return tmp_path / name

    return make


def test_resuming_takes_the_runs_settings_first_and_groups_before_values(run_of):
    run = run_of(trainer__max_steps=20, schedule="sqrt")
    argv = entry.prepared(["train.py", f"resume={run}", "trainer.max_steps=30"])
    assert argv.index("schedule=sqrt") < argv.index("++trainer.max_steps=20") < argv.index("trainer.max_steps=30")
    assert f"hydra.run.dir='{run}'" in argv
    assert argv[0] == "train.py"


@pytest.mark.parametrize("argv", [["train.py", "seed=1"], ["train.py", "resume=null"], ["train.py", "resume="]])
def test_without_resume_nothing_changes(argv):
    assert entry.prepared(argv) == argv


def test_resuming_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^resume=\S+ is no run: [^\n]*runs lie in outputs/DATE/TIME-NAME$"):
        entry.prepared(["train.py", f"resume={tmp_path}"])


@pytest.mark.parametrize("name", ["12-00-00-textunet-sqrt-v", "my run", "a, b (2)", "übung", "lr=0.1", "it's", "${x}"])
def test_a_run_of_any_name_is_gone_on_with_and_a_group_can_be_chosen_anew(call, run_of, name):
    run = run_of(name, sampler="ddim", trainer__max_steps=20, seed=3)
    shown = call("train.py", f"resume={run}", "sampler=ddpm", "trainer.max_steps=30", "--cfg", "job")
    assert shown.returncode == 0, shown.stderr
    assert "DDPMSampler" in shown.stdout
    assert "max_steps: 30" in shown.stdout
    assert "seed: 3" in shown.stdout
    assert yaml.safe_load(shown.stdout)["resume"] in (str(run), str(run).replace("${", "\\${"))


@pytest.mark.parametrize("name", ["a, b (2)", "übung", "lr=0.1", "'quoted'", "~/home"])
@pytest.mark.parametrize("argument", ["run", "data.dir", "hydra.run.dir"])
def test_any_path_is_a_path(name, argument):
    [_, prepared] = entry.prepared(["train.py", f"{argument}={name}"])
    parsed = OverridesParser.create().parse_override(prepared)
    assert parsed.key_or_group == argument
    assert parsed.value() == {"'quoted'": "quoted", "~/home": str(Path("~/home").expanduser())}.get(name, name)


@pytest.mark.parametrize("value", ["Italian", "Fast food", "it's, {all}", "£ 20 - 25", "5", "null", "a=b"])
def test_what_texts_are_to_be_is_free_text(value):
    for argument, name in (("condition.food", "condition.food"), ("condition", "condition.any")):
        [_, prepared] = entry.prepared(["sample.py", f"{argument}={value}"])
        override = OverridesParser.create().parse_override(prepared)
        assert (override.key_or_group, override.value(), override.is_force_add()) == (name, value, True)
    assert entry.prepared(["train.py", "condition=attributes"]) == ["train.py", "condition=attributes"]


@pytest.mark.parametrize("argument", ["data.dir", "text_space.pretrained", "tokenizer.pretrained"])
def test_a_path_that_a_run_keeps_is_the_same_from_everywhere(argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    for given, kept in (("corpus", str(tmp_path / "corpus")), ("facebook/bart-base", "facebook/bart-base")):
        [_, prepared] = entry.prepared(["train.py", f"{argument}={given}"])
        assert OverridesParser.create().parse_override(prepared).value() == kept


def test_a_sweep_over_paths_is_a_sweep():
    assert entry.prepared(["train.py", "-m", "data.dir=a,b"]) == ["train.py", "-m", "data.dir=a,b"]


# ---- telling what was meant


def test_the_settings_are_those_of_both_scripts():
    names = entry.settings()
    assert {"trainer.max_steps", "data.dir", "model.width", "sampler", "outputs", "ckpt"} <= set(names)
    assert not [name for name in names if "_target_" in name]


@pytest.mark.parametrize(("name", "expected"), [("trainer.max_step", ", did you mean trainer.max_steps?"), ("q", "")])
def test_only_a_close_name_is_suggested(name, expected):
    assert entry.nearest(name, ["trainer.max_steps", "seed"]) == expected


def test_a_mistake_in_the_program_keeps_its_traceback(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from diffusion_text.entry import run\nrun(lambda: [][0])\n", encoding="utf-8")
    shown = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert shown.returncode == 1
    assert "IndexError" in shown.stderr


def test_spinning_threads_are_off_before_torch_is_imported(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom diffusion_text.entry import run\nrun(lambda: print(os.environ['OMP_WAIT_POLICY']))\n",
        encoding="utf-8",
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    shown = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout == "passive\n"
