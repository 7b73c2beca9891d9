"""Prompts, blanks and samples beside real text, on an untrained Diffusion-LM over characters."""

import json

import pytest
import torch

from diffusion_text.errors import UserError
from diffusion_text.tasks.given import UNKNOWN, ids_of, parted, prompt, with_blanks


@pytest.fixture
def asked(sampled, lm_checkpoint, local):
    """A function from overrides of sample.py to its task and session."""
    cache = next(setting for setting in local if setting.startswith("cache_dir"))
    return lambda *overrides: sampled(lm_checkpoint, cache, "sampler.num_steps=2", *overrides)


def rows(session, pattern):
    (file,) = session.run.samples.glob(pattern)
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_infilling_keeps_what_is_given_and_fills_every_blank(asked, capsys):
    task, session = asked("task=infill", "text='a __ riv_r'", "task.blank=_", "num_samples=4")
    task(session)
    texts = [row["text"] for row in rows(session, "infill.jsonl")]
    assert len(texts) == 4
    vocabulary = session.model.text_space.tokenizer
    for tokens in vocabulary(texts, add_special_tokens=False).input_ids:
        written = [vocabulary.decode([token]) for token in tokens]
        if len(written) == len("a __ riv_r"):  # no blank became a special token, which reads as nothing
            kept = [(given, found) for given, found in zip("a __ riv_r", written, strict=True) if given != "_"]
            assert all(given == found for given, found in kept)
    assert all(text.startswith("a ") and text.endswith("r") for text in texts)
    assert "[4] a " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "blank", "parts"),
    [
        ("O ____, __", None, ["O ", 4, ", ", 2, ""]),
        ("snake_case __init__ _emphasis_ 4_2 é_東", None, ["snake_case __init__ _emphasis_ 4_2 é_東"]),
        ("(_) snake_case", None, ["(", 1, ") snake_case"]),
        ("riv_r __", "_", ["riv", 1, "r ", 1, "", 1, ""]),
        ("sn#ke_case ____", "#", ["sn", 1, "ke_case ____"]),
        ("a [?][?]", "[?]", ["a ", 1, "", 1, ""]),
    ],
)
def test_blanks_are_told_from_underscores_that_are_text(text, blank, parts):
    assert parted(text, blank) == parts


def test_given_text_that_looks_special_is_text_and_what_is_unknown_is_said(asked, caplog):
    _, session = asked("text=stone")
    unknown, special = session.model.text_space.tokenizer.unk_token_id, "</s>"
    s = session.tokenize(["s"])[0][0, 0].item()
    assert ids_of(session, [special]) == [unknown, unknown, s, unknown]
    assert session.tokenize([special])[0].tolist() == [[unknown, unknown, s, unknown]]
    assert caplog.messages == ["The tokenizer does not know '<', '/', '>': 3 in text= read as <unk>"] * 2


def test_an_underscore_in_a_prompt_is_text(asked):
    assert UNKNOWN not in ids_of(asked("text=_")[1], ["_ a_b ____"])
    assert prompt(asked("text=_")[1], "_").where.sum() == 1


def test_a_sample_begins_with_its_prompt_and_goes_on(asked, capsys):
    task, session = asked("text=stone", "num_samples=3")
    task(session)
    texts = [row["text"] for row in rows(session, "*-seed-0.jsonl")]
    assert all(text.startswith("stone") for text in texts)
    assert any(len(text) > len("stone") for text in texts)
    given = prompt(session, "stone")
    assert len(given.tokens) == 12
    assert given.where.sum() == 5


def test_the_network_sees_what_is_given_without_noise(asked):
    _, session = asked("text=stone")
    given, model = prompt(session, "stone"), session.model
    mask = torch.ones(2, 12, dtype=torch.bool)
    start = torch.randn(2, 12, model.text_space.dim)
    for state in model.reverse(session.sampler, start, mask, torch.Generator(), given=given):
        torch.testing.assert_close(state.x_0[0, :5], model.text_space.embedding(given.tokens[:5]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["task=infill"], "needs a text with blanks"),
        (["task=infill", "text=stone"], "needs a text with blanks"),
        (["task=infill", "text='stone_green __green__'"], "needs a text with blanks"),
        (["task=infill", "text='stone ____'", "task.blank='#'"], 'text="O ####, #### art thou"'),
        (["task=infill", "text='_ is far too long'"], "from 1 to 12"),
        (["text=stone", "length=4"], "from 1 to 4"),
    ],
)
def test_what_cannot_be_given_is_one_line(asked, settings, message):
    task, session = asked(*settings)
    with pytest.raises(UserError, match=message):
        task(session)


def test_a_bart_takes_no_parts_of_a_text(session):
    with pytest.raises(UserError, match="model=diffusion_lm"):
        with_blanks(session(), "a _")


def test_a_barts_decoder_draws_at_a_temperature_and_leaves_the_random_state_alone(sampled, checkpoint):
    def drawn(*overrides):
        return sampled(checkpoint(), "num_samples=4", "length=12", "sampler.num_steps=2", *overrides)[1].sample().tokens

    greedy, hot, again = drawn(), drawn("temperature=100"), drawn("temperature=100")
    assert torch.equal(hot, again)
    assert hot.unique().numel() > 2 * greedy.unique().numel()
    _, session = sampled(checkpoint(), "num_samples=2", "length=12", "sampler.num_steps=2", "temperature=1.0")
    state = torch.get_rng_state()
    session.sample()
    assert torch.equal(torch.get_rng_state(), state)


def test_samples_do_not_depend_on_temperature_zero_and_differ_at_a_high_one(asked):
    greedy, hot = (asked(f"temperature={t}", "num_samples=8")[1].sample().tokens for t in (0, 1000))
    assert not torch.equal(greedy, hot)
    assert hot.unique().numel() > greedy.unique().numel() / 2


BESIDE = [["num_samples=2"], ["num_samples=7", "batch_size=3"], ["num_samples=5", "batch_size=1"]]
NOISY = [["sampler=ddpm"], ["+sampler.eta=1.0"], ["temperature=1.0"], ["sampler=ddpm", "temperature=2.0", "length=8"]]


def texts(session):
    return [text.tolist() for text in session.sample().tokens]


@pytest.mark.parametrize("noisy", NOISY, ids=" ".join)
def test_a_text_is_the_same_whatever_is_drawn_beside_it(asked, noisy):
    alone = texts(asked("num_samples=7", *noisy)[1])
    assert len({str(text) for text in alone}) > 1
    for beside in BESIDE:
        drawn = texts(asked(*beside, *noisy)[1])
        assert drawn == alone[: len(drawn)]


@pytest.mark.parametrize("noisy", [["sampler=ddpm"], ["temperature=2.0"]], ids=" ".join)
def test_a_barts_text_is_the_same_whatever_is_drawn_beside_it(sampled, checkpoint, noisy):
    def drawn(*overrides):
        session = sampled(checkpoint(), "sampler.num_steps=2", *noisy, *overrides)[1]
        return session.read(session.sample())

    alone = drawn("num_samples=7")
    assert len(set(alone)) > 1
    for beside in BESIDE:
        some = drawn(*beside)
        assert some == alone[: len(some)]


def test_quality_puts_samples_beside_real_text_and_unigrams(asked, capsys):
    task, session = asked("task=quality", "num_samples=16")
    task(session)
    (file,) = session.run.samples.glob("quality.json")
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["num_samples"] == 16
    real, unigrams = written["real text"], written["unigrams"]
    assert real["judge_nll"] < unigrams["judge_nll"]
    assert unigrams["unigram_kl"] < 0.2
    assert set(written["samples"]) == set(real)
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("entropy", "distinct-3", "real text"))


def test_mauve_without_a_language_model_is_refused(asked):
    with pytest.raises(UserError, match=r"task\.language_model"):
        asked("task=quality", "task.mauve=true")


@pytest.mark.parametrize(("settings", "expected"), [((), 12), (("length=8",), 8)])
def test_what_a_corpus_puts_around_a_text_costs_nothing_that_is_given(
    composed, saved, small_lm, sampled, local, tmp_path, settings, expected
):
    from diffusion_text.composition import compose_training

    (tmp_path / "run").mkdir()
    training = compose_training(composed(*small_lm, "data.packing=paragraphs", f"run_dir={tmp_path / 'run'}"))
    cache = next(setting for setting in local if setting.startswith("cache_dir"))
    _, session = sampled(saved(training), cache, *settings)
    tokenizer = session.model.text_space.tokenizer
    started = prompt(session, "stone")
    assert started.tokens[:6].tolist() == [tokenizer.bos_token_id, *tokenizer("stone").input_ids]
    assert len(started.tokens) == expected
    with pytest.raises(UserError, match=f"from 1 to {expected - 2}"):
        with_blanks(session, "_" * (expected - 1))
    assert with_blanks(session, "_" * (expected - 2)).where.sum() == 2


def test_quality_has_the_sources_own_figure_where_it_is_known(composed, saved, small_lm, sampled, local, tmp_path):
    from diffusion_text.composition import compose_training

    (tmp_path / "run").mkdir()
    cache = next(setting for setting in local if setting.startswith("cache_dir"))
    source = ["data=grammar", "data.size=20000", "data.dir=null", f"run_dir={tmp_path / 'run'}"]
    settings = [setting for setting in small_lm if not setting.startswith(("data=", "data.dir"))]
    task, session = sampled(
        saved(compose_training(composed(*settings, *source))), cache, "task=quality", "num_samples=16",
        "sampler.num_steps=2",
    )  # fmt: skip
    columns = task.measure(session)
    assert columns["real text"]["source_nll"] < columns["unigrams"]["source_nll"]
    start = 5.0 / 12  # a stretch of twelve characters starts anywhere, which is told once
    assert abs(columns["real text"]["source_nll"] - session.corpus.source.entropy_rate) < start


def test_where_nothing_can_be_written_texts_are_shown_and_it_is_said_where_they_could_be(asked, capsys, tmp_path):
    task, session = asked("num_samples=2", f"out={tmp_path}/taken/out")
    (tmp_path / "taken").touch()
    with pytest.raises(UserError, match=r"^cannot write to \S+/taken/out: [^\n]*; out=DIR writes elsewhere$"):
        task(session)
    shown = capsys.readouterr().out
    assert shown.startswith("[1] ")
    assert "[2] " in shown


def test_what_is_written_goes_where_it_is_told_to(asked, tmp_path):
    task, session = asked("num_samples=2", f"out={tmp_path}/out")
    task(session)
    assert {file.suffix for file in (tmp_path / "out").iterdir()} == {".txt", ".jsonl"}
