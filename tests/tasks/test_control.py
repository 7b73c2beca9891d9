import json

import pytest
import restaurants

from diffusion_text.composition import compose_task, compose_training
from diffusion_text.errors import UserError
from diffusion_text.training import train

SMALL = [
    "trainer=cpu", "tokenizer.vocab_size=320", "text_space.dim=16", "model.width=16", "model.depth=1", "model.heads=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(composed_once, saved, tmp_path_factory):
    """The directory of a run of e2e_control that was not trained, and its cache."""
    place = tmp_path_factory.mktemp("control")
    places = [
        f"data.dir={restaurants.write(place / 'e2e')}",
        f"cache_dir={place / 'cache'}",
        f"run_dir={place / 'run'}",
    ]
    (place / "run").mkdir()
    saved(compose_training(composed_once("experiment=e2e_control", *SMALL, *places)))
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


def test_a_file_asks_for_each_of_its_lines(asked, tmp_path, capsys):
    lines = ['{"food": "Italian"}', "", '["area", ":", "riverside"]', '{"food": "French", "area": "city centre"}']
    file = tmp_path / "conditions.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    task, session = asked(f"conditions={file}", "num_samples=2")
    task(session)
    [written] = (tmp_path / "out").glob("*.jsonl")
    rows = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    wanted = [{"food": "Italian"}, {"area": "riverside"}, {"food": "French", "area": "city centre"}]
    assert [row["condition"] for row in rows] == [each for each in wanted for _ in range(2)]
    assert "[3] area riverside: " in capsys.readouterr().out
    assert "# food French, area city centre\n" in written.with_suffix(".txt").read_text(encoding="utf-8")
    alone = asked("++condition.food=French", "++condition.area='city centre'", "num_samples=6")[1]
    assert alone.read(alone.sample())[4:] == [row["text"] for row in rows[4:]], "as it would be alone"


def test_what_is_asked_of_all_goes_with_each_line(asked, tmp_path):
    (tmp_path / "conditions.jsonl").write_text('{"food": "Italian"}\n', encoding="utf-8")
    session = asked("++condition.area=riverside", f"conditions={tmp_path}/conditions.jsonl", "num_samples=1")[1]
    assert session.asked == [{"area": "riverside", "food": "Italian"}]


def test_a_run_ends_with_texts_that_are_told_what_real_ones_are(asked):
    session = asked("num_samples=3")[1]
    session.corpus.prepare(session.model.text_space.tokenizer)
    told, asked_for = session.model.as_told(session.corpus.batch("validation", 3))
    assert [session.model.condition.asked(each, None).tolist() for each in asked_for] == told.tolist()
    assert {*asked_for[0]} == {"area", "family_friendly", "food", "name"}


def test_what_texts_are_told_stands_beside_them_wherever_they_are_shown(composed, run, tmp_path, capsys):
    """A told run, trained for three steps."""
    few = ["trainer.max_steps=3", "trainer.val_check_interval=2", "sampler.num_steps=2", "num_samples=2"]
    unreported = ["report.quality=0", "report.frontier=0", "report.trace_steps=0", "callbacks.collapse=null"]
    places = [f"data.dir={run.parent / 'e2e'}", f"cache_dir={run.parent / 'cache'}", f"run_dir={tmp_path}"]
    train(compose_training(composed("experiment=e2e_control", *SMALL, *few, *unreported, *places)))
    lines = [json.loads(line) for line in (tmp_path / "samples" / "validation.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == [2, 3]
    assert {*lines[0]["told"][0]} == {"area", "family_friendly", "food", "name"}
    [samples] = (tmp_path / "samples").glob("*-seed-*.jsonl")
    told = [json.loads(line)["condition"] for line in samples.read_text("utf-8").splitlines()]
    assert told == lines[0]["told"][:2]
    assert f"› area {told[0]['area']}, family_friendly" in capsys.readouterr().out.replace("\n", " ")
    figures = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert figures["control"]["looked up"]["said"] == 1
    assert figures["figures"]["control/looked up/said"]["better"] == "higher"
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Is it said?" in page
    assert f"name: {told[0]['name']}" in page


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
    with pytest.raises(
        UserError, match=r"targets\.jsonl: 5 is neither an object of attributes, a list of tokens, nor a text"
    ):
        task.wanted(session)
    (tmp_path / "targets.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"^cannot read task\.targets=[^\n]*targets\.jsonl: [^\n]*$"):
        task.wanted(session)


def test_every_value_in_the_test_split_is_asked_for_by_itself(asked):
    task, session = asked("task=control")
    held = {(name, value) for known, _ in session.corpus.described("test") for name, value in known.items()}
    assert {pair for target in task.wanted(session) for pair in target.items()} == held
    assert all(len(target) == 1 for target in task.wanted(session))
    assert len(held) < sum(map(len, session.model.condition.named.values.values()))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["++condition.food=Thai"], r"condition\.food=Thai was in no text"),
        (["conditions=nowhere.jsonl"], r"cannot read conditions=nowhere\.jsonl: .*No such file"),
        (["task=control", "task.targets=nowhere.jsonl"], r"cannot read task\.targets=nowhere\.jsonl: .*No such file"),
    ],
)
def test_what_cannot_be_is_one_line(asked, overrides, says):
    task, session = asked(*overrides)
    with pytest.raises(UserError, match=says):
        task(session)


def test_whether_a_label_is_met_is_told_by_ngrams(composed, saved, tmp_path):
    for label, words in {"rivers": "water flows past the mill", "skies": "clouds drift over green hills"}.items():
        (tmp_path / "corpus" / label).mkdir(parents=True)
        text = "\n\n".join(f"{words} {number} times a day" for number in range(120))
        (tmp_path / "corpus" / label / "text.txt").write_text(text, encoding="utf-8")
    data = ["data=text_files", f"data.dir={tmp_path}/corpus", "data.label=folder", f"cache_dir={tmp_path}/cache"]
    (tmp_path / "run").mkdir()
    small = ["experiment=embedding_flow", "condition=label", *(each for each in SMALL if "vocab" not in each)]
    saved(compose_training(composed(*small, *data, f"run_dir={tmp_path}/run")))
    own = ["task=control", "task.guidance=[1.0]", "sampler.num_steps=2", f"cache_dir={tmp_path}/cache"]
    task, session = compose_task(composed(f"run={tmp_path}/run", *own, config="sample"))
    rows = task.measure(session)
    assert rows["real texts"].said == rows["looked up"].said == 1
    assert rows["of something else"].said == 0
    assert rows["looked up"].verbatim == 0, "no text names its folder"


def test_a_run_without_a_condition_has_none_to_ask_for(sampled, lm_checkpoint):
    with pytest.raises(UserError, match="is of a run that was trained with one"):
        sampled(lm_checkpoint, "++condition.food=Italian")
    task, session = sampled(lm_checkpoint, "task=control")
    with pytest.raises(UserError, match="is of a run that was trained with a condition"):
        task(session)
