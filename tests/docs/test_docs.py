"""Pages and README are followed to the letter, in a copy of the repository; what is not run is named, and why."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import restaurants
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
CONF, PAGES = ROOT / "conf", ROOT / "docs" / "pages"
FOLLOWED = (
    "quickstart", "few_steps", "sharing", "concepts", "adding", "sweeps", "cluster", "scaling", "report",
    "troubleshooting", "data", "control", "tried", "index", "README",
)  # fmt: skip
MEASURED = (  # written by benchmarks/
    "schedules", "ruler", "latent_route", "latent_flow", "embedding_route", "race", "few_steps_measured",
)  # fmt: skip
OUTPUT = ("text", "")  # what is shown and not typed

COMPOSED = {  # not run, but its configuration is composed
    "experiment=failure/": "tests/failures trains every pair",
    "experiment=fix/": "tests/failures trains every pair",
    "srun ": "needs SLURM",
    "hydra/launcher=slurm": "needs SLURM",
    "trainer=(ddp|fsdp)": "starts a process for each GPU",
    "hydra/launcher=joblib": "is a sweep of many trainings",
    "hydra/sweeper=optuna": "is a sweep of many trainings",
    "sweep=": "is a sweep of many trainings",
    "logger=": "tests/tracking covers them",
    "report.quality": "the first run writes a report, of the usual size",
}
NOT_RUN = {
    "pip install": ".ci/run does it",
    "^pytest$": "this is it",
    "mkdocs build": "tests/docs/test_site.py does it",
    "sbatch ": "needs SLURM",
    "^export ": "sets an environment variable of a job on SLURM",
    "wandb sync": "needs an account",
    "run=user/name": "needs the hub; tests/test_hub.py has one",
}

TINY = [
    "preflight=warn", "trainer=cpu", "precision=fp32", "trainer.max_steps=2", "sampler.num_steps=2", "num_samples=1",
    "data.length=16", "data.eval_texts=16", "text_space.dim=16",
]  # fmt: skip
UNREPORTED = ["report.quality=0", "report.frontier=0", "report.garbled=0", "report.trace_steps=0", "report.control=0"]
TINY_BART = ["layers=1", "heads=2", "vocab_size=320", "max_steps=2"]
TINY_TRANSFORMER = ["model.width=16", "model.depth=1", "model.heads=2"]


class Block(NamedTuple):
    """A code block of a page."""

    page: str
    language: str
    title: str
    code: str

    @property
    def typed(self):
        """What a reader types: the commands, or Python that belongs to no file."""
        if self.language == "python" and not self.title:
            return [self.code]
        lines = self.code.splitlines()
        if self.language != "bash":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        commands = [command.partition("  #")[0].strip() for line in lines for command in line.split(" && ")]
        return [command for command in commands if command and not command.startswith("#")]


def text_of(page):
    return ((ROOT if page == "README" else PAGES) / f"{page}.md").read_text(encoding="utf-8")


def blocks():
    """Every code block of the pages, in order."""
    fence = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [Block(page, *match.groups(default="")) for page in FOLLOWED for match in fence.finditer(text_of(page))]


def typed():
    """All that a reader types, once."""
    return list(dict.fromkeys(line for block in blocks() for line in block.typed))


def listed(line, entries):
    return [entry for entry in entries if re.search(entry, line)]


def followed():
    return [line for line in typed() if not listed(line, [*COMPOSED, *NOT_RUN])]


def composed_only():
    return [line for line in typed() if listed(line, COMPOSED)]


def new_options():
    """The options of groups that the pages add: (group, option)."""
    titles = [Path(block.title) for block in blocks() if block.title.startswith("conf/")]
    return [(file.parent.relative_to("conf").as_posix(), file.stem) for file in titles]


# ---- nothing is skipped silently


def test_every_page_is_followed_or_measured():
    assert {file.stem for file in PAGES.glob("*.md")} | {"README"} == {*FOLLOWED, *MEASURED}


def test_every_block_is_of_a_known_kind():
    assert {block.language for block in blocks()} <= {"bash", "python", "yaml", *OUTPUT}
    assert not [block for block in blocks() if block.language == "yaml" and not block.title], "it is in no file"


def test_what_is_not_run_is_on_the_pages():
    for entries in (COMPOSED, NOT_RUN):
        assert not [entry for entry in entries if not any(listed(line, [entry]) for line in typed())]


def test_both_routes_are_trained():
    assert any("train.py model=textunet" in command for command in followed())
    assert any("train.py experiment=diffusion_lm_small" in command for command in followed())


def test_setup_and_test_commands_are_what_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'pip install -e ".[dev]" && pytest' in text_of("README")
    assert [line for line in ci.splitlines() if line.startswith("pip install") and '-e ".[dev]"' in line]
    assert "\npytest\n" in ci


# ---- the pages are followed


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository, in which each block with a title is a file, or the end of one."""
    directory = tmp_path_factory.mktemp("docs") / "copy"
    shutil.copytree(
        ROOT, directory, ignore=shutil.ignore_patterns(".*", "outputs", "build", "*.egg-info", "__pycache__")
    )
    restaurants.write(directory / "e2e")
    restaurants.write_pairs(directory / "pairs.jsonl")
    for block in blocks():
        if block.title:
            file = directory / block.title
            before = file.read_text(encoding="utf-8") + "\n\n" if file.exists() else ""
            file.write_text(before + block.code, encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def results(copy):
    """Exit code and output of all that is run, and of --help."""
    lines = followed()
    instructions = [instruction(line) for line in lines] + [["train.py", "--help"]]
    variables = {"PYTHONPATH": str(copy), "DIFFUSION_TEXT_CACHE": str(copy / "outputs" / "cache")}
    result = subprocess.run(
        [sys.executable, "tests/docs/follow.py"], input=json.dumps(instructions),
        cwd=copy, env=os.environ | variables, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return dict(zip([*lines, "--help"], json.loads(result.stdout), strict=True))


def instruction(line):
    """What follow.py is to do: a command with what makes it small, or Python."""
    if "\n" in line:
        return ["exec", line]
    words = shlex.split(line.replace("PATH", "README.md").replace("=FILE", "=pairs.jsonl"), comments=True)
    words = words[1:] if words[0] == "python" else words
    shown = [command for block in blocks() if block.page in ("README", "quickstart") for command in block.typed]
    return [*words, *smaller(*words, reported=line in shown)]


def smaller(program, *arguments, reported):
    """Overrides under which a command takes a second or two; with a report where there is one to be read."""
    text = " ".join(arguments)
    if program == "pytest":  # inside follow.py, which has imported what pytest would rewrite
        return ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    if program == "-m" or "--cfg" in text:
        return []
    if program == "sample.py":
        few = {
            "frontier": ["task.nfe=[2]"],
            "control": ["task.each=1", "task.guidance=[2]", "task.scale=[1]"],
            "seq2seq": ["task.candidates=2"],
        }
        own = [override for task, overrides in few.items() if f"task={task}" in text for override in overrides]
        return ["num_samples=2", "sampler.num_steps=2", *own]
    if "model=classifier" in text:
        return ["preflight=warn", "trainer=cpu", "trainer.max_steps=2", *TINY_TRANSFORMER, "model.local_heads=null"]
    if "experiment=distil" in text:
        few = ["trainer.max_steps=2", "route.steps=2", "route.teacher_steps=4", "num_samples=1"]
        return ["preflight=warn", "trainer=cpu", *few, *UNREPORTED]
    if "resume=" in text:
        return ["trainer.max_steps=4"]
    if "experiment=restore" in text:
        return [*TINY, *TINY_TRANSFORMER, *UNREPORTED, "data=text_files", "data.dir=README.md"]
    if "data=pairs" in text:
        return [*TINY, *TINY_TRANSFORMER, *UNREPORTED]
    if "e2e_control" in text:
        return [*TINY, *TINY_TRANSFORMER, *UNREPORTED, "data.dir=e2e", "tokenizer.vocab_size=320", "data.length=48"]
    data = [] if "data=" in text and "python_docs" not in text else ["data=text_files"]
    data += [] if "data=python_source" in text else ["data.dir=README.md"]
    data += ["data.size=20000"] if "data=markov" in text else []
    learned = any(name in text for name in ("diffusion_lm", "embedding_flow", "autoregressive", "masked_diffusion"))
    own = [] if learned else [f"text_space.{setting}" for setting in TINY_BART]
    own += TINY_TRANSFORMER if learned or any(name in text for name in ("latent_flow", "latent_diffusion")) else []
    tiny = TINY[1:] if learned and "preflight=" in text else TINY
    return [*tiny, *data, *own, *([] if reported else UNREPORTED)]


@pytest.mark.parametrize("line", followed())
def test_following(results, line):
    code, output = results[line]
    assert code == 0, output
    assert output.strip()


@pytest.mark.parametrize(("group", "option"), new_options())
def test_a_new_option_is_offered_tested_and_trained(results, copy, group, option):
    assert re.search(rf"^{group}: .*\b{option}\b", results["--help"][1], re.MULTILINE)
    if group != "experiment":
        assert "1 passed" in results[f"pytest -n 0 tests/test_composition.py -k {group}/{option}"][1]
    runs = [OmegaConf.load(file) for file in copy.glob("outputs/*/*/config.yaml")]
    target = OmegaConf.load(copy / "conf" / group / f"{option}.yaml").get("_target_")
    used = [OmegaConf.select(run, f"{group}._target_" if target else "name") for run in runs]
    assert (target or option) in used


def configured(cfg, name):
    """What the last composed job has for a group or a setting."""
    job = HydraConfig.get()
    if name in job.runtime.choices:
        return job.runtime.choices[name]
    return OmegaConf.select(job if name.startswith("hydra.") else cfg, name.removeprefix("hydra."))


@pytest.mark.parametrize("command", composed_only())
def test_what_cannot_be_run_is_composed(composed, command):
    given = OverridesParser.create().parse_overrides([word for word in shlex.split(command) if "=" in word])
    plain = [override for override in given if not override.is_sweep_override()]
    cfg = composed(*(override.input_line for override in plain))
    for override in plain:
        assert str(configured(cfg, override.get_key_element().lstrip("+~"))) == str(override.value())
    for override in given:
        if override.is_choice_sweep():
            for choice in override.sweep_string_iterator():
                cfg = composed(f"{override.key_or_group}={choice}")
                assert str(configured(cfg, override.key_or_group)) == choice
        elif override.is_sweep_override():
            assert configured(cfg, override.key_or_group) is not None
