import json

import pytest
import restaurants

from diffusion_text.composition import compose_task, compose_training
from diffusion_text.errors import UserError


@pytest.fixture(scope="module")
def run(composed_once, saved, tmp_path_factory):
    """The directory of a run of e2e_control that was not trained, and its cache."""
    place = tmp_path_factory.mktemp("control")
    places = [
        f"data.dir={restaurants.write(place / 'e2e')}",
        f"cache_dir={place / 'cache'}",
        f"run_dir={place / 'run'}",
    ]
    small = [
        "trainer=cpu",
        "tokenizer.vocab_size=320",
        "text_space.dim=16",
        "model.width=16",
        "model.depth=1",
        "model.heads=2",
    ]
    (place / "run").mkdir()
    saved(compose_training(composed_once("experiment=e2e_control", *small, *places)))
    return place / "run"


@pytest.fixture
def asked(composed, run, tmp_path):
    """A function from overrides of sample.py to its task and session."""
    usual = [f"run={run}", f"cache_dir={run.parent / 'cache'}", "sampler.num_steps=2", f"out={tmp_path / 'out'}"]
    return lambda *overrides: compose_task(composed(*usual, *overrides, config="sample"))


def test_what_is_asked_for_stands_beside_each_sample(asked, tmp_path):
    task, session = asked("++condition.food=Italian", "sampler.guidance=2.0", "num_samples=2")
    task(session)
    [file] = (tmp_path / "out").glob("*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [row["condition"] for row in rows] == [{"food": "Italian"}] * 2


def test_a_prompt_goes_together_with_what_is_asked_for(asked):
    task, session = asked("++condition.food=Italian", "text='The Mill'", "num_samples=2", "length=12")
    task(session)


def test_the_table_has_every_row_and_real_texts_say_what_they_are_told(asked, tmp_path, capsys):
    targets = tmp_path / "targets.jsonl"
    targets.write_text('{"area": "riverside"}\n{"food": "Italian", "area": "city centre"}\n', encoding="utf-8")
    task, session = asked("task=control", "task.guidance=[1.0,2.0]", "task.each=3", f"task.targets={targets}")
    rows = task.measure(session)
    assert list(rows) == [
        "nothing asked", "guidance 1", "guidance 2", "real texts", "of something else", "looked up",
    ]  # fmt: skip
    assert [rows[name].evaluations for name in ("nothing asked", "guidance 1", "guidance 2")] == [2, 2, 4]
    assert rows["looked up"].said == rows["looked up"].verbatim == 1
    assert rows["of something else"].said == 0
    task.show(rows)
    assert "looked up" in capsys.readouterr().out
    page = task.write(session, rows)
    assert "of something else" in page.read_text(encoding="utf-8")
    written = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert written["looked up"]["said"] == 1


def test_targets_may_be_lists_of_tokens_and_those_in_no_text_are_left_out(asked, tmp_path, caplog):
    lines = ['["Area", ":", "city", "centre"]', '["food", ":", "Thai"]', '{"food": "Italian", "family_friendly": "no"}']
    (tmp_path / "targets.jsonl").write_text("\n".join(lines), encoding="utf-8")
    task, session = asked("task=control", f"task.targets={tmp_path}/targets.jsonl")
    known = [{"area": "city centre"}, {"food": "Italian", "family_friendly": "no"}]
    assert task.wanted(session) == known
    assert "Left out 1 of 3 targets, which were in no text: [{'food': 'Thai'}]" in caplog.text
    (tmp_path / "targets.jsonl").write_text(lines[1], encoding="utf-8")
    with pytest.raises(UserError, match=r"has no line that is known"):
        task.wanted(session)
    (tmp_path / "targets.jsonl").write_text("5\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"targets\.jsonl: 5 is neither an object of attributes nor a list of tokens"):
        task.wanted(session)
    (tmp_path / "targets.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"^cannot read task\.targets=[^\n]*targets\.jsonl: [^\n]*$"):
        task.wanted(session)


def test_every_value_is_asked_for_by_itself(asked):
    task, session = asked("task=control")
    wanted = task.wanted(session)
    assert len(wanted) == sum(map(len, session.model.condition.named.values.values()))
    assert {"food": "Italian"} in wanted


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["++condition.food=Thai"], r"condition\.food=Thai was in no text"),
        (["task=control", "task.targets=nowhere.jsonl"], r"cannot read task\.targets=nowhere\.jsonl: .*No such file"),
    ],
)
def test_what_cannot_be_is_one_line(asked, overrides, says):
    task, session = asked(*overrides)
    with pytest.raises(UserError, match=says):
        task(session)


def test_a_run_without_a_condition_has_none_to_ask_for(sampled, lm_checkpoint):
    with pytest.raises(UserError, match="is of a run that was trained with one"):
        sampled(lm_checkpoint, "++condition.food=Italian")
    task, session = sampled(lm_checkpoint, "task=control")
    with pytest.raises(UserError, match="is of a run that was trained with a condition"):
        task(session)
