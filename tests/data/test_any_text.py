"""Any text at all: it is refused in one line, or split end to end, and its tokens give it back.

`pytest -n 0 tests/data/test_any_text.py --hypothesis-profile=thorough` draws thousands of corpora instead of dozens.
"""

import gzip
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_text.data.base import SPLITS
from diffusion_text.data.reading import split_by_position
from diffusion_text.data.text_files import TextFiles
from diffusion_text.data.tokens import token_ids
from diffusion_text.errors import UserError
from diffusion_text.models.tokenizers import SPECIAL_TOKENS, BytePairTokenizer, CharacterTokenizer

MANY = settings().max_examples
CHARACTER = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
PIECE = st.one_of(
    st.text(CHARACTER, max_size=12),
    st.sampled_from([*SPECIAL_TOKENS.values(), "\n", "\n\n", "\r\n", "\r", " ", "\t", "\u2028", "\x85", "\ufeff", "_"]),
    st.text("東京都は、日本", min_size=1, max_size=30),
)


@st.composite
def corpora(draw):
    """Drawn pieces, repeated up to some hundred thousand characters, in lines of any length."""
    pieces = draw(st.lists(PIECE, min_size=1, max_size=30))
    times = draw(st.sampled_from([1, 100, 500, 2_000]))
    return draw(st.sampled_from(["", " ", "\n", "\n\n"])).join(pieces * times)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("any")


def written(folder, text):
    """A file of this text, and the text as lines are read from it."""
    file = folder / "corpus.txt"
    file.write_bytes(text.encode())
    return file, text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def complaint(attempt):
    """The line that an attempt is refused with, empty where it is not."""
    try:
        attempt()
    except UserError as refusal:
        return str(refusal)
    return ""


@given(corpora())
def test_splits_are_disjoint_and_in_order_and_hold_everything(folder, text):
    file, text = written(folder, text)
    corpus = TextFiles("unused", dir=str(file))
    assert "".join(line for split in SPLITS for line in corpus.lines(split)) == text + "\n"
    refused = complaint(lambda: corpus.digest)
    assert "\n" not in refused
    assert not refused or len(text) < 8_000 or any(map(str.isspace, text))


@pytest.mark.parametrize(
    "text",
    [
        "x" * 126_000,
        "東京都は、日本の首都。" * 11_000,
        "no line break, but spaces " * 5_000,
        "".join("<s></s> " * 1_200 + "\n" for _ in range(14)),
        "".join("東" * 1_999 + "\n" for _ in range(10)),
        "x" * 9_000,
    ],
    ids=["no spaces", "CJK", "one line", "long lines", "few lines", "short"],
)
def test_long_lines_are_cut_where_the_borders_fall(folder, text):
    corpus = TextFiles("unused", dir=str(written(folder, text)[0]))
    assert len(corpus.digest) == 16
    sizes = [sum(map(len, corpus.lines(split))) for split in SPLITS]
    assert sizes == pytest.approx([0.9 * len(text), 0.05 * len(text), 0.05 * len(text)], abs=2)


@given(corpora())
def test_the_tokens_of_any_paragraph_give_it_back(folder, text):
    corpus = TextFiles("unused", dir=str(written(folder, text)[0]))
    texts = [paragraph for split in SPLITS for paragraph in corpus.paragraphs(split)]
    for recipe in (BytePairTokenizer(300), CharacterTokenizer()):
        tokenizer = recipe.learn(texts)
        assert tokenizer.batch_decode(token_ids(tokenizer, texts, "text="), skip_special_tokens=True) == texts


@settings(max_examples=MANY // 3)
@given(corpora(), st.sampled_from([BytePairTokenizer(300), CharacterTokenizer()]))
def test_it_trains_or_is_refused_in_one_line(folder, text, recipe):
    cache = tempfile.mkdtemp(dir=folder)
    corpus = TextFiles(cache, dir=str(written(folder, text)[0]), length=16, packing="stream")
    refused = complaint(lambda: corpus.prepare(recipe.build(corpus)))
    assert "\n" not in refused
    if not refused:
        batch = next(iter(corpus.train_dataloader()))
        assert batch["tokens"].shape == batch["mask"].shape
    shutil.rmtree(cache)


@settings(max_examples=MANY // 2)
@given(st.lists(corpora(), max_size=5), st.sampled_from(["a.jsonl", "a.jsonl.gz"]))
def test_rows_come_back_as_texts_do(texts, name):
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        corpus = TextFiles("unused", dir=folder)
        found = "".join(line for split in SPLITS for line in corpus.lines(split))
    expected = (text.replace("\r\n", "\n").replace("\r", "\n") for text in texts if text)
    assert found == "".join(f"{text}\n" for text in expected)


@given(st.lists(st.text(CHARACTER, min_size=1, max_size=200), min_size=1, max_size=80))
def test_lines_of_ordinary_length_stay_whole(lines):
    total, position = sum(map(len, lines)), 0
    whole = {split: [] for split in SPLITS}
    for line in lines:  # a line belongs to the split in which it begins
        split = "train" if position < 0.9 * total else "validation" if position < 0.95 * total else "test"
        whole[split].append(line)
        position += len(line)
    assert {split: list(split_by_position(lambda: lines, split)) for split in SPLITS} == whole


@given(st.lists(st.text("ab", min_size=1, max_size=5_000), min_size=1, max_size=12), st.integers(8_000, 20_000))
def test_no_split_is_less_than_half_of_its_share(lines, least):
    lines += ["c" * max(0, least - sum(map(len, lines)))]
    total = sum(map(len, lines))
    for split, share in zip(SPLITS, (0.9, 0.05, 0.05), strict=True):
        assert sum(map(len, split_by_position(lambda: lines, split))) >= share * total / 2 - 1
