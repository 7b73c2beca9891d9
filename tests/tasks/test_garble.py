import json
import random

import pytest

from diffusion_text.composition import compose_training
from diffusion_text.errors import UserError
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.tasks.comparison import alone, chrf, exact_match, word_error_rate
from diffusion_text.tasks.garble import Garble


def test_the_longest_garbled_text_still_fits(session):
    run = session("num_samples=5")
    garble = Garble(how="repeat", rate=1.0)
    longest = len(run.model.length_counts) - 1
    [garbling] = garble.garblings
    texts = [garbling(text, None, [], random.Random(0)) for text in garble.that_fit(run)]
    assert max(map(len, texts)) <= longest - 2


@pytest.mark.parametrize(
    "settings",
    [{"how": "eat"}, {"how": ["drop", "eat"]}, {"how": []}, {"rate": 1.5}, {"rate": [2]}, {"t": 0.0}, {"window": 1}],
)
def test_nonsense_is_refused(settings):
    with pytest.raises(ValueError, match=r"task\."):
        Garble(**settings)


def test_scores_are_kept_with_the_texts(session):
    run = session("num_samples=3", "sampler.num_steps=2")
    Garble(how="drop", rate=0.5, t=0.2)(run)
    first, *texts = [json.loads(line) for line in (run.run.samples / "garble.jsonl").read_text().splitlines()]
    assert set(first["scores"]) == {"garbled", "do nothing", "restored", "by n-grams"}
    originals = [text["original"] for text in texts]
    for name, score in first["scores"].items():
        assert score["chrf"] == pytest.approx(chrf([text[name] for text in texts], alone(originals)))
    assert first["scores"]["garbled"]["word_error_rate"] > 0.2


def test_every_way_at_every_rate_has_a_row_and_a_file(session, capsys):
    run = session("num_samples=2", "sampler.num_steps=2")
    Garble(how=["drop", "repeat"], rate=[0.1, 0.5])(run)
    written = [json.loads(file.read_text().splitlines()[0]) for file in run.run.samples.glob("garble*.jsonl")]
    assert {(row["how"], row["rate"]) for row in written} == {(h, r) for h in ("drop", "repeat") for r in (0.1, 0.5)}
    shown = capsys.readouterr().out
    assert all(f"{row['how']} {row['rate']}" in shown for row in written)


@pytest.fixture(params=["latent", "embedding", "masked_diffusion", "autoregressive"])
def told(request, composed, small_lm, local, settings, saved, sampled, tmp_path):
    """A function from overrides of sample.py to a session with an untrained model that is told a garbled text."""
    cache = next(setting for setting in local if setting.startswith("cache_dir"))
    network = ["model=latent_transformer", "model.width=16", "model.depth=1", "model.heads=2", *settings]
    (tmp_path / "run").mkdir(exist_ok=True)
    chosen = network if request.param == "latent" else [*small_lm, f"run_dir={tmp_path}/run"]
    if "_" in request.param or request.param == "autoregressive":
        chosen = [f"model={request.param}", *chosen[1:]]
    checkpoint = saved(compose_training(composed(*chosen, "condition=garbled")))
    steps = [] if request.param == "autoregressive" else ["sampler.num_steps=2"]
    return lambda *overrides: sampled(checkpoint, cache, *steps, *overrides)


def test_a_model_that_is_told_the_garbled_text_writes_the_restored_one(told, monkeypatch):
    task, session = told("task=garble", "task.how=repeat", "num_samples=3", "task.rate=0.5")
    asked = []
    sample = session.model.sample
    monkeypatch.setattr(session.model, "sample", lambda *given: asked.append(given[-2]) or sample(*given))
    task(session)
    [file] = session.run.samples.glob("garble*.jsonl")
    first, *texts = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    has_x_0 = isinstance(session.model, TextDiffusion)
    assert set(first["scores"]) == {"garbled", "restored", "by n-grams"} | ({"do nothing"} if has_x_0 else set())
    [tokens] = asked
    read = session.model.text_space.to_text([text[text >= 0].tolist() for text in tokens])
    assert read == [text["garbled"] for text in texts]


def test_several_candidates_are_drawn_for_each_text(told):
    task, run = told("task=garble", "task.how=drop", "num_samples=2", "task.candidates=3")
    assert_three_are_drawn(task, run)


def test_candidates_differ_where_nothing_is_told(session):
    assert_three_are_drawn(Garble(t=1.0, candidates=3), session("num_samples=2", "sampler.num_steps=2"))


def assert_three_are_drawn(task, run):
    """Of each of two texts, each by its own noise."""
    asked, chosen = [], task.chosen
    task.chosen = lambda *given: asked.append(given) or chosen(*given)
    task(run)
    [file] = run.run.samples.glob("garble*.jsonl")
    first, *texts = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert (first["candidates"], len(texts)) == (3, 2)
    [(spoilt, drawn, reread)] = asked
    assert (len(spoilt), len(drawn), len(reread)) == (2, 6, 2)
    assert drawn[0] != drawn[1]
    written = run.model.text_space.to_text(drawn)
    assert [text["drawn once"] for text in texts] == [written[0], written[3]]


def test_a_text_is_restored_from_its_own_candidates():
    agreeing, apart = [[1, 9, 3], [1, 9, 3], [1, 2, 3]], [[4, 5, 7], [4, 6], [8, 5, 6]]
    assert Garble(candidates=3).chosen([[1, 2, 3], [4, 5, 6]], agreeing + apart, [[1, 2, 3], [4, 5, 6]]) == {
        "drawn once": [[1, 9, 3], [4, 5, 7]],
        "restored": [[1, 9, 3], [4, 5, 6]],
    }


def test_a_users_text_is_restored(told):
    task, session = told("++condition.text='stone river'", "num_samples=2")
    task(session)
    [file] = session.run.samples.glob("*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [row["condition"] for row in rows] == [{"text": "stone river"}] * 2


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["++condition.food=x"], r"condition\.food: this run is told another text: condition\.text=…"),
        (["++condition.text=x", "++condition.any=x"], r"condition= and condition\.text= are the same: give one"),
        (["++condition.text=''"], r"condition\.text= has 0 tokens: this run takes from 1 to 1[02]"),
        ([f"++condition.text='{'stone ' * 40}'"], r"condition\.text= has \d+ tokens: this run takes from 1 to 1[02]"),
        (["task=control"], r"task=control is of a run that is told attributes"),
    ],
    ids=["attribute", "twice", "empty", "long", "control"],
)
def test_what_cannot_be_told_is_one_line(told, overrides, says):
    task, session = told(*overrides)
    with pytest.raises(UserError, match=says):
        task(session)


def test_figures_of_comparison():
    """chrF of identical and of disjoint texts is 1 and 0; word errors by hand."""
    assert chrf(["one two three"], [["one two three"]]) == pytest.approx(1)
    assert chrf(["zzz"], [["aaa"]]) == 0
    assert word_error_rate(["a b c", "d"], ["a x c", "d e"]) == pytest.approx(2 / 5)
    assert exact_match(["a", "b"], [["a"], ["c"]]) == 0.5
