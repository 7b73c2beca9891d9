"""What is written by a model that is told what texts of the test split are told, held against these."""

import json

import pytest
import restaurants

from diffusion_text.composition import compose_task, compose_training
from diffusion_text.errors import UserError
from diffusion_text.tasks.comparison import bleu, chrf, exact_match, most_expected

SMALL = ["trainer=cpu", "text_space.dim=16", "model.width=16", "model.depth=1", "model.heads=2"]


@pytest.fixture(params=["attributes", "text"], scope="module")
def run(request, composed_once, saved, tmp_path_factory):
    """An untrained run that is told attributes, or another text."""
    place = tmp_path_factory.mktemp("seq2seq")
    (place / "run").mkdir()
    own = ["experiment=e2e_control", "tokenizer.vocab_size=320", f"data.dir={restaurants.write(place / 'e2e')}"]
    if request.param == "text":
        pairs = restaurants.write_pairs(place / "pairs.jsonl")
        own = ["model=diffusion_lm", "tokenizer=characters", "data=pairs", "condition=text", f"data.dir={pairs}"]
    places = [f"cache_dir={place / 'cache'}", f"run_dir={place / 'run'}"]
    saved(compose_training(composed_once(*own, *SMALL, *places)))
    return place / "run"


@pytest.fixture
def asked(composed, run, tmp_path):
    """A function from overrides of sample.py to its task and session."""
    usual = [f"run={run}", f"cache_dir={run.parent / 'cache'}", "sampler.num_steps=2", f"out={tmp_path}"]
    return lambda *overrides: compose_task(composed("task=seq2seq", *usual, *overrides, config="sample"))


def test_every_row_stands_beside_what_takes_no_learning(asked, tmp_path, capsys):
    task, session = asked("num_samples=4", "task.candidates=2")
    task(session)
    [file] = tmp_path.glob("seq2seq.jsonl")
    first, *rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 4
    assert {len(row["references"]) for row in rows} == {2}, "each description has two texts"
    of_text = ["what is told itself"] if "text" in rows[0]["condition"] else []
    assert [*first["scores"]] == [
        "told", "minimum Bayes risk", "told nothing", *of_text, "one of the references",
    ]  # fmt: skip
    real = first["scores"]["one of the references"]
    assert real["bleu"] > first["scores"]["told"]["bleu"]
    assert ("said" in real) == (not of_text)
    assert of_text or real["said"] > 0.9
    assert {"bleu_short", "bleu_middle", "bleu_long"} < {*real}
    assert "minimum" in capsys.readouterr().out


def test_a_text_is_the_same_whatever_is_asked_for_beside_it(asked):
    task, session = asked("num_samples=3")
    told = task.write_texts(session)[1]["told"]
    task, alone = asked("num_samples=3", "batch_size=1")
    assert task.write_texts(alone)[1]["told"] == told


def test_a_run_that_is_told_nothing_of_a_corpus_has_no_pairs(sampled, lm_checkpoint):
    task, session = sampled(lm_checkpoint, "task=seq2seq")
    with pytest.raises(UserError, match="is of a run that is told attributes or another text"):
        task(session)


def test_scores_of_texts_with_any_number_of_references():
    texts = ["the cat sat on the mat today", "it is cheap"]
    assert bleu(texts, [[texts[0]], ["no", texts[1]]]) == pytest.approx(1)
    assert chrf(texts, [[texts[0]], ["no", texts[1]]]) == pytest.approx(1)
    assert exact_match(texts, [[texts[0] + "s"], ["no", texts[1]]]) == 0.5
    # precisions of 1 to 4 words, and no brevity penalty
    assert bleu(texts[:1], [["the cat sat on the mat yesterday"]]) == pytest.approx(
        (6 / 7 * 5 / 6 * 4 / 5 * 3 / 4) ** 0.25
    )


def test_of_candidates_the_most_usual_is_chosen():
    usual = ["the mill serves cheap food", "the mill serves cheap food by the river", "what is a blue goat doing here"]
    assert most_expected(usual) in usual[:2]
    assert most_expected([usual[2]]) == usual[2]
