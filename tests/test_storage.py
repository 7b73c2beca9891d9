import errno
import json
import os

import pytest

from diffusion_text import storage
from diffusion_text.errors import UserError
from diffusion_text.storage import DamagedError


@pytest.fixture
def file(tmp_path):
    """A file of two lines, and nothing beside it."""
    file = tmp_path / "kept" / "file.json"
    storage.write_text(file, "one\ntwo\n")
    return file


@pytest.fixture
def failing(monkeypatch):
    """A function that makes the nth call to the system fail, as a full disk does; it returns whether one has."""

    def failing(number, code=errno.ENOSPC):
        left = [number]

        def counted(call):
            def fails(*arguments, **named):
                left[0] -= 1
                if left[0] == 0:
                    raise OSError(code, os.strerror(code))
                return call(*arguments, **named)

            return fails

        for name in ("fsync", "open", "mkdir", "replace", "rename"):
            monkeypatch.setattr(os, name, counted(getattr(os, name)))
        opened = storage.Path.open

        def open_counted(path, *arguments, **named):
            stream = counted(opened)(path, *arguments, **named)
            return stream if "r" in arguments else Full(stream, counted)

        monkeypatch.setattr(storage.Path, "open", open_counted)
        return lambda: left[0] <= 0

    return failing


class Full:
    """A stream whose writes may fail."""

    def __init__(self, stream, counted):
        self.stream = stream
        self.write = counted(stream.write)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stream.close()

    def __getattr__(self, name):
        return getattr(self.stream, name)


def raised(call):
    """The user error that a call ends in, if it does."""
    try:
        call()
    except UserError as error:
        return error
    return None


# ---- writing


def test_what_is_written_is_there_and_nothing_else(file):
    storage.write_text(file, "three\n")
    assert file.read_text() == "three\n"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_write_that_fails_anywhere_leaves_what_was_there_and_says_why(file, failing, number, code):
    has_failed = failing(number, code)
    error = raised(lambda: storage.write_text(file, "three\n"))
    if error:
        assert f"cannot write {file}: {os.strerror(code)}; " in str(error)
        assert ("make room" in str(error)) == (code == errno.ENOSPC)
    assert file.read_text() in ("one\ntwo\n", "three\n")
    if not has_failed():
        assert file.read_text() == "three\n"
    assert list(file.parent.iterdir()) == [file]


def test_what_a_killed_process_left_is_written_over(file):
    (file.parent / ".file.json.unfinished").write_text("half")
    storage.write_text(file, "three\n")
    assert list(file.parent.iterdir()) == [file]


def test_a_directory_takes_the_place_of_another_when_it_is_complete(tmp_path):
    for name in ("a", "b"):
        with storage.replacing_directory(tmp_path / "d") as directory:
            (directory / name).touch()
    assert {path.name for path in tmp_path.rglob("*")} == {"d", "b", storage.MANIFEST}


def test_a_directory_that_fails_is_not_there(tmp_path):
    with pytest.raises(UserError, match="No such file"), storage.replacing_directory(tmp_path / "d") as directory:
        (directory / "a" / "b").touch()
    assert not list(tmp_path.iterdir())


def test_half_a_line_is_neither_read_nor_added_to(tmp_path):
    rows = tmp_path / "rows.jsonl"
    storage.append_json(rows, {"step": 1})
    with rows.open("a") as stream:
        stream.write('{"step": 2, "te')
    assert storage.read_json_lines(rows) == [{"step": 1}]
    storage.append_json(rows, {"step": 2})
    assert storage.read_json_lines(rows) == [{"step": 1}, {"step": 2}]
    storage.write_json_lines(rows, iter([{"ü": 1}, [2]]))
    assert rows.read_text(encoding="utf-8") == '{"ü": 1}\n[2]\n'


# ---- sealed files


@pytest.fixture
def sealed(tmp_path):
    """A sealed file in its second generation."""
    file = tmp_path / "last.ckpt"
    for content in (b"first", b"second"):
        storage.write_sealed(file, lambda stream, content=content: stream.write(content))
    return file


def read(path):
    return path.read_bytes()[: -storage.SEAL_SIZE]


def test_both_generations_are_read_back(sealed):
    assert storage.read_sealed(sealed, read) == b"second"
    assert storage.read_sealed(storage.older(sealed), read) == b"first"


def test_every_change_of_a_byte_is_found(sealed):
    whole = sealed.read_bytes()
    for place in range(len(whole)):
        sealed.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedError):
            storage.check_seal(sealed)


def test_every_truncation_is_found(sealed):
    whole = sealed.read_bytes()
    for length in range(len(whole)):
        sealed.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            storage.check_seal(sealed)


@pytest.mark.parametrize("damage", ["missing", "empty", "other"])
def test_a_damaged_file_is_read_from_the_generation_before_which_is_said(sealed, damage, caplog):
    content = {"empty": b"", "other": b"text" * 100}
    sealed.unlink() if damage == "missing" else sealed.write_bytes(content[damage])
    assert storage.read_sealed(sealed, read) == b"first"
    assert "going by last.older.ckpt" in caplog.text


def test_with_both_damaged_the_newer_is_named(sealed):
    sealed.write_bytes(b"")
    storage.older(sealed).write_bytes(b"")
    with pytest.raises(DamagedError, match=r"^\S+/last\.ckpt is not"):
        storage.read_sealed(sealed, read)


@pytest.mark.parametrize("number", range(1, 9))
def test_a_sealed_write_that_fails_anywhere_leaves_a_generation_to_read(sealed, failing, monkeypatch, number):
    has_failed = failing(number)
    error = raised(lambda: storage.write_sealed(sealed, lambda stream: stream.write(b"third")))
    assert error is None or "No space left" in str(error)
    monkeypatch.undo()
    assert storage.read_sealed(sealed, read) in ((b"second", b"first", b"third") if has_failed() else (b"third",))
    assert b"second" in (read(sealed) if sealed.exists() else b"", read(storage.older(sealed)))


def test_a_librarys_own_words_for_a_full_disk_are_not_shown(sealed, failing):
    def write(stream):
        try:
            stream.write(b"third")
        except OSError as error:
            raise RuntimeError("unexpected pos 64 vs 0") from error

    failing(3)
    with pytest.raises(UserError, match="No space left on device; make room"):
        storage.write_sealed(sealed, write)


# ---- reading


@pytest.mark.parametrize(
    ("name", "content", "reader"),
    [
        ("a.json", b'{"a": ', lambda file: storage.read_json(file, {})),
        ("a.json", b"[1]", lambda file: storage.read_json(file, {})),
        ("a.json", b"[" * 100_000, lambda file: storage.read_json(file, [])),
        ("a.json", b"\xff\xfe", lambda file: storage.read_json(file, {})),
        ("a.yaml", b"a: [", lambda file: storage.read_yaml(file, {})),
        ("a.yaml", b"!!python/object/apply:os.mkdir [a]", lambda file: storage.read_yaml(file, {})),
        ("a.jsonl", b"{}\n]\n", storage.read_json_lines),
        ("a.jsonl", b"1\n", storage.read_json_lines),
        ("a.csv", b"step,loss\n1,x\n", storage.read_csv),
        ("a.csv", b"step\n1,2\n", storage.read_csv),
    ],
)
def test_what_is_damaged_is_named_in_one_line(tmp_path, name, content, reader):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(DamagedError) as error:
        reader(file)
    assert str(error.value).startswith(f"{file} is damaged: ")
    assert str(error.value).endswith("; delete it")
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_empty(tmp_path):
    assert storage.read_json(tmp_path / "a", {}) == {}
    assert storage.read_yaml(tmp_path / "a", []) == []
    assert storage.read_json_lines(tmp_path / "a") == []


def test_a_torn_table_is_read_up_to_there(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,loss\n1,0.5\n2,\n3,0.1")
    assert storage.read_csv(file) == [{"step": "1", "loss": "0.5"}, {"step": "2", "loss": ""}]


def test_json_is_for_people_too(tmp_path):
    storage.write_json(tmp_path / "a.json", {"ü": [1]})
    assert (tmp_path / "a.json").read_text() == '{\n  "ü": [\n    1\n  ]\n}\n'
    assert json.loads((tmp_path / "a.json").read_text()) == storage.read_json(tmp_path / "a.json", {})


# ---- what the disk says, in one line


def test_a_full_disk_is_told_whichever_library_met_it(tmp_path):
    named = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))
    assert str(storage.disk_trouble(named)).startswith(f"cannot write {tmp_path / 'x'}: No space left on device; ")
    of_rust = RuntimeError("SafetensorError: Error while serializing: I/O error: No space (os error 28)")
    of_a_worker = RuntimeError("Traceback:\n  File x, line 1\nOSError: [Errno 28] No space left on device\n")
    told = "cannot write a file: No space left on device; make room, and start it again"
    assert str(storage.disk_trouble(of_rust)) == str(storage.disk_trouble(of_a_worker)) == told
    assert storage.disk_trouble(RuntimeError("it said OSError: [Errno 28]")) is None


def test_a_place_that_may_not_be_written_to_has_others_beside_it():
    assert str(storage.disk_trouble(OSError(errno.EROFS, "Read-only file system"))) == (
        "cannot write a file: Read-only file system; choose another hydra.run.dir, cache_dir, out or to, "
        "and start it again"
    )
    assert str(storage.disk_trouble(OSError(errno.EACCES, ""))).startswith("cannot write a file: [Errno 13]; choose")


def test_a_full_disk_explains_what_came_of_it_and_a_refusal_does_not():
    def told(code):
        try:
            try:
                raise OSError(code, "no")
            except OSError:
                raise KeyError("worse") from None
        except KeyError as error:
            return storage.disk_trouble(error)

    assert str(told(errno.ENOSPC)).startswith("cannot write a file: no; make room")
    assert told(errno.EACCES) is None
    assert storage.disk_trouble(KeyError("another matter")) is None


def test_room_is_looked_for(tmp_path):
    storage.check_room(tmp_path, 1, "they", "go")
    with pytest.raises(UserError, match=rf"^they in {tmp_path} take up to .* MB free: make room, or go$"):
        storage.check_room(tmp_path, 10**18, "they", "go")


@pytest.mark.parametrize("call", [storage.read_text, lambda place: storage.append_json(place, {})])
def test_what_is_a_directory_is_no_file(tmp_path, call):
    with pytest.raises(UserError, match=rf"^cannot (read|write) {tmp_path}: Is a directory"):
        call(tmp_path)
