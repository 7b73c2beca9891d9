"""A classifier from a finished run, trained, gone on with, and steering samples of that run."""

import json

import pytest
import restaurants
import torch

from diffusion_text.composition import compose_task, compose_training
from diffusion_text.entry import prepared
from diffusion_text.errors import UserError
from diffusion_text.tensors import write_tensors
from diffusion_text.training import train

pytestmark = pytest.mark.usefixtures("shapes_unchecked")
SMALL = [
    "trainer=cpu", "tokenizer.vocab_size=320", "text_space.dim=16", "model.width=16", "model.depth=1", "model.heads=2",
]  # fmt: skip
SHORT = ["trainer=cpu", "trainer.max_steps=6", "trainer.val_check_interval=3", "trainer.log_every_n_steps=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("classifying")


@pytest.fixture(scope="module")
def run(composed_once, saved, place):
    """An untrained run on described texts that is told nothing."""
    (place / "run").mkdir()
    corpus = restaurants.write(place / "e2e")
    places = [f"data.dir={corpus}", f"cache_dir={place / 'cache'}", f"run_dir={place / 'run'}"]
    model = ["experiment=embedding_flow", "tokenizer=bpe", "data=e2e", *SMALL, *places]
    saved(compose_training(composed_once(*model)))
    return place / "run"


@pytest.fixture(scope="module")
def classifier(composed_once, shapes_unchecked, run, place):
    """The directory of a classifier that was trained for six steps."""
    directory = place / "classifier"
    directory.mkdir()
    small = ["model.width=16", "model.depth=1", "model.heads=2", "model.local_heads=[0]"]
    asked = ["model=classifier", f"run={run}", *small, f"cache_dir={place / 'cache'}", f"run_dir={directory}", *SHORT]
    train(compose_training(composed_once(*asked)))
    return directory


@pytest.fixture
def asked(composed, run, place, tmp_path):
    """A function from overrides of sample.py to its task and session."""
    usual = [f"run={run}", f"cache_dir={place / 'cache'}", "sampler.num_steps=3", f"out={tmp_path / 'out'}"]
    return lambda *overrides: compose_task(composed(*usual, *overrides, config="sample"))


def test_its_directory_says_what_it_read_and_how_well(classifier, run):
    figures = json.loads((classifier / "metrics.json").read_text(encoding="utf-8"))
    assert len(figures["val"]["values_read"]["bins"]) == 10
    assert 0 <= figures["test"]["values_read"]["overall"] <= 1
    assert figures["verdict"].startswith("Where there is least noise it reads ")
    assert figures["figures"]["val/values_read"]["better"] == "higher"
    page = (classifier / "report.html").read_text(encoding="utf-8")
    assert "share of what is known that is read" in page
    config = (classifier / "config.yaml").read_text(encoding="utf-8")
    assert "data.e2e.E2E" in config, "the corpus of the run that it reads"


def test_its_checkpoint_has_nothing_of_the_run_that_it_reads(classifier):
    weights = torch.load(classifier / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert {name.partition(".")[0] for name in weights} == {"denoiser", "leave", "counts"}


def test_going_on_ends_where_never_stopping_does(composed, run, place, classifier, tmp_path):
    small = ["model.width=16", "model.depth=1", "model.heads=2", "model.local_heads=[0]"]
    usual = ["model=classifier", f"run={run}", *small, f"cache_dir={place / 'cache'}", f"run_dir={tmp_path}", *SHORT]
    train(compose_training(composed(*usual, "trainer.max_steps=3")))
    train(compose_training(composed(*usual)))
    ours, whole = (torch.load(d / "checkpoints" / "last.ckpt", weights_only=True) for d in (tmp_path, classifier))
    assert ours["global_step"] == whole["global_step"] == 6
    for name, weight in whole["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], weight), name


def test_it_leads_samples_of_the_run_and_the_further_the_more_likely(asked, classifier):
    likely = []
    for scale in (0.0, 1e3):
        steered = [f"sampler.classifier={classifier}", f"sampler.classifier_scale={scale}", "num_samples=4"]
        session = asked("++condition.food=Italian", *steered)[1]
        x_0 = last_x(session)
        told = session.wish(session.condition).led.expand(4, -1)
        mask = torch.ones(x_0.shape[:2], dtype=torch.bool)
        with torch.no_grad():
            likely.append(session.guide.classifier.log_probability(x_0, torch.full((4,), 0.05), mask, told).mean())
    assert likely[1] > likely[0]


@pytest.fixture
def export(asked, tmp_path):
    """The run for other people, who have the corpus elsewhere."""
    task, session = asked("task=export", f"to={tmp_path / 'words'}")
    task(session)
    return tmp_path / "words"


def test_it_leads_an_export_of_the_run(asked, classifier, export):
    steered = ["++condition.food=Italian", f"sampler.classifier={classifier}", "num_samples=2"]
    here, there = (asked(*steered, *where)[1] for where in ([], [f"run={export}"]))
    assert torch.equal(here.sample().tokens, there.sample().tokens)
    assert there.run.directory == export.resolve()
    task, session = asked(*steered, "task=export", f"to={export}-2")
    with pytest.raises(UserError, match=r"^task=export: a classifier is no part of what it steers"):
        task(session)


def test_one_of_the_export_reads_the_same_noise(composed, place, classifier, export, tmp_path):
    small = ["model.width=16", "model.depth=1", "model.heads=2", "model.local_heads=[0]", f"data.dir={place / 'e2e'}"]
    (tmp_path / "run").mkdir()
    asked = ["model=classifier", f"run={export}", *small, f"cache_dir={place / 'cache'}", f"run_dir={tmp_path / 'run'}"]
    model = compose_training(composed(*asked, *SHORT)).model
    stored = torch.load(classifier / "checkpoints" / "best.ckpt", weights_only=True)
    assert model.hparams["reads"] == stored["hyper_parameters"]["reads"]


def last_x(session):
    """Where a reverse run of four texts comes to."""
    model = session.model
    x_t = torch.randn(4, 12, model.text_space.dim, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(4, 12, dtype=torch.bool)
    *_, last = session.reverse(x_t, mask, [torch.Generator().manual_seed(i) for i in range(4)])
    return last.x_t


def test_what_was_drawn_says_what_it_was_led_to(asked, classifier, tmp_path):
    task, session = asked("++condition.food=italian", f"sampler.classifier={classifier}", "num_samples=2")
    task(session)
    [file] = (tmp_path / "out").glob("*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [row["condition"] for row in rows] == [{"food": "italian"}] * 2
    assert rows[0]["classifier"] == {"scale": 10.0, "steps": 3}


def test_texts_are_the_same_whatever_is_led_beside_them(asked, classifier):
    drawn = [
        asked("++condition.food=Italian", f"sampler.classifier={classifier}", "num_samples=3", f"batch_size={size}")[1]
        .sample()
        .tokens
        for size in (1, 3)
    ]
    assert torch.equal(*drawn)


def test_control_holds_its_scales_against_nothing_asked(asked, classifier):
    settings = ["task.scale=[1.0,5.0]", "task.each=1"]
    task, session = asked("task=control", f"sampler.classifier={classifier}", *settings)
    rows = task.measure(session)
    assert list(rows)[:3] == ["nothing asked", "classifier 1", "classifier 5"]
    assert [(rows[name].evaluations, rows[name].gradients) for name in list(rows)[:2]] == [(3, 0), (3, 6)]
    assert rows["looked up"].said == 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([], "model=classifier reads the noise of a finished run: name it with run=RUN"),
        (["data=python_docs"], "data= is that of the run that model=classifier reads the noise of: leave it out"),
        (["schedule=cosine"], "schedule= is that of the run that model=classifier reads the noise of: leave it out"),
    ],
)
def test_what_it_cannot_read_is_one_line(composed, run, tmp_path, overrides, says):
    named = [f"run={run}"] if overrides else []
    with pytest.raises(UserError, match=says):
        compose_training(composed("model=classifier", *named, *overrides, f"run_dir={tmp_path}"))


def test_runs_that_have_no_noise_or_no_attributes_are_refused(composed, lm_checkpoint, local, tmp_path, classifier):
    cache = [local[-1], f"run_dir={tmp_path / 'new'}"]
    with pytest.raises(UserError, match="the corpus of that run has none"):
        compose_training(composed("model=classifier", f"run={lm_checkpoint.parents[1]}", *cache))
    with pytest.raises(UserError, match=r"run=nowhere is no run"):
        compose_training(composed("model=classifier", "run=nowhere", *cache))
    with pytest.raises(UserError, match="is a classifier: sample the run that it reads"):
        compose_training(composed("model=classifier", f"run={classifier}", *cache))
    with pytest.raises(UserError, match="is for model=classifier and experiment=distil: leave it out"):
        compose_training(composed(f"run={classifier}", *cache))


def test_what_cannot_steer_is_one_line(asked, sampled, lm_checkpoint, run, classifier, composed):
    with pytest.raises(UserError, match=r"leads to what is asked for: condition\.NAME=VALUE"):
        asked(f"sampler.classifier={classifier}")[1].sample()
    with pytest.raises(UserError, match=r"condition\.food=Thai was in no text"):
        asked(f"sampler.classifier={classifier}", "++condition.food=Thai")[1].sample()
    with pytest.raises(UserError, match=rf"sampler\.classifier={run} is none"):
        asked(f"sampler.classifier={run}", "++condition.food=Italian")
    with pytest.raises(UserError, match=r"reads another run's noise"):
        sampled(lm_checkpoint, f"sampler.classifier={classifier}", "++condition.food=Italian")
    with pytest.raises(UserError, match="is a classifier: sample the run that it reads"):
        compose_task(composed(f"run={classifier}", config="sample"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": {"component": "Transformer", "width": 16, "depth": 10**9, "heads": 2}}, "depth"),
        ({"model": {"component": "Popen", "args": "touch hacked"}}, "cannot be built from"),
        ({"attributes": 5}, "cannot be built from"),
        ({"attributes": {"food": ["a"]}}, "the weights do not fit"),
        ({"reads": "another"}, "reads another run's noise"),
    ],
    ids=["deep", "code", "number", "few", "another"],
)
def test_a_strangers_classifier_is_refused_in_one_line(asked, classifier, tmp_path, change, says):
    stored = torch.load(classifier / "checkpoints" / "best.ckpt", weights_only=True)
    stored["hyper_parameters"] |= change
    write_tensors(tmp_path / "stranger" / "checkpoints" / "best.ckpt", stored)
    with pytest.raises(UserError, match=rf"^[^\n]*{says}[^\n]*$"):
        asked(f"sampler.classifier={tmp_path}/stranger", "++condition.food=Italian")


def test_the_run_that_it_reads_is_found_again_from_anywhere(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    assert prepared(["train.py", "model=classifier", f"run={run.name}"])[2] == f"run='{run}'"
    assert prepared(["sample.py", f"run={run.name}"])[1] == f"run='{run.name}'"
