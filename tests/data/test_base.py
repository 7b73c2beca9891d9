from itertools import pairwise
from types import SimpleNamespace

import datasets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_text.data import base
from diffusion_text.data.base import TextDataModule
from diffusion_text.data.reading import LINE_LIMIT, PARAGRAPH_LIMIT, paragraphs, read_lines, split_by_position
from diffusion_text.data.text_files import TextFiles
from diffusion_text.data.tokens import TextReader, pack, pad
from diffusion_text.errors import UserError

SENTENCE = st.text(alphabet="abcz ,.é東", min_size=1, max_size=60).map(str.strip).filter(bool)
LINES = st.lists(st.text(alphabet="ab \t", max_size=12).map(lambda text: text + "\n"), max_size=60)


class Corpus(TextDataModule):
    """Lines that a test states."""

    def __init__(self, texts, **settings):
        super().__init__(**settings)
        self.texts = texts

    def lines(self, split):
        return (f"{text}\n\n" for text in self.texts[split])


@pytest.fixture
def corpus(words_file, tmp_path):
    """The words in three splits, 10 tokens a text."""
    lines = words_file.read_text(encoding="utf-8").split("\n\n")
    texts = {"train": lines[:100], "validation": lines[100:120], "test": lines[120:140]}
    return Corpus(texts, cache_dir=str(tmp_path / "cache"), length=10, batch_size=8)


# ---- paragraphs


def test_blank_lines_part_paragraphs():
    assert list(paragraphs(["one\n", " two \n", "\n", " \t\n", "three\n"])) == ["one\ntwo", "three"]


@given(LINES)
def test_paragraphs_keep_every_line_and_hold_no_blank_one(lines):
    found = list(paragraphs(lines))
    assert [line for text in found for line in text.split("\n")] == [line.strip() for line in lines if line.strip()]


def test_a_paragraph_without_end_is_ended():
    found = list(paragraphs(["word " * 20 + "\n"] * 1000))
    assert len(found) > 1
    assert max(map(len, found)) < PARAGRAPH_LIMIT + 200


# ---- packing


@given(st.lists(SENTENCE, max_size=20), st.integers(4, 24))
def test_packed_texts_hold_all_tokens_in_order_and_fit(tokenizer, texts, length):
    packed = list(pack(texts, TextReader(tokenizer), length))
    separators = set(tokenizer("\n\n", add_special_tokens=False).input_ids)
    inner = []
    for ids in packed:
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id
        assert 3 <= len(ids) <= length
        assert ids[1] not in separators
        assert ids[-2] not in separators
        inner += [token for token in ids[1:-1] if token not in separators]
    assert inner == [token for text in texts for token in tokenizer(text, add_special_tokens=False).input_ids]


def test_neighbours_that_fit_share_a_text(tokenizer):
    [ids] = pack(["river stone", "glass"], TextReader(tokenizer), 40)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "river stone\n\nglass"


def test_a_long_paragraph_is_cut_into_full_texts(tokenizer):
    ids = tokenizer("zq" * 25, add_special_tokens=False).input_ids
    packed = list(pack(["zq" * 25], TextReader(tokenizer), 12))
    assert len(packed) == -(-len(ids) // 10)
    assert {len(text) for text in packed[:-1]} == {12}


def test_what_follows_a_cut_paragraph_fills_its_last_text(tokenizer):
    whole, rest = "zq" * 10, "z"
    last = list(pack([whole, rest], TextReader(tokenizer), 16))[-1]
    assert tokenizer.decode(last, skip_special_tokens=True).endswith("\n\nz")


# ---- splitting


@given(st.lists(st.text(alphabet="ab\n", min_size=1, max_size=30), max_size=80))
def test_splits_lie_end_to_end(lines):
    parts = [list(split_by_position(lambda: lines, split)) for split in base.SPLITS]
    assert [line for part in parts for line in part] == lines


@given(st.lists(st.text(alphabet="ab", min_size=1, max_size=30), min_size=1, max_size=80))
def test_splits_are_90_5_5_percent_within_a_line(lines):
    total, longest = sum(map(len, lines)), max(map(len, lines))
    end = 0
    for split, border in (("train", 0.9), ("validation", 0.95), ("test", 1.0)):
        end += sum(map(len, split_by_position(lambda: lines, split)))
        assert abs(end - border * total) <= longest


# ---- batches


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_padding_is_masked(lengths):
    texts = [torch.arange(1, length + 1) for length in lengths]
    tokens, mask = pad(texts, 99)
    assert tokens.shape == mask.shape == (len(lengths), max(lengths))
    assert torch.equal(tokens[mask], torch.cat(texts))
    assert (tokens[~mask] == 99).all()


@given(st.lists(st.integers(1, 10), min_size=1, max_size=6))
def test_batches_of_like_texts_have_few_lengths(lengths):
    corpus = Corpus({}, cache_dir="none", length=10, bucket=True)
    corpus.pad_token_id = 99
    texts = [torch.arange(1, length + 1) for length in lengths]
    tokens, mask = corpus.collate([{"tokens": text} for text in texts]).values()
    assert tokens.shape == mask.shape == (len(lengths), min(10, -(-max(lengths) // 4) * 4))
    assert torch.equal(tokens[mask], torch.cat(texts))
    assert (tokens[~mask] == 99).all()


def test_evaluation_sees_every_text_once_and_in_order(corpus, tokenizer):
    corpus.prepare(tokenizer)
    seen = [ids[real] for batch in corpus.val_dataloader() for ids, real in zip(*batch.values(), strict=True)]
    stored = [text["tokens"].long() for text in corpus.splits["validation"]]
    assert len(stored) % corpus.batch_size, "the last batch should be a short one"
    assert all(map(torch.equal, seen, stored))
    assert len(seen) == len(stored)


def order(corpus, first, last=3):
    """The training texts in the order that a training brings them which goes on after step `first`."""
    corpus.trainer = SimpleNamespace(
        max_steps=last, accumulate_grad_batches=1, global_step=first, world_size=1, global_rank=0
    )
    return [
        tuple(ids[real].tolist())
        for batch in corpus.train_dataloader()
        for ids, real in zip(*batch.values(), strict=True)
    ]


def test_the_order_follows_from_seed_and_step_alone(corpus, tokenizer):
    corpus.prepare(tokenizer)
    whole = order(corpus, 0)
    torch.manual_seed(12345)
    assert order(corpus, 2) == whole[2 * corpus.batch_size :]
    corpus.seed = 1
    assert order(corpus, 0) != whole


def test_a_corpus_below_one_batch_still_trains(tokenizer, tmp_path):
    corpus = Corpus(dict.fromkeys(base.SPLITS, ["river stone"] * 40), cache_dir=str(tmp_path), batch_size=64)
    corpus.prepare(tokenizer)
    assert len(corpus.splits["train"]) < 64
    assert len(corpus.train_dataloader()) == 1


def test_tokens_are_memory_mapped(corpus, tokenizer):
    corpus.prepare(tokenizer)
    assert isinstance(corpus.splits["train"], datasets.Dataset)
    assert corpus.splits["train"].cache_files


# ---- what a user gets wrong


@pytest.mark.parametrize(
    ("text", "split"),
    [("", "train"), ("a", "train"), ("a word\n" * 20, "train"), ("a word of some\n" * 100, "validation")],
    ids=["empty", "one character", "small", "too small to hold out"],
)
def test_a_corpus_too_small_is_refused_naming_the_split(tmp_path, text, split):
    file = tmp_path / "corpus.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"^the corpus is too small: its {split} split has \d+ characters[^\n]*$"):
        _ = TextFiles(str(tmp_path), dir=str(file)).digest


def test_the_digest_follows_the_text_and_where_it_is_split(corpus):
    def digest(texts):
        return Corpus(texts, cache_dir=corpus.cache_dir).digest

    train, validation, test = corpus.texts.values()
    same = digest(dict(corpus.texts))
    assert same == digest({"train": train, "validation": validation, "test": test})
    assert same != digest({"train": train, "validation": validation, "test": [*test[:-1], test[-1] + "!"]})
    assert same != digest({"train": train[:-1], "validation": [train[-1], *validation], "test": test})


@pytest.mark.parametrize(("settings", "says"), [({"length": 3}, "data.length"), ({"batch_size": 0}, "data.batch_size")])
def test_a_setting_that_cannot_be_is_named(settings, says):
    with pytest.raises(ValueError, match=says):
        Corpus({}, cache_dir="unused", **settings)


def test_lines_come_back_as_they_were(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("né\n\nzwei\ndrei", encoding="utf-8")
    assert list(read_lines(file)) == ["né\n", "\n", "zwei\n", "drei"]


def test_a_line_without_end_is_cut_and_nothing_is_lost(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("word " * 10_000, encoding="utf-8")
    pieces = list(read_lines(file))
    assert max(map(len, pieces)) <= LINE_LIMIT
    assert "".join(pieces) == "word " * 10_000


@pytest.mark.parametrize("position", [3, 20_000, 100_000])
def test_text_that_is_not_utf_8_is_refused_saying_where(tmp_path, position):
    file = tmp_path / "latin.txt"
    file.write_bytes(b"word\n" * (position // 5) + b"x" * (position % 5) + b"\xe9t\xe9\n")
    with pytest.raises(UserError, match=rf"latin.txt is not UTF-8 text \(byte {position}\)[^\n]*$"):
        list(read_lines(file))


def test_binary_is_refused(tmp_path):
    file = tmp_path / "image.txt"
    file.write_bytes(b"GIF89a\0\1\2\n")
    with pytest.raises(UserError, match=r"image.txt is not text but binary[^\n]*$"):
        list(read_lines(file))


@pytest.mark.parametrize("name", ["missing.txt", "."], ids=["missing", "a folder"])
def test_what_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(UserError, match=r"^cannot read [^\n]*$"):
        list(read_lines(tmp_path / name))


def test_each_call_reads_the_corpus_anew(corpus):
    first, second = (list(corpus.paragraphs("train")) for _ in range(2))
    assert first == second
    assert all(a != b for a, b in pairwise(first))


def test_so_many_texts_of_a_split_are_evaluated_from_all_over_it(words_file, tokenizer, tmp_path):
    data = TextFiles(str(tmp_path), length=12, dir=str(words_file), eval_texts=5, batch_size=3)
    data.prepare(tokenizer)
    whole = [text.tolist() for text in data.splits["test"]["tokens"]]
    assert len(whole) > 5
    taken = [text.tolist() for text in data.evaluated("test").texts["tokens"]]
    assert len(taken) == 5
    assert [taken[0], taken[-1]] == [whole[0], whole[-1]]
    assert [len(batch["tokens"]) for batch in data.test_dataloader()] == [2, 3]
    assert len(data.train_dataloader().dataset) == len(data.splits["train"])
