"""Files that are whole or not there, and that are known to be whole.

A file is written beside its place, flushed to the disk, then put there. A sealed file ends with the SHA-256 of what
stands before it; it is written in two generations, of which the older serves where the newer is damaged.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import yaml

from diffusion_text.errors import UserError, first_line

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"  # of a sealed directory: size, time and SHA-256 of each file but the README.md
README = "README.md"
MARK = b"\ndiffusion_text sha256 "
SEAL_SIZE = len(MARK) + hashlib.sha256().digest_size
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (*FULL, errno.EROFS, errno.EACCES, errno.EIO, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
Read = TypeVar("Read")


class DamagedError(UserError):
    """A file is not as it was written."""


# ---- writing


@contextmanager
def replacing(path: Path, older: Path | None = None) -> Iterator[BufferedWriter]:
    """A stream whose content is at `path` once the block has ended; if that fails, `path` is as before and UserError
    says why. What was there until then is kept as `older`.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if older is not None and path.exists():
            path.replace(older)
        unfinished.replace(path)
        flush(path.parent)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """A directory to fill, which is at `path`, sealed, once the block has ended; if that fails, `path` is as before."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        seal_directory(unfinished)
        for file in unfinished.rglob("*"):
            flush(file)
        shutil.rmtree(path, ignore_errors=True)
        unfinished.replace(path)
        flush(path.parent)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def flush(path: Path) -> None:
    """Have a file, or the names in a directory, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """A UTF-8 file, whole or not at all."""
    with replacing(path) as stream:
        stream.write(text.encode())


def write_json(path: Path, content: Any) -> None:
    """A JSON file that a person can read."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """A JSON Lines file."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@contextmanager
def appending(path: Path) -> Iterator[BinaryIO]:
    """A stream that adds to a file; if the block fails, nothing is added and UserError says why."""
    before = path.stat().st_size if path.is_file() else 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as stream:
            yield stream
    except OSError as error:
        if path.is_file():
            os.truncate(path, min(before, path.stat().st_size))
        raise not_written(path, error) from error


def append_json(path: Path, row: Any) -> None:
    """Add a line to a JSON Lines file; half a line that a killed process left is dropped."""
    with appending(path) as stream:
        stream.seek(0)
        stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def write_sealed(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """A file that `write` writes to the stream that it is given, and its seal; what was there becomes the older one."""
    with replacing(path, older(path)) as stream:
        sealing = Sealing(stream)
        try:
            write(sealing)  # type: ignore[arg-type]
        except Exception as error:
            raise sealing.error or error from error
        stream.write(MARK + sealing.digest.digest())


class Sealing:
    """The writing side of a stream, which takes the checksum of what passes and remembers what went wrong; a library
    may have its own words for that.
    """

    def __init__(self, stream: BinaryIO):
        self.stream, self.digest = stream, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self.stream.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.stream.flush()


def not_written(path: Path, error: OSError) -> UserError:
    """Why a file could not be written, and what to do about it."""
    remedy = "make room" if error.errno in FULL else "choose another hydra.run.dir, cache_dir, out or to"
    return UserError(f"cannot write {path}: {error.strerror or first_line(error)}; {remedy}, and start it again")


def check_room(directory: Path, size: int, what: str, instead: str) -> None:
    """Raise UserError where a directory's disk has no room for so many bytes more; what they are, and what else may be
    done.
    """
    free = shutil.disk_usage(directory).free
    if free < size:
        raise UserError(
            f"{what} in {directory} take up to {size / 1e6:,.1f} MB and its disk has {free / 1e6:,.1f} MB free: make "
            f"room, or {instead}"
        )


def disk_trouble(error: BaseException) -> UserError | None:
    """What a failure of the disk says in one line, whichever library it came through; None for other failures."""
    codes: tuple[int, ...] = REFUSED
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in codes:
            return not_written(Path(seen.filename) if seen.filename else Path("a file"), seen)
        if found := re.search(r"\(os error (\d+)\)|^OSError: \[Errno (\d+)\]", str(seen), re.MULTILINE):
            number = int(found[1] or found[2])  # as Rust's libraries have it, or another process's traceback
            return not_written(Path("a file"), OSError(number, os.strerror(number)))
        seen, codes = seen.__cause__ or seen.__context__, FULL  # which explains whatever came of it
    return None


def seal_directory(directory: Path) -> None:
    """Write down what is in a directory; what a person may change of it is left out."""
    files = sorted(file for file in directory.rglob("*") if file.is_file() and file.name != README)
    kept = {str(file.relative_to(directory)): [*stamp(file), digest_of(file)] for file in files}
    (directory / MANIFEST).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def check_directory(directory: Path) -> None:
    """Raise DamagedError unless all is in a directory that was sealed in it. Files of the same size and time are not
    read again.
    """
    if not (directory / MANIFEST).is_file():
        raise DamagedError(f"{directory} is damaged: it has no {MANIFEST}")
    kept: dict[str, Any] = read_json(directory / MANIFEST, {})
    for name, known in kept.items():
        try:
            same = stamp(directory / name) == known[:2] or digest_of(directory / name) == known[2]
        except (OSError, TypeError, IndexError) as error:
            raise DamagedError(f"{directory / name} is damaged: {first_line(error)}") from error
        if not same:
            raise DamagedError(f"{directory / name} is damaged: its checksum is not that of its content")


def stamp(file: Path) -> list[int]:
    """Size in bytes, and time of the last change in nanoseconds."""
    about = file.stat()
    return [about.st_size, about.st_mtime_ns]


def digest_of(file: Path) -> str:
    """The SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ---- reading


def older(path: Path) -> Path:
    """Where the generation before lies: `last.ckpt` and `last.older.ckpt`."""
    return path.with_suffix(f".older{path.suffix}")


def is_stored(path: Path) -> bool:
    """Whether a sealed file is there, in either generation."""
    return path.is_file() or older(path).is_file()


def read_sealed(path: Path, read: Callable[[Path], Read]) -> Read:
    """What `read` makes of a sealed file, or of the older generation where the newer is damaged, and says so."""
    try:
        check_seal(path)
        return read(path)
    except DamagedError as damage:
        if not older(path).is_file():
            raise
        content = read_older(path, read, damage)
        log.warning("%s; going by %s", damage, older(path).name)
        return content


def read_older(path: Path, read: Callable[[Path], Read], damage: DamagedError) -> Read:
    """What `read` makes of the older generation; the newer one's damage where that is no better."""
    try:
        check_seal(older(path))
        return read(older(path))
    except DamagedError:
        raise damage from None


def check_seal(path: Path) -> None:
    """Raise DamagedError unless a file is what was written."""
    try:
        size = path.stat().st_size - SEAL_SIZE
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            for start in range(0, size, 1 << 20):
                digest.update(stream.read(min(1 << 20, size - start)))
            seal = stream.read()
    except OSError as error:
        raise DamagedError(f"cannot read {path}: {error.strerror}") from error
    if not seal.startswith(MARK):
        raise DamagedError(f"{path} is not a checkpoint of this project, or has lost its end")
    if seal != MARK + digest.digest():
        raise DamagedError(f"{path} is damaged: its checksum is not that of its content")


def read_text(path: Path) -> str:
    """A UTF-8 file; one line where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DamagedError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path} is damaged: {first_line(error)}; delete it") from error


def read_json(path: Path, otherwise: Read) -> Read:
    """The content of a JSON file, which is of the kind of `otherwise`; that where there is none."""
    return parsed(path, json.loads, otherwise)


def read_yaml(path: Path, otherwise: Read) -> Read:
    """The same of a YAML file of plain values."""
    return parsed(path, yaml.safe_load, otherwise)


def parsed(path: Path, parse: Callable[[str], Any], otherwise: Read) -> Read:
    """What a file says; raises DamagedError where that cannot be told or is of another kind than `otherwise`."""
    if not path.is_file():
        return otherwise
    try:
        content = parse(read_text(path))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise DamagedError(f"{path} is damaged: {first_line(error)}; delete it") from error
    if not isinstance(content, type(otherwise)):
        raise DamagedError(f"{path} is damaged: it holds a {type(content).__name__}; delete it")
    return content


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, whose numbers are numbers; half a line that a killed process left is none."""
    whole, _, _ = read_text(path).rpartition("\n")
    rows = list(csv.DictReader(whole.splitlines()))
    try:
        for row in rows:
            for value in row.values():
                float(value or 0)
    except (ValueError, TypeError) as error:
        raise DamagedError(f"{path} is damaged: {first_line(error)}; delete it") from error
    return rows


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file, none where there is no file; half a line that a killed process left is none."""
    lines = read_text(path).split("\n")[:-1] if path.is_file() else []
    try:
        rows = [json.loads(line) for line in lines]
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged: {first_line(error)}; delete it") from error
    if not all(isinstance(row, dict) for row in rows):
        raise DamagedError(f"{path} is damaged: a line of it is no object; delete it")
    return rows
