"""Corpora in pieces: the same whoever reads them, once, and not at all where they are known."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from diffusion_text import cache
from diffusion_text.data import base, files, tokenising
from diffusion_text.data.base import SPLITS
from diffusion_text.data.files import cut
from diffusion_text.data.reading import read_lines, split_by_position
from diffusion_text.data.text_files import TextFiles
from diffusion_text.errors import UserError

TEXT = st.lists(st.text("ab é東\n\r", max_size=40), max_size=60).map("".join)


@pytest.fixture
def pieces(monkeypatch):
    """Pieces of a hundred characters, so that small files have several."""
    monkeypatch.setattr(files, "STRETCH", 100)


@pytest.fixture
def known(monkeypatch):
    """Corpora are known again however small they are, and however lately they were written."""
    monkeypatch.setattr(cache, "WORTH", 0)
    monkeypatch.setattr(cache, "TICK", 0)


@pytest.fixture
def corpus(tmp_path, words_file):
    """A function from settings to the corpus of a copy of the words."""
    file = tmp_path / "corpus.txt"
    file.write_bytes(words_file.read_bytes())
    return lambda **settings: TextFiles(str(tmp_path / "cache"), dir=str(file), length=12, **settings)


def tokens(corpus, tokenizer):
    return {split: [text.tolist() for text in texts["tokens"]] for split, texts in corpus.tokens(tokenizer).items()}


# ---- pieces


@pytest.mark.usefixtures("pieces")
@given(TEXT, st.sampled_from(["", "\ufeff"]))
def test_the_pieces_of_a_file_are_its_lines(tmp_path_factory, text, mark):
    file = tmp_path_factory.mktemp("file") / "text.txt"
    file.write_bytes((mark + text).encode())
    found = list(cut(file))
    assert [line for piece in found for line in read_lines(file, piece.first, piece.last)] == list(read_lines(file))
    assert sum(piece.size for piece in found) == sum(map(len, read_lines(file)))
    assert all(piece.last - piece.first >= 100 for piece in found[:-1])
    assert found[-1].last is None


@pytest.mark.usefixtures("pieces")
@given(st.lists(TEXT, min_size=1, max_size=3).filter(any))
def test_splits_in_pieces_are_those_of_the_files_laid_end_to_end(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("folder")
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_bytes(text.encode())
    corpus = TextFiles("unused", dir=str(folder))
    whole = [line for file in sorted(folder.iterdir()) for line in (*read_lines(file), "\n")]
    for split in SPLITS:
        assert list(corpus.lines(split)) == list(split_by_position(lambda: whole, split))


@pytest.mark.usefixtures("pieces")
def test_what_a_piece_cannot_be_read_for_is_said_of_its_file(tmp_path):
    file = tmp_path / "latin.txt"
    file.write_bytes(b"word\n" * 100 + b"\xe9t\xe9\n")
    with pytest.raises(UserError, match=r"latin.txt is not UTF-8 text \(byte 500\)"):
        list(TextFiles("unused", dir=str(file)).lines("train"))


def test_a_split_is_read_from_where_it_lies(corpus, pieces, monkeypatch):
    data, read = corpus(), []

    def reading(file, first, last):
        read.append((first, last))
        return read_lines(file, first, last)

    monkeypatch.setattr("diffusion_text.data.text_files.read_lines", reading)
    size = data.files[0].stat().st_size
    for split in SPLITS:
        list(data.paragraphs(split))
    assert sum((last or size) - first for first, last in read) < 1.1 * size


# ---- in several processes


@pytest.mark.parametrize("packing", ["paragraphs", "stream"])
def test_several_processes_tokenise_as_one_does(corpus, pieces, tokenizer, tmp_path, packing):
    one, two = (corpus(num_proc=n, packing=packing) for n in (1, 2))
    two.cache_dir = str(tmp_path / "other")
    assert len(two.stretches("train")) > 3
    assert tokens(two, tokenizer) == tokens(one, tokenizer)
    assert len(list(two.directory.glob("train/*.arrow"))) == 2
    assert {path.name for path in two.directory.iterdir()} == {*SPLITS, "statistics.safetensors", "manifest.json"}


def test_a_corpus_of_one_stretch_takes_one_process(corpus, tokenizer, monkeypatch):
    monkeypatch.setattr("multiprocess.Pool", lambda *_: pytest.fail("it started processes"))
    assert tokens(corpus(num_proc=8), tokenizer)


def test_processes_that_tokenise_end_at_sigterm_whatever_this_one_does():
    def going_on(number, frame):
        pass

    before = signal.signal(signal.SIGTERM, going_on)
    try:
        with tokenising.ending_at_sigterm():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == going_on
        with ThreadPoolExecutor() as threads:
            seen = threads.submit(entered, tokenising.ending_at_sigterm())
        assert seen.result() == going_on, "only the main thread may say so"
    finally:
        signal.signal(signal.SIGTERM, before)


def entered(context):
    """Who answers to SIGTERM inside a context."""
    with context:
        return signal.getsignal(signal.SIGTERM)


def test_what_several_processes_do_not_know_is_said_once(corpus, pieces, tokenizer, caplog):
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "<pad>": 1, "apple": 2, "\n\n": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>")
    said = []
    for processes in (1, 2):
        data = corpus(num_proc=processes)
        data.cache_dir += str(processes)
        data.tokens(words)
        said.append([message for message in caplog.messages if "train split" in message])
        caplog.clear()
    assert said[0] == said[1]
    assert len(said[0]) == 1


def test_what_one_process_is_refused_with_is_one_line(corpus, pieces, tokenizer):
    data = corpus(num_proc=2)
    data.stretches("train")
    text = data.files[0].read_bytes()
    data.files[0].write_bytes(text[:10_000] + b"\0" + text[10_001:])
    data.digest = "known"
    with pytest.raises(UserError, match=r"^\S+corpus.txt is not text but binary[^\n]*$"):
        data.tokens(tokenizer)


def test_tokens_take_two_bytes_where_that_is_enough(corpus, tokenizer, monkeypatch):
    assert corpus().tokens(tokenizer)["train"].features["tokens"] == datasets.List(datasets.Value("uint16"))
    monkeypatch.setattr(tokenising, "SHORT", 300)
    data = corpus(packing="stream")
    assert data.tokens(tokenizer)["train"].features["tokens"] == datasets.List(datasets.Value("int32"))


def test_a_tokenizer_is_learned_from_an_excerpt_of_all_of_a_large_corpus(corpus, pieces, monkeypatch):
    data = corpus()
    monkeypatch.setattr(base, "EXCERPTS", 1_000)
    assert list(data.excerpt()) == list(data.paragraphs("train"))
    monkeypatch.setattr(base, "EXCERPT", 300)
    monkeypatch.setattr(base, "EXCERPTS", 8)
    some, everything = list(data.excerpt()), list(data.paragraphs("train"))
    assert 300 <= sum(map(len, some)) < 800
    places = [everything.index(text) for text in some]
    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] > 0.8 * len(everything)


# ---- known again


def unread(data, monkeypatch):
    """A corpus that must not be read."""
    monkeypatch.setattr("diffusion_text.data.text_files.read_lines", lambda *_: pytest.fail("it was read"))
    monkeypatch.setattr("diffusion_text.data.files.characters", lambda *_: pytest.fail("it was counted"))
    return data


@pytest.mark.usefixtures("known")
def test_a_corpus_that_is_as_it_was_is_not_read_again(corpus, tokenizer, monkeypatch):
    first = corpus()
    first.prepare(tokenizer)
    again = unread(corpus(), monkeypatch)
    again.prepare(tokenizer)
    assert again.digest == first.digest
    assert again.directory == first.directory


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("keep", ["nothing", "its time"])
def test_an_edited_file_is_noticed_though_its_size_is_the_same(corpus, keep):
    first = corpus().digest
    file = corpus().files[0]
    before = file.stat()
    file.write_bytes(file.read_bytes().replace(b"apple", b"lemon", 1))
    if keep == "its time":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert corpus().digest != first


@pytest.mark.usefixtures("known")
def test_other_settings_of_the_same_files_are_another_corpus(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": "one text of some length", "b": "another"}\n' * 2_000, encoding="utf-8")
    digests = {TextFiles(str(tmp_path / "cache"), dir=str(file), column=column).digest for column in "ab"}
    assert len(digests) == 2


@pytest.mark.parametrize(("worth", "tick"), [(10**9, 0), (0, 3_600 * 10**9)], ids=["small", "just written"])
def test_what_would_not_be_worth_it_or_certain_is_read_each_time(corpus, tmp_path, monkeypatch, worth, tick):
    monkeypatch.setattr(cache, "WORTH", worth)
    monkeypatch.setattr(cache, "TICK", tick)
    assert corpus().digest
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("known")
def test_a_corpus_that_changes_while_it_is_read_is_refused(corpus, monkeypatch):
    data = corpus()
    counted = data.counted
    file = data.files[0]

    def meanwhile(*arguments):
        time.sleep(0.01)
        file.write_bytes(file.read_bytes() + b"more")
        return read_lines(*arguments)

    monkeypatch.setattr("diffusion_text.data.text_files.read_lines", meanwhile)
    assert counted
    with pytest.raises(UserError, match=r"^the corpus changed while it was read: start again$"):
        _ = data.digest
