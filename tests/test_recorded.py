import json
import random

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from diffusion_text.errors import UserError
from diffusion_text.recorded import changes, is_recorded, literal, read_record, write_record
from diffusion_text.runs import Run


@pytest.fixture
def run(tmp_path):
    """A function that makes a run with such a record."""

    def make(record):
        (tmp_path / "changes.json").write_text(json.dumps(record), encoding="utf-8")
        return Run(tmp_path)

    return make


def parsed(value):
    override = OverridesParser.create().parse_override(f"text={literal(value)}")
    return OmegaConf.to_container(OmegaConf.create({"text": override.value()}), resolve=True)["text"]


DRAW = random.Random(0)
STRINGS = ["", "a", "it's", "x\\", "${name}", "\\${name}", "a, b (2)", "übung", "lr=0.1", "{a: 1}", "a\nb", "\\'"]
STRINGS += ["".join(DRAW.choice("a'\\${}\" ,=") for _ in range(8)) for _ in range(300)]


def test_no_character_of_a_string_means_anything():
    assert [parsed(text) for text in STRINGS] == STRINGS


@pytest.mark.parametrize(
    "value", [None, True, False, 3, -1, 0.5, 1e-4, [1, "a, b"], {"a": {"b": "it's"}, "c": None}, []]
)
def test_plain_values_come_back(value):
    assert parsed(value) == value


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["schedule=sqrt", "model.width=96", "text_space=bart_vae", "text_space@text_space.backbone=bart_base"],
        ["experiment=diffusion_lm_small", "+trainer.limit_val_batches=2", "callbacks.samples=null"],
        ["model=diffusion_lm", "model.width=${text_space.dim}", "data=text_files", "data.dir='a, b (${x}'"],
        ["experiment=failure/padding", "~callbacks.ema", "optimizer.lr=3e-4", "sampler.clip=null"],
    ],
)
def test_a_record_makes_the_same_configuration_again(composed, run, overrides):
    overrides = [override.replace("(${x}", "(\\${x}") for override in overrides]
    first = composed(*overrides)
    again = composed(*read_record(run(changes(first))))
    one, other = (OmegaConf.to_container(cfg, resolve=True) for cfg in (first, again))
    for cfg in (one, other):
        cfg["callbacks"] = {name: node for name, node in cfg["callbacks"].items() if node is not None}
        del cfg["name"]
    assert one == other


@pytest.mark.parametrize(
    "record",
    [
        {"schedule._target_": "os.mkdir"},
        {"model.x": {"_target_": "os.mkdir", "path": "victim"}},
        {"model.x": [{"_target_": "os.mkdir"}]},
        {"optimizer._partial_": False},
        {"hydra.run.dir": "elsewhere"},
        {"hydra.callbacks.x.y": 1},
        {"hydra/launcher": "joblib"},
        {"schedule": "../../elsewhere"},
        {"schedule": "sqrt,cosine"},
        {"schedule": ["sqrt"]},
        {"schedule": None},
        {"callbacks.best.dirpath": "/etc"},
        {"run_dir": "/etc"},
        {"trainer.default_root_dir": "/etc"},
        {"a=b": 1},
        {"a b": 1},
        {"": 1},
        {"~model": None},
    ],
    ids=str,
)
def test_what_no_run_records_is_refused_by_name(run, record):
    with pytest.raises(UserError, match=r"changes\.json[^\n]*delete it there$"):
        read_record(run(record))


def test_groups_come_before_the_values_that_change_them(run):
    record = {"model.width": 96, "schedule": "sqrt", "seed": 1, "model": "diffusion_lm"}
    assert read_record(run(record)) == ["schedule=sqrt", "model=diffusion_lm", "++model.width=96", "++seed=1"]


def test_a_record_that_is_none_is_one_line(tmp_path, run):
    with pytest.raises(UserError, match=r"is no run: it has no changes\.json"):
        read_record(Run(tmp_path))
    run([])
    with pytest.raises(UserError, match=r"changes\.json is damaged: it holds a list; delete it"):
        read_record(Run(tmp_path))


def test_a_record_is_of_what_was_asked_for_and_of_nothing_else(composed, run):
    kept = run(changes(composed("schedule=sqrt", "report.quality=3")))
    assert is_recorded(composed("schedule=sqrt", "report.quality=3"), kept)
    assert not is_recorded(composed("schedule=sqrt", "report.quality=4"), kept)
    assert not is_recorded(composed("schedule=sqrt", "report.quality=3"), Run(kept.directory / "another"))


def test_what_was_asked_for_is_kept_as_it_was_and_as_it_came_out(composed, tmp_path):
    run = Run(tmp_path)
    cfg = composed("schedule=sqrt", "report.quality=3", f"run_dir={tmp_path}")
    write_record(cfg, run)
    assert OmegaConf.load(run.config) == OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert json.loads(run.changes.read_text(encoding="utf-8")) == changes(cfg)
    assert OmegaConf.load(run.overrides) == ["schedule=sqrt", "report.quality=3", f"run_dir={tmp_path}"]
    assert OmegaConf.load(run.choices).hydra.runtime.choices.schedule == "sqrt"


def test_who_goes_on_asks_for_what_was_asked_for_and_something_more(composed, tmp_path):
    run = Run(tmp_path)
    write_record(composed("schedule=sqrt"), run)
    resumed = composed("schedule=sqrt", f"resume={tmp_path}", "report.quality=3")
    write_record(resumed, run)
    assert OmegaConf.load(run.overrides) == ["schedule=sqrt", "report.quality=3"]
    run.overrides.unlink()
    write_record(resumed, run)
    assert OmegaConf.load(run.overrides) == ["report.quality=3"]


def test_a_run_of_nothing_but_defaults_asked_for_nothing(composed, tmp_path):
    write_record(composed(), Run(tmp_path))
    assert Run(tmp_path).overrides.read_text(encoding="utf-8") == "[]\n"
