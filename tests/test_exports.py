"""A directory that other people made: read as it was written, or refused in a line, and nothing in it runs."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusion_text.checkpoints import load, restored
from diffusion_text.errors import UserError
from diffusion_text.exports import identity, portable, write_export
from diffusion_text.runs import Run, find_checkpoint
from diffusion_text.storage import seal_directory

FILES = (
    "config.json", "manifest.json", "metrics.json", "model.safetensors", "text_space/manifest.json",
    "text_space/tokenizer.json", "text_space/tokenizer_config.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def written(untrained_lm, tmp_path_factory):
    """The export of an untrained Diffusion-LM."""
    directory = tmp_path_factory.mktemp("exports") / "words"
    model, config, step = restored(untrained_lm)
    write_export(directory, config, model.state_dict(), step, model.text_space.save, {"best_step": 0}, "# words\n")
    return directory


@pytest.fixture
def export(written, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(written, tmp_path / "words"))


def sealed(directory):
    """As a stranger would leave it, who changed something and made the checksums right again."""
    for place in (directory / "text_space", directory):
        (place / "manifest.json").unlink()
        seal_directory(place)
    return directory


def opened(directory):
    """Its model."""
    return restored(find_checkpoint(str(directory), None, "outputs"))[0]


def test_what_is_written_comes_back(export, untrained_lm):
    config, weights, step = load(export / "model.safetensors")
    was, were, _ = load(untrained_lm)
    assert step == 0
    assert config | {"identity": None} == portable(was) | {"identity": None}
    assert {*weights} == {*were}
    assert all(torch.equal(weights[name], were[name]) for name in were)
    assert {file.relative_to(export).as_posix() for file in export.rglob("*") if file.is_file()} == {
        *FILES,
        "README.md",
    }


def test_everybody_may_read_what_anybody_may(export):
    assert len({file.stat().st_mode for file in export.glob("*.*")}) == 1


def test_the_card_may_be_edited(export):
    (export / "README.md").write_text("# Other words\n", encoding="utf-8")
    opened(export)
    (export / "README.md").unlink()
    opened(export)


def test_it_says_nothing_of_places():
    config = {
        "data": {"component": "TextFiles", "dir": "/home/me/texts"},
        "tokenizer": {"component": "PretrainedTokenizer", "pretrained": "/home/me/tokens"},
        "text_space": {"backbone": {"pretrained": "/home/me/bart"}, "pretrained_embeddings": "/home/me/rows", "dim": 8},
        "attributes": {"dir": ["north", "south"]},
    }
    told = portable(config)
    assert "/home" not in json.dumps(told)
    assert told["text_space"]["dim"] == 8
    assert told["attributes"] == config["attributes"]
    assert told["text_space"]["backbone"] == {"pretrained": "text_space"}


def test_it_is_known_for_the_run_that_it_is_of():
    """A classifier that reads the run's noise steers the export as well."""
    config = {"text_space": {"pretrained": "/home/me/bart"}, "seed": 3}
    assert identity(portable(config)) == identity(config) != identity(config | {"seed": 4})


# ---- damage


@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_in_a_line(export, name, how):
    content = (export / name).read_bytes()
    if how == "gone":
        (export / name).unlink()
    else:
        middle = len(content) // 2
        changed = content[:middle] if how == "cut" else content[:middle] + b"\xff" + content[middle + 1 :]
        (export / name).write_bytes(changed)
    with pytest.raises(UserError, match=rf"^[^\n]*{name}[^\n]*$|^run=\S+ is no run: [^\n]*$"):
        opened(export)


def test_a_pointer_in_the_place_of_weights_is_damage(export):
    (export / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"model\.safetensors is damaged: its checksum is not that of its content$"):
        opened(export)


# ---- what a stranger may have put there


def changed(export, **values):
    """With some values of its config.json replaced."""
    about = json.loads((export / "config.json").read_text(encoding="utf-8"))
    for name, value in values.items():
        (about if name in about else about["configuration"])[name] = value
    (export / "config.json").write_text(json.dumps(about), encoding="utf-8")
    return sealed(export)


STRANGE = [None, True, -1, 10**30, float("nan"), "", "x", "${oc.env:HOME}", [], {}, [[1]]]


@pytest.mark.parametrize("value", STRANGE, ids=str)
@pytest.mark.parametrize("name", ["configuration", "step", "route", "text_space", "model", "schedule", "prediction"])
def test_a_configuration_that_makes_no_sense_is_a_line(export, name, value):
    changed(export, **{name: value})
    if (name, value) in (("step", True), ("step", -1), ("step", 10**30)):
        opened(export)  # a number, which nothing depends on
        return
    with pytest.raises(UserError, match=r"^[^\n]+$"):
        opened(export)


@pytest.mark.parametrize("content", ["[]", "3", "{", "[" * 5000, '{"format": 2}', "{}", '{"format": 1}'])
def test_a_configuration_of_another_kind_is_a_line(export, content):
    (export / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"^[^\n]+$"):
        opened(sealed(export))


@pytest.mark.parametrize("call", [{"component": "os.mkdir"}, {"_target_": "os.mkdir"}, {"component": "mkdir"}])
@pytest.mark.parametrize("place", ["schedule", "text_space", "condition", "model"])
def test_nothing_that_it_names_is_called(export, tmp_path, place, call):
    with pytest.raises(UserError, match=r"^[^\n]+$"):
        opened(changed(export, **{place: call | {"path": str(tmp_path / "victim")}}))
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("change", ["garbage", "missing", "shape", "dtype", "nan", "more"])
def test_other_weights_are_a_line(export, change):
    file = export / "model.safetensors"
    weights = load_file(file)
    name = "text_space.embedding.rows"
    weights |= {
        "shape": {name: weights[name][1:].clone()},
        "dtype": {name: weights[name].half()},
        "nan": {name: weights[name] * torch.nan},
        "more": {"more": torch.zeros(1)},
    }.get(change, {})
    if change == "missing":
        del weights[name]
    save_file(weights, file)
    if change == "garbage":
        file.write_bytes(b"\x10" * 100)
    with pytest.raises(UserError, match=r"^[^\n]+$"):
        opened(sealed(export))


def test_a_file_that_might_run_is_refused(export):
    (export / "text_space" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is of a kind that no export has: delete it$"):
        opened(sealed(export))


def test_another_format_is_told(export):
    with pytest.raises(UserError, match=r"config\.json has format 2: this version reads 1$"):
        opened(changed(export, format=2))


def test_a_tokenizer_brings_no_code_of_its_own(export, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is asked whether it may run"))
    file = export / "text_space" / "tokenizer_config.json"
    named = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    file.write_text(json.dumps(named), encoding="utf-8")
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'victim')!r}).touch()\nclass Own: pass\n"
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    shutil.copy(tmp_path / "own.py", export / "own.py")
    with pytest.raises(UserError, match=r"^[^\n]+$"):
        opened(sealed(export))
    shutil.copy(tmp_path / "own.py", export / "text_space" / "own.py")
    with pytest.raises(UserError, match=r"own\.py is of a kind that no export has"):
        opened(sealed(export))
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"model": {"type": "BPE"}}', "{"])
def test_a_tokenizer_that_is_none_is_a_line(export, content):
    (export / "text_space" / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"^[^\n]+$"):
        opened(sealed(export))


def test_an_export_is_its_own_run(export):
    assert Run.of_checkpoint(export / "model.safetensors").directory == export.resolve()
