import os
import re
import socket
import time
from pathlib import Path

import datasets
import pytest

from diffusion_text import hub
from diffusion_text.data.base import SPLITS
from diffusion_text.data.python_docs import PythonDocs
from diffusion_text.data.text_files import TextFiles
from diffusion_text.data.tiny_shakespeare import TinyShakespeare
from diffusion_text.data.wikitext import WikiText2
from diffusion_text.errors import UserError

LINES = [f"Line {number} of the corpus, which is prose.\n" for number in range(100)]


NO_TEXT = "has no .txt, .md, .jsonl, .csv, .tsv or .parquet file"


def whole(corpus):
    """The corpus's lines as one text, split by split."""
    return "".join(line for split in SPLITS for line in corpus.lines(split))


def sizes(corpus):
    """Characters of each split."""
    return [sum(map(len, corpus.lines(split))) for split in SPLITS]


@pytest.fixture(scope="module")
def real_data():
    """The folder of real corpora."""
    folder = os.environ.get("DIFFUSION_TEXT_DATA")
    if not folder:
        pytest.skip(
            "DIFFUSION_TEXT_DATA names no folder with tiny_shakespeare/input.txt and wikitext-2/{valid,test}.txt"
        )
    return Path(folder)


# ---- python_docs


@pytest.fixture(scope="module")
def python_docs():
    """The paragraphs of each split."""
    corpus = PythonDocs("unused")
    return {split: list(corpus.paragraphs(split)) for split in SPLITS}


def test_python_docs_are_prose(python_docs):
    text = " ".join(paragraph for split in SPLITS for paragraph in python_docs[split])
    assert len(text) > 200_000
    assert not re.search(r">>>|::=", text)
    assert len(re.findall(r"\bthe\b", text)) > 0.04 * len(text.split()), "English has a 'the' in every twentieth word"


def test_no_paragraph_of_python_docs_comes_twice(python_docs):
    everything = [paragraph for split in SPLITS for paragraph in python_docs[split]]
    assert len(set(everything)) == len(everything)


def test_python_docs_are_the_same_at_each_reading(python_docs):
    again = PythonDocs("unused")
    assert {split: list(again.paragraphs(split)) for split in SPLITS} == python_docs


# ---- text_files


def test_a_folders_text_files_lie_end_to_end_in_order(tmp_path):
    for name, text in {"b.txt": "second", "a/z.md": "first", "c.TXT.bak": "no text", "d.txt": "third"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert whole(TextFiles("unused", dir=str(tmp_path))).split() == ["first", "second", "third"]


def test_a_file_ends_a_paragraph(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"{name} line without end" * 50, encoding="utf-8")
    found = [text for split in SPLITS for text in TextFiles("unused", dir=str(tmp_path)).paragraphs(split)]
    assert not any("a line" in text and "b line" in text for text in found)


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "does not exist"), ({}, NO_TEXT), ({"x.pdf": b"%PDF"}, NO_TEXT)],
    ids=["missing", "empty", "other files"],
)
def test_text_files_that_are_not_there_are_refused(tmp_path, content, says):
    folder = tmp_path / "corpus"
    if content is not None:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"^data.dir={folder} {says}$"):
        _ = TextFiles("unused", dir=str(folder)).digest


def test_text_files_need_a_directory():
    with pytest.raises(UserError, match=r"^data=text_files needs data\.dir=PATH[^\n]*$"):
        _ = TextFiles("unused").digest


# ---- tiny_shakespeare


@pytest.mark.parametrize("name", ["input.txt", "."], ids=["the file", "its folder"])
def test_a_local_tiny_shakespeare_is_split_by_position(tmp_path, name):
    (tmp_path / "input.txt").write_text("".join(LINES), encoding="utf-8")
    corpus = TinyShakespeare("unused", dir=str(tmp_path / name))
    assert [list(corpus.lines(split)) for split in SPLITS] == [LINES[:91], LINES[91:96], LINES[96:]]


def test_a_folder_without_tiny_shakespeare_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no tiny_shakespeare at \S*input\.txt: data\.dir="):
        _ = TinyShakespeare("unused", dir=str(tmp_path)).digest


def test_the_real_tiny_shakespeare(real_data):
    corpus = TinyShakespeare("unused", dir=str(real_data / "tiny_shakespeare"))
    assert whole(corpus).startswith("First Citizen:\n")
    assert sum(sizes(corpus)) == 1_115_394  # bytes of karpathy/char-rnn's file, all of them ASCII
    assert sizes(corpus)[0] == pytest.approx(1_003_854, abs=100)  # nanoGPT prints this size of its 90 % split
    assert len(corpus.digest) == 16


# ---- wikitext2


def wikitext(folder, **files):
    """A folder of WikiText-2 with these splits."""
    for split, lines in files.items():
        (folder / f"wiki.{split}.tokens").write_text("".join(lines), encoding="utf-8")
    return WikiText2("unused", dir=str(folder))


def test_wikitext2s_splits_are_its_files(tmp_path):
    corpus = wikitext(tmp_path, train=LINES[:60], valid=LINES[60:80], test=LINES[80:])
    assert [list(corpus.lines(split)) for split in SPLITS] == [LINES[:60], LINES[60:80], LINES[80:]]


def test_wikitext2_without_training_file_trains_on_the_validation_file_and_says_so(tmp_path, caplog):
    corpus = wikitext(tmp_path, valid=LINES[:80], test=LINES[80:])
    assert [list(corpus.lines(split)) for split in SPLITS] == [LINES[:73], LINES[73:80], LINES[80:]]
    assert "no training file: training on wiki.valid.tokens" in caplog.text


@pytest.mark.parametrize(("there", "missing"), [("valid", "test"), ("test", "validation")])
def test_wikitext2_without_another_file_is_refused(tmp_path, there, missing):
    with pytest.raises(UserError, match=rf"has no file with '\w+' in its name for the {missing} split$"):
        _ = wikitext(tmp_path, **{there: LINES}).digest


def test_wikitext2_in_a_file_is_refused(tmp_path):
    (tmp_path / "wiki.txt").write_text("".join(LINES), encoding="utf-8")
    with pytest.raises(UserError, match="is not a folder; data=wikitext2 is several files"):
        _ = WikiText2("unused", dir=str(tmp_path / "wiki.txt")).digest


def test_the_real_wikitext2(real_data):
    corpus = WikiText2("unused", dir=str(real_data / "wikitext-2"))
    files = [(real_data / "wikitext-2" / f"{name}.txt").read_text(encoding="utf-8") for name in ("valid", "test")]
    assert whole(corpus) == "".join(files)
    assert sizes(corpus)[2] == len(files[1])
    assert len(corpus.digest) == 16


def test_of_a_speech_it_is_known_who_speaks(tmp_path):
    speeches = "First Citizen:\nSpeak,\nspeak.\n\nROMEO:\nAy me!\n\nno speech\n\n"
    file = tmp_path / "input.txt"
    file.write_text(speeches * 200, encoding="utf-8")
    corpus = TinyShakespeare("unused", dir=str(tmp_path), label="speaker")
    assert corpus.attributes == {"speaker": ["First Citizen", "ROMEO"]}
    citizen, romeo = ({"speaker": "First Citizen"}, "Speak,\nspeak."), ({"speaker": "ROMEO"}, "Ay me!")
    assert [*corpus.described("train")] == [citizen] * 180 + [romeo] * 180
    assert [*corpus.described("validation")] == [*corpus.described("test")] == [citizen] * 10 + [romeo] * 10
    plain = TinyShakespeare("unused", dir=str(tmp_path))
    assert plain.attributes == {}
    assert plain.digest != corpus.digest


# ---- the hub


def test_wikitext2s_rows_on_the_hub_are_its_lines(hub):
    rows = ["", " = Title = \n", "", " One line . \n", " Another . \n", "", " = = Part = = \n"]
    asked = hub({"wikitext-2-raw-v1/validation-00000-of-00001.parquet": {"text": rows}})
    found = list(WikiText2("unused").paragraphs("validation"))
    assert found == ["= Title =", "One line .\nAnother .", "= = Part = ="]
    assert set(asked) == {("Salesforce/wikitext", "dataset", None, "wikitext-2-raw-v1/*.parquet")}


def test_tiny_shakespeares_row_on_the_hub_is_its_text(hub):
    asked = hub(
        {"default/train/0000.parquet": {"text": ["First Citizen:\nBefore we proceed.\n\nAll:\nSpeak, speak.\n"]}}
    )
    found = list(TinyShakespeare("unused").paragraphs("train"))
    assert found == ["First Citizen:\nBefore we proceed.", "All:\nSpeak, speak."]
    assert set(asked) == {("karpathy/tiny_shakespeare", "dataset", "refs/convert/parquet", "*.parquet")}


def test_what_the_hub_says_is_shown_in_one_line(hub, monkeypatch):
    def download(*arguments, **named):
        raise ValueError("no such revision\nand much more")

    hub({})
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(UserError, match=r"^Salesforce/wikitext is not to be had \(no such revision\): give a local"):
        list(WikiText2("unused").paragraphs("train"))


@pytest.mark.usefixtures("unreachable_hub")
@pytest.mark.parametrize(
    ("corpus", "group"), [(TinyShakespeare, "tiny_shakespeare"), (WikiText2, "wikitext2")], ids=lambda value: str(value)
)
def test_an_unreachable_hub_names_both_ways_out_at_once(corpus, group):
    started = time.monotonic()
    with pytest.raises(UserError) as refusal:
        _ = corpus("unused").digest
    assert time.monotonic() - started < 10
    message = str(refusal.value)
    assert "\n" not in message
    assert "(the Hugging Face hub cannot be reached)" in message
    assert f"data={group} data.dir=PATH" in message
    assert "data=python_docs" in message


@pytest.mark.usefixtures("unreachable_hub")
def test_a_hub_that_takes_calls_and_never_answers_is_unreachable(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(hub, "TIMEOUT", 0.2)
        assert hub.prepare_hub() is False
    assert datasets.config.HF_HUB_OFFLINE


@pytest.mark.usefixtures("unreachable_hub")
def test_unreachable_is_one_line_too_where_a_sibling_was_downloaded_before():
    (datasets.config.HF_DATASETS_CACHE / "Salesforce___wikitext/wikitext-103-raw-v1/0.0.0/digest").mkdir(parents=True)
    with pytest.raises(UserError, match=r"^Salesforce/wikitext is not to be had [^\n]*data=python_docs$"):
        _ = WikiText2("unused").digest
