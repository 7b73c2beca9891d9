"""Corpora in files, which are read in pieces: each by itself, once, by whatever process comes to it."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import accumulate, chain
from pathlib import Path
from typing import NamedTuple

from diffusion_text.cache import content_digest
from diffusion_text.data.base import TextDataModule
from diffusion_text.data.reading import SPLITS, Window, paragraphs, text_of, window

STRETCH = 16_000_000  # characters, or bytes, about
CHUNK = 1 << 20


class Piece(NamedTuple):
    """What lies in a file from `first` to `last`, bytes of a text or rows of a table, or to its end; `size` characters
    that begin at a `position` of a corpus, of which those in a `window` count.
    """

    file: str
    first: int
    last: int | None
    size: int
    position: int = 0
    window: Window | None = None


class FileCorpus(TextDataModule):
    """A corpus whose splits are pieces of files laid end to end."""

    @abstractmethod
    def pieces(self, split: str) -> Iterable[Piece]:
        """The pieces in which a split lies, in order."""

    @abstractmethod
    def piece_lines(self, piece: Piece) -> Iterator[str]:
        """What counts of a piece's lines."""

    @cached_property
    def digest(self):
        """A fingerprint of the content, or of a stream of its files' names and of what lies where in them."""
        if not self.streaming:
            return super().digest
        settings = [getattr(self, name) for name in self.telling]
        pieces = [[split, Path(piece.file).name, *piece[1:]] for split in SPLITS for piece in self.pieces(split)]
        return content_digest(json.dumps([settings, pieces]))

    def lines(self, split):
        return chain.from_iterable(map(self.piece_lines, self.pieces(split)))

    def stretches(self, split):
        return super().stretches(split) if self.label else grouped(self.pieces(split))

    def paragraphs_of(self, split, stretch):
        if stretch is None:
            return super().paragraphs_of(split, stretch)
        return paragraphs(chain.from_iterable(map(self.piece_lines, stretch)))


def grouped(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """Pieces in groups of STRETCH characters, or as few more as may be."""
    groups: list[list[Piece]] = [[]]
    room = STRETCH
    for piece in pieces:
        if room <= 0:
            groups.append([])
            room = STRETCH
        groups[-1].append(piece)
        room -= piece.size
    return groups


def cut(file: Path) -> Iterator[Piece]:
    """A text file in pieces of STRETCH bytes, or as few more as end a line; the last is open."""
    end, first = file.stat().st_size, 0
    while True:
        with file.open("rb") as stream:
            stream.seek(first + STRETCH)
            while (read := stream.readline(CHUNK)) and not read.endswith(b"\n"):
                pass
            last = None if stream.tell() >= end else stream.tell()
        yield Piece(str(file), first, last, characters(file, first, last))
        if last is None:
            return
        first = last


def characters(file: Path, first: int, last: int | None) -> int:
    """How many there are in some bytes of a file, as lines are read from it."""
    with text_of(file, first, last) as stream:
        return sum(map(len, iter(partial(stream.read, CHUNK), "")))


def in_split(pieces: Sequence[Piece], split: str) -> list[Piece]:
    """Of pieces that lie end to end, those in which there is something of a split by position."""
    ends = [*accumulate(piece.size for piece in pieces)]
    where = window(ends[-1], split)
    placed = zip(pieces, [0, *ends], strict=False)
    return [
        piece._replace(position=position, window=where)
        for piece, position in placed
        if position < where.last and where.first < position + piece.size
    ]
