"""Files as people have them: tables, compressed ones, and what is no text."""

import gzip
import io
import json
import os
import re

import datasets
import pytest

from diffusion_text.data.base import SPLITS
from diffusion_text.data.reading import LINE_LIMIT, PARAGRAPH_LIMIT
from diffusion_text.data.text_files import TextFiles
from diffusion_text.errors import UserError

TEXTS = ["one\ntwo", "", "drei, é 東", "NA", "4"]
KINDS = ["jsonl", "csv", "tsv", "parquet"]
SEPARATORS = {"csv": ",", "tsv": "\t"}


@pytest.fixture
def folder(tmp_path):
    """An empty one for a corpus."""
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


def read(path, **settings):
    """The paragraphs at a path."""
    corpus = TextFiles("unused", dir=str(path), **settings)
    return [text for split in SPLITS for text in corpus.paragraphs(split)]


def refusal(path, **settings):
    """The one line that a corpus is refused with."""
    with pytest.raises(UserError) as refused:
        read(path, **settings)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def table(kind, texts, column="text"):
    """The content of a table with these texts, and numbers beside them."""
    rows = [{"id": place, column: text} for place, text in enumerate(texts)]
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind in SEPARATORS:
        quoted = ['"{}"'.format(text.replace('"', '""')) for text in texts]
        lines = [("id", column), *((str(place), text) for place, text in enumerate(quoted))]
        return "".join(SEPARATORS[kind].join(line) + "\n" for line in lines).encode()
    stream = io.BytesIO()
    datasets.Dataset.from_list(rows).to_parquet(stream)
    return stream.getvalue()


# ---- what is read


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_a_table_is_read_and_each_row_is_a_text(folder, kind, packed):
    content = table(kind, TEXTS)
    (folder / f"a.{kind}{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    assert read(folder) == [text for text in TEXTS if text]
    assert read(next(folder.iterdir())) == read(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_another_column_is_read_where_it_is_asked_for(folder, kind):
    (folder / f"a.{kind}").write_bytes(table(kind, TEXTS, "body of it"))
    assert read(folder, column="body of it") == [text for text in TEXTS if text]


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_not_there_is_refused_with_those_that_are(folder, kind):
    (folder / f"a.{kind}").write_bytes(table(kind, TEXTS, "body"))
    assert refusal(folder).endswith(f"a.{kind} has no column 'text', only id, body: choose one with data.column=")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_column_without_text_is_refused(folder, kind):
    (folder / f"a.{kind}").write_bytes(table(kind, TEXTS))
    assert re.search(r"the column 'id' of \S+ holds int64, not text", refusal(folder, column="id"))


def test_the_numbers_of_a_csv_are_text(folder):
    (folder / "a.csv").write_bytes(b"id,text\n" + b"".join(b"%d,007\n" % number for number in range(12_000)) + b"x,y\n")
    found = read(folder)
    assert (set(found[:-1]), found[-1], len(found)) == ({"007"}, "y", 12_001)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet.gz", ".JSONL.GZ", ".CSV"])
def test_a_table_may_have_any_name(folder, suffix):
    content = table(suffix.lower().split(".")[1], TEXTS)
    for name in ("a[1]", "b,c", "d::e", "f#g", "h?i*", "l%20m", "n ü", "train", "~s", "{x,y}"):
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(content) if "gz" in suffix.lower() else content)
    assert len(read(folder)) == 10 * 4


def test_suffixes_count_in_any_case_and_gzipped(folder):
    for name in ("a.TXT", "b.Md"):
        (folder / name).write_text(f"{name} ", encoding="utf-8")
    (folder / "c.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfc.txt.gz\r\nits second line"))
    assert read(folder) == ["a.TXT", "b.Md", "c.txt.gz\nits second line"]


def test_a_single_file_is_read_as_text_whatever_it_is_called(folder):
    (folder / "corpus.json").write_text('{"text": 1}', encoding="utf-8")
    assert read(folder / "corpus.json") == ['{"text": 1}']


def test_a_folder_called_as_a_file_is_a_folder(folder):
    (folder / "x.txt").mkdir()
    (folder / "x.txt" / "y.txt").write_text("inside", encoding="utf-8")
    assert read(folder) == ["inside"]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_mark_of_utf_8_before_a_table_is_none_of_it(folder, kind):
    (folder / f"a.{kind}").write_bytes(b"\xef\xbb\xbf" + table(kind, TEXTS).replace(b"id,text", b"text,id"))
    assert len(read(folder)) == 4 + (kind == "csv")


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_called_to_read_a_table(folder, kind, monkeypatch):
    called = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *asked, **_: called.append(asked))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    (folder / f"a.{kind}").write_bytes(table(kind, TEXTS))
    assert read(folder)
    assert not called


def test_empty_files_are_no_obstacle(folder):
    for name in ("a.txt", *(f"b.{kind}" for kind in KINDS)):
        (folder / name).touch()
        (folder / f"{name}.gz").write_bytes(gzip.compress(b""))
    (folder / "c.csv").write_bytes(b"id,text\n")
    (folder / "d.txt").write_text("text", encoding="utf-8")
    assert read(folder) == ["text"]


def test_a_text_in_a_row_is_cut_as_a_line_is(folder):
    (folder / "a.jsonl").write_bytes(table("jsonl", ["x" * 126_000]))
    assert "".join(read(folder)).replace("\n", "") == "x" * 126_000
    assert max(map(len, read(folder))) < LINE_LIMIT + PARAGRAPH_LIMIT


# ---- what is not


@pytest.mark.parametrize("direct", [False, True], ids=["in a folder", "itself"])
def test_a_pipe_is_not_waited_for(folder, direct):
    os.mkfifo(folder / "x.txt")
    if direct:
        assert refusal(folder / "x.txt").endswith("x.txt is neither a file nor a folder")
    else:
        (folder / "y.txt").write_text("text", encoding="utf-8")
        assert read(folder) == ["text"]


BROKEN = {
    "a.jsonl": b'{"text": "a"}\n{"text": \n',
    "b.jsonl": b'"a"\n"b"\n',
    "c.jsonl": b'{"text": "a\\ud800"}\n',
    "d.jsonl": '{"text": "é"}\n'.encode("latin-1"),
    "mixed.jsonl": b'{"text": "a"}\n{"text": 3}\n',
    "list.jsonl": b'{"text": ["a", "b"]}\n',
    "e.csv": b"id,text\n1,Hello, world\n2,x\n",
    "f.csv": b"id,text\n2,x\n1,Hello, world\n",
    "g.csv": b'id,text\n1,"a\n2,x\n',
    "h.csv": "text\né\n".encode("latin-1"),
    "i.csv": b"id;text\n1;a\n",
    "headless.csv": b"1,Hello world\n2,x\n",
    "j.parquet": b"no parquet",
    "k.csv.gz": b"id,text\n1,a\n",
    "l.jsonl.gz": gzip.compress(table("jsonl", TEXTS * 1000))[:-30],
    "m.parquet.gz": gzip.compress(b"no parquet"),
    "n.txt.gz": b"not gzipped",
    "o.txt.gz": gzip.compress(os.urandom(1000).hex().encode())[:-20],
    "p.txt.gz": gzip.compress("é".encode("latin-1")),
    "q.txt.gz": gzip.compress(b"a")[:12] + b"\xff" * 9,
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_one_line_that_names_the_file(folder, name):
    (folder / name).write_bytes(BROKEN[name])
    assert name in refusal(folder)


@pytest.mark.parametrize(("error", "reason"), [(ValueError("a\n  comma"), "a comma"), (EOFError(), "EOFError")])
def test_a_parsers_complaint_is_shown_in_one_line(folder, monkeypatch, error, reason):
    def read_tables(*arguments):
        raise error

    monkeypatch.setattr("diffusion_text.data.tables.read_tables", read_tables)
    (folder / "x.csv").write_text("text", encoding="utf-8")
    assert refusal(folder) == f"cannot read {folder / 'x.csv'} as .csv: {reason}"


@pytest.mark.parametrize("name", ["x" * 300, "a/b"])
def test_a_path_that_cannot_be_is_one_line(folder, name):
    assert "data.dir=" in refusal(folder / name)


def test_an_empty_path_is_not_the_working_directory(folder, monkeypatch):
    (folder / "a.txt").write_text("text", encoding="utf-8")
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=r"^data\.dir= is not a text$"):
        TextFiles("unused", dir="")


def test_folders_are_labels_and_each_is_split_by_itself(folder):
    for name in ("poems", "news"):
        (folder / name / "more").mkdir(parents=True)
        for part in ("a.txt", "more/b.txt"):
            texts = "".join(f"the {name} of {part} say {number}\n\n" for number in range(50))
            (folder / name / part).write_text(texts, encoding="utf-8")
    corpus = TextFiles("unused", dir=str(folder), label="folder")
    assert corpus.attributes == {"folder": ["news", "poems"]}
    for split, many in (("train", 180), ("validation", 10), ("test", 10)):
        described = list(corpus.described(split))
        assert abs(len(described) - many) <= 4
        assert all(known["folder"] in text for known, text in described)
        assert {known["folder"] for known, _ in described} == {"news", "poems"}
        assert [text for _, text in described] == list(corpus.paragraphs(split))
    (folder / "c.txt").write_text("in no folder", encoding="utf-8")
    with pytest.raises(UserError, match=r"c\.txt lies in no folder of data\.dir=\S+, as data\.label=folder"):
        _ = TextFiles("unused", dir=str(folder), label="folder").attributes


def test_a_label_is_a_folder():
    with pytest.raises(ValueError, match=r"data\.label=file is none of folder"):
        TextFiles("unused", label="file")


def test_a_column_has_a_name():
    with pytest.raises(ValueError, match=r"^data\.column= is not a text$"):
        TextFiles("unused", column="")


# ---- what the log says


@pytest.fixture
def said(caplog):
    """A function from a path to what the log says of reading it."""

    def said(path):
        with caplog.at_level("INFO"):
            read(path)
        return caplog.messages

    return said


def test_what_is_read_and_what_is_left_out_is_one_line(folder, said):
    for name in ("a.txt", "b.md", "c.TXT"):
        (folder / name).write_text("x" * 400_000, encoding="utf-8")
    for name in ("a.pdf", "b.png", "sub/c.json", "z.py", "zz.docx"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    os.mkfifo(folder / "zzz.txt")
    assert said(folder) == [f"Reading 3 files of 1.2 MB in {folder}; left out: a.pdf, b.png and 4 more"]


def test_one_file_is_named(folder, said):
    (folder / "a.txt").write_bytes(b"x" * 1200)
    assert said(folder / "a.txt") == [f"Reading a.txt of 1.2 kB in {folder}"]


def test_a_name_that_is_not_utf_8_can_be_said(folder, said):
    (folder / "a.txt").write_text("text", encoding="utf-8")
    (folder / os.fsdecode(b"caf\xe9.pdf")).touch()
    assert said(folder)[0].endswith("left out: caf?.pdf")
