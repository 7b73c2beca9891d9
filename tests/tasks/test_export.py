"""Models of every kind leave their run and write the same texts elsewhere; every task works on what they left."""

import re
import shutil
from pathlib import Path

import pytest

from diffusion_text.composition import compose_task, compose_training
from diffusion_text.errors import UserError
from diffusion_text.recorded import read_record
from diffusion_text.runs import Run

LEARNED = ["tokenizer=characters", "text_space.dim=16", "model.width=16", "model.depth=1", "model.heads=2"]
KINDS = {
    "diffusion_lm": ["model=diffusion_lm", *LEARNED],
    "learned": ["model=diffusion_lm", "prediction=logits", "loss=cross_entropy", "schedule=learned", *LEARNED],
    "pretrained_tokenizer": ["model=diffusion_lm", "tokenizer=pretrained", "tokenizer.pretrained=BART", *LEARNED[1:]],
    "masked_diffusion": ["model=masked_diffusion", *LEARNED],
    "autoregressive": ["model=autoregressive", *LEARNED],
    "attributes": ["model=diffusion_lm", "condition=attributes", "data=e2e", "data.dir=CORPUS-e2e", *LEARNED],
    "text": ["model=diffusion_lm", "condition=text", "data=pairs", "data.dir=CORPUS-pairs.jsonl", *LEARNED],
    "garbled": ["model=diffusion_lm", "condition=garbled", *LEARNED],
    "bart": ["text_space=bart_base", "text_space.pretrained=BART"],
    "bart_mini": [
        "text_space.dim=16", "text_space.layers=1", "text_space.heads=2", "text_space.vocab_size=320",
        "text_space.max_steps=2",
    ],
    "bart_vae": [
        "text_space=bart_vae", "text_space@text_space.backbone=bart_base", "text_space.backbone.pretrained=BART",
        "text_space.dim=6", "text_space.max_steps=2",
    ],
}  # fmt: skip
ASKED = {"attributes": "++condition.food=Italian", "text": "++condition.text=Mill", "garbled": "++condition.text=stne"}


@pytest.fixture(scope="module")
def untrained_of(composed_once, local, bart_directory, saved, tmp_path_factory):
    """A function from a kind to the directory of an untrained run of it, which is made once."""
    made = {}

    def untrained_of(kind):
        if kind not in made:
            corpus = next(setting for setting in local if setting.startswith("data.dir=")).removeprefix("data.dir=")
            places = {"BART": str(bart_directory), "CORPUS": corpus}
            own = [re.sub("BART|CORPUS", lambda found: places[found[0]], setting) for setting in KINDS[kind]]
            made[kind] = tmp_path_factory.mktemp("run")
            saved(compose_training(composed_once(*local, *own, f"run_dir={made[kind]}")))
        return made[kind]

    return untrained_of


@pytest.fixture
def made(untrained_of, tmp_path):
    """A function from a kind to a copy of that."""
    return lambda kind: Path(shutil.copytree(untrained_of(kind), tmp_path / "run"))


@pytest.fixture
def exported(composed):
    """A function that exports a run beside it."""

    def exported(run, *overrides):
        task, session = compose_task(
            composed(f"run={run}", "task=export", f"to={run}-out", *overrides, config="sample")
        )
        task(session)
        return run.with_name(f"{run.name}-out")

    return exported


@pytest.fixture
def texts(composed):
    """A function from a run or an export to three texts of it."""

    def texts(run, kind, *overrides):
        few = [] if kind == "autoregressive" else ["sampler.num_steps=3"]
        asked = [ASKED[kind]] if kind in ASKED else []
        settings = ["num_samples=3", "seed=4", *few, *asked, *overrides]
        _, session = compose_task(composed(f"run={run}", *settings, config="sample"))
        return session.read(session.sample())

    return texts


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_needs_nothing_else_and_writes_what_its_run_does(
    made, exported, texts, bart_directory, tmp_path, kind
):
    run = made(kind)
    expected = texts(run, kind)
    export = exported(run)
    run.rename(tmp_path / "gone")
    hidden = bart_directory.rename(bart_directory.with_name("hidden"))
    try:
        assert texts(export, kind) == expected
    finally:
        hidden.rename(bart_directory)
    content = {file: file.read_bytes() for file in export.rglob("*") if file.is_file()}
    assert not [file for file, data in content.items() if str(tmp_path.parent).encode() in data], "places"
    assert {file.suffix for file in content} == {".json", ".md", ".safetensors"}


def test_it_samples_as_it_was_told_to(made, exported, composed):
    run = made("diffusion_lm")
    told = ["sampler=ddpm", "sampler.num_steps=7", "sampler.clip=2.0"]
    _, session = compose_task(composed(f"run={exported(run, *told)}", config="sample"))
    assert (type(session.sampler).__name__, session.sampler.num_steps, session.sampler.clip) == ("DDPMSampler", 7, 2.0)


def test_a_half_written_export_is_none(made, exported, monkeypatch):
    run = made("diffusion_lm")
    monkeypatch.setattr("diffusion_text.exports.write_text", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        exported(run)
    assert [file.name for file in run.parent.iterdir()] == [run.name]


# ---- every task


@pytest.fixture
def figures(composed, tmp_path):
    """A function from a run or an export and overrides to all that a task writes, pages apart."""

    def figures(run, *overrides):
        out = tmp_path / f"figures-{run.name}"
        task, session = compose_task(composed(f"run={run}", f"out={out}", *overrides, config="sample"))
        task(session)
        return {file.name: file.read_text("utf-8") for file in out.iterdir() if file.suffix not in (".html", ".png")}

    return figures


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        ("diffusion_lm", ["task=generate", "text=stone"]),
        ("diffusion_lm", ["task=infill", "text='a __ r'"]),
        ("diffusion_lm", ["task=probe"]),
        ("diffusion_lm", ["task=garble"]),
        ("diffusion_lm", ["task=trace", "task.steps=2"]),
        ("diffusion_lm", ["task=quality"]),
        ("diffusion_lm", ["task=frontier", "task.nfe=[2]", "task.churn=[1]", "task.temperatures=[0,1]"]),
        ("bart_vae", ["task=nll", "task.draws=1"]),
        ("autoregressive", ["task=nll", "task.draws=1"]),
        ("attributes", ["task=control", "task.each=1", "task.guidance=[2.0]"]),
        ("text", ["task=seq2seq"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_tasks_find_in_an_export_what_they_find_in_its_run(made, exported, figures, local, kind, task):
    run = made(kind)
    corpus = next(setting for setting in local if setting.startswith("data.dir="))
    corpus += {"attributes": "-e2e", "text": "-pairs.jsonl"}.get(kind, "")
    few = [] if kind == "autoregressive" else ["sampler.num_steps=2"]
    settings = [*task, *few, "num_samples=3", next(setting for setting in local if setting.startswith("cache_dir="))]
    found = figures(run, *settings)
    assert found
    assert figures(exported(run), *settings, corpus) == found


def test_an_export_stays_as_it_was_written(made, exported, composed, tmp_path):
    export = exported(made("diffusion_lm"))
    before = {*export.rglob("*")}
    few = ["sampler.num_steps=2", f"outputs={tmp_path / 'outputs'}"]
    task, session = compose_task(composed(f"run={export}", *few, config="sample"))
    task(session)
    assert {*export.rglob("*")} == before
    assert len([*(tmp_path / "outputs" / "samples" / export.name).iterdir()]) == 2


def test_another_corpus_than_that_of_the_training_is_told(made, exported, composed, local, tmp_path, caplog):
    export = exported(made("autoregressive"))
    corpus, cache = (next(s for s in local if s.startswith(name)) for name in ("data.dir=", "cache_dir="))
    other = tmp_path / "other.txt"
    other.write_text("A word.\n\n" * 900, encoding="utf-8")
    for place, told in ((corpus, 0), (f"data.dir={other}", 1)):
        caplog.clear()
        compose_task(composed(f"run={export}", place, cache, config="sample"))[1].texts("test")
        assert sum("not the texts of the training" in message for message in caplog.messages) == told


def test_without_its_corpus_what_needs_it_says_so(made, exported, composed):
    task, session = compose_task(composed(f"run={exported(made('autoregressive'))}", "task=nll", config="sample"))
    with pytest.raises(UserError, match=r"^data=text_files needs data\.dir=PATH"):
        task(session)


# ---- what is refused


@pytest.mark.parametrize("place", ["a file", "a directory"])
def test_nothing_is_written_over(made, exported, place):
    run = made("diffusion_lm")
    there = run.with_name("run-out")
    if place == "a file":
        there.touch()
    else:
        there.mkdir()
        (there / "mine.txt").touch()
    with pytest.raises(UserError, match=rf"^task=export to={there}: that is there already, choose a new directory$"):
        exported(run)
    assert place == "a file" or [file.name for file in there.iterdir()] == ["mine.txt"]


def test_an_empty_directory_is_new(made, exported):
    run = made("diffusion_lm")
    run.with_name("run-out").mkdir()
    assert (exported(run) / "config.json").is_file()


def test_a_place_is_asked_for(composed, made):
    with pytest.raises(UserError, match=r"^task=export writes a new directory: name it with to=DIR$"):
        compose_task(composed(f"run={made('diffusion_lm')}", "task=export", config="sample"))


@pytest.mark.parametrize(
    ("component", "says"),
    [("TextAutoencoder", "is a text autoencoder, which generates nothing"), ("Classifier", "is a classifier: sample")],
)
def test_what_does_not_write_is_not_exported(sampled, checkpoint, tmp_path, component, says):
    with pytest.raises(UserError, match=says):
        sampled(checkpoint(route={"component": component}), "task=export", f"to={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_an_export_is_copied_and_not_gone_on_with(made, exported):
    export = exported(made("diffusion_lm"))
    with pytest.raises(UserError, match=r"is an export already: copy it$"):
        exported(export)
    with pytest.raises(UserError, match=rf"^resume={export} is an export, which has nothing to go on from"):
        read_record(Run(export))
