"""Reading text: files, the hub, paragraphs, contiguous splits. Everything streams; no corpus is held in memory."""

import gzip
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase, BufferedReader, RawIOBase, StringIO, TextIOBase, TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

from diffusion_text.errors import UserError, first_line
from diffusion_text.hub import REMOTE

Lines = Iterable[str]
SPLITS = ("train", "validation", "test")
PARAGRAPH_LIMIT = 2_000  # characters; bounds memory where no blank line comes
LINE_LIMIT = 10_000
LEAST = 200  # characters of a split


def paragraphs(lines: Lines) -> Iterator[str]:
    """Runs of lines between blank ones; a run is also ended once it exceeds PARAGRAPH_LIMIT characters."""
    block: list[str] = []
    size = 0
    for line in lines:
        line = line.strip()
        if block and (not line or size > PARAGRAPH_LIMIT):
            yield "\n".join(block)
            block, size = [], 0
        if line:
            block.append(line)
            size += len(line)
    if block:
        yield "\n".join(block)


def split_by_position(read: Callable[[], Lines], split: str) -> Iterator[str]:
    """The usual contiguous 90 % / 5 % / 5 % of a corpus by characters, cut between lines.

    A line that is longer than half of what validation and test have each is cut where the border falls.
    """
    return within(read(), 0, window(sum(len(line) for line in read()), split))


class Window(NamedTuple):
    """The characters from `first` to `last`, to which a line belongs that begins there, or of one that is `long` what
    lies there.
    """

    first: int
    last: int
    long: float


def window(total: int, split: str) -> Window:
    """Where a split lies in a corpus of so many characters."""
    first, last = bounds(total, split)
    return Window(first, last, max(LEAST, total / 40))


def bounds(total: int, split: str) -> tuple[int, int]:
    """Where a split begins in so many, and where it ends."""
    first, last = {"train": (0.0, 0.9), "validation": (0.9, 0.95), "test": (0.95, 1.0)}[split]
    return math.ceil(first * total), math.ceil(last * total)


def within(lines: Lines, position: int, window: Window) -> Iterator[str]:
    """Of lines that begin at a position of the corpus, those in a window."""
    for line in lines:
        if len(line) > window.long:
            part = line[max(0, window.first - position) : max(0, window.last - position)]
        else:
            part = line if window.first <= position < window.last else ""
        if part:
            yield part
        position += len(line)


def read_lines(file: Path, first: int = 0, last: int | None = None) -> Iterator[str]:
    """The lines of a UTF-8 file, gzipped or not, or of its bytes from `first` to `last`; those beyond LINE_LIMIT
    characters are cut: memory is bounded.
    """
    with text_of(file, first, last) as stream:
        for line in cut_lines(stream):
            if "\0" in line:
                raise UserError(f"{file} is not text but binary; leave it out of data.dir")
            yield line


@contextmanager
def text_of(file: Path, first: int = 0, last: int | None = None) -> Iterator[TextIOWrapper]:
    """A UTF-8 file's text, or that of its bytes from `first` to `last`; one clear line where it cannot be read."""
    try:
        with opened(file) as raw:
            raw.seek(first)
            part = raw if last is None else BufferedReader(Part(raw, last - first))
            with TextIOWrapper(part, encoding="utf-8" if first else "utf-8-sig") as stream:
                yield stream
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not UTF-8 text (byte {first_bad_byte(file)}); convert it, or leave it out of data.dir"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise UserError(f"cannot read {file}: {reason}") from error


class Part(RawIOBase):
    """The next `left` bytes of a stream."""

    def __init__(self, stream: BufferedIOBase, left: int):
        self.stream, self.left = stream, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = self.stream.readinto(memoryview(buffer)[: self.left])
        self.left -= read
        return read


def opened(file: Path | str) -> Any:
    """The bytes of a file, unpacked where it is gzipped, or of one on the hub."""
    if str(file).startswith(REMOTE):
        from huggingface_hub import HfFileSystem

        return HfFileSystem().open(str(file))
    path = Path(file)
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def text_lines(text: str) -> Iterator[str]:
    """The lines of a text, cut as those of a file are."""
    return cut_lines(StringIO(text, newline=None))


def cut_lines(stream: TextIOBase) -> Iterator[str]:
    """Lines of LINE_LIMIT characters at most."""
    return iter(lambda: stream.readline(LINE_LIMIT), "")


def first_bad_byte(file: Path) -> int:
    """Where a file stops being UTF-8; a decoder reading in chunks knows only the place in its chunk."""
    position = 0
    with opened(file) as stream:
        for line in stream:
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return position + error.start
            position += len(line)
    return position
