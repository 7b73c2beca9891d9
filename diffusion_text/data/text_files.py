"""Anyone's own text."""

import logging
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path

from diffusion_text.data import tables
from diffusion_text.data.described import Described
from diffusion_text.data.files import FileCorpus, Piece, cut, in_split
from diffusion_text.data.reading import paragraphs, read_lines, text_lines, within
from diffusion_text.errors import UserError
from diffusion_text.values import one_of, or_null, words

log = logging.getLogger(__name__)
PROSE = (".txt", ".md")
READ = (*PROSE, *tables.KINDS)
END = "\n"  # of a file, and of a row
NAMED = 2  # files left out that the log names


class TextFiles(FileCorpus):
    """Text in `dir`: a file, or a folder whose `.txt`, `.md`, `.jsonl`, `.csv`, `.tsv` and `.parquet` files are read in
    order of their paths, also where they are gzipped (`.gz`).

    Of the last four it is what the `column` holds, each row a text. All else is UTF-8 text as it stands. Split
    90 / 5 / 5 % by contiguous position over the files laid end to end. With `label` folder each paragraph, or row, is a
    text, of which it is known in which folder of `dir` it lies, and every folder is split so by itself.
    """

    telling = ("column", "label")

    def __init__(self, cache_dir: str, column: str = "text", label: str | None = None, **settings):
        super().__init__(cache_dir, **settings)
        self.column = words(column, "data.column")
        self.label = or_null(one_of, label, "data.label", options=("folder",))

    @cached_property
    def files(self) -> list[Path]:
        """The files that are read; the log has what they are and what is left out."""
        if self.dir is None:
            raise UserError("data=text_files needs data.dir=PATH, a file or a folder of text")
        try:
            files, left_out = found(self.dir)
            size = readable(sum(file.stat().st_size for file in files))
        except OSError as error:
            raise UserError(f"cannot read data.dir={self.dir}: {error.strerror}") from error
        what = files[0].name if len(files) == 1 else f"{len(files)} files"
        where = self.dir if self.dir.is_dir() else self.dir.parent
        line = f"Reading {what} of {size} in {where}" + told([file.relative_to(where) for file in left_out])
        log.info("%s", line.encode(errors="replace").decode())
        return files

    @property
    def read_from(self):
        return self.files

    @cached_property
    def counted(self) -> dict[str, list[Piece]]:
        """The files' pieces, by the folder that they lie in where that is a label."""

        def count() -> dict[str, list[Piece]]:
            folders = self.labelled if self.label else {"": self.files}
            return {folder: [piece for file in files for piece in self.cut(file)] for folder, files in folders.items()}

        found = self.once("pieces", count)
        return {folder: [Piece(*piece) for piece in pieces] for folder, pieces in found.items()}

    def cut(self, file: Path) -> list[Piece]:
        """A file's pieces; one where it has to be read from its beginning."""
        if kind(file) in tables.KINDS or file.suffix.lower() == ".gz":
            whole = Piece(str(file), 0, None, 0)
            return [whole._replace(size=sum(map(len, self.file_lines(whole))))]
        *before, last = cut(file)
        return [*before, last._replace(size=last.size + len(END))]

    @property
    def labelled(self) -> dict[str, list[Path]]:
        """The files by the folder that they lie in."""
        folders: dict[str, list[Path]] = {}
        for file in self.files:
            inside = file.relative_to(self.dir).parts if self.dir and self.dir.is_dir() else ()
            if len(inside) < 2:
                raise UserError(f"{file} lies in no folder of data.dir={self.dir}, as data.label=folder needs it")
            folders.setdefault(inside[0], []).append(file)
        return folders

    def pieces(self, split):
        return [piece for pieces in self.counted.values() for piece in in_split(pieces, split)]

    def piece_lines(self, piece):
        return within(self.file_lines(piece), piece.position, piece.window)

    def file_lines(self, piece: Piece) -> Iterator[str]:
        """A piece's lines; a blank one ends the file, and each row of a table."""
        file = Path(piece.file)
        if kind(file) in tables.KINDS:
            for (text,) in tables.read_columns(file, kind(file), {"data.column": self.column}):
                yield from text_lines(text)
                yield END
        else:
            yield from read_lines(file, piece.first, piece.last)
            if piece.last is None:
                yield END

    def lines(self, split):
        return (
            super().lines(split)
            if self.label is None
            else (line for pieces in self.counted.values() for line in chain(self.lines_in(pieces, split), [END]))
        )

    def lines_in(self, pieces: list[Piece], split: str) -> Iterator[str]:
        """A split's lines of pieces that are split by themselves."""
        return chain.from_iterable(map(self.piece_lines, in_split(pieces, split)))

    def described(self, split):
        if self.label is not None:
            for label, pieces in self.counted.items():
                yield from (Described({"folder": label}, text) for text in paragraphs(self.lines_in(pieces, split)))


def found(path: Path) -> tuple[list[Path], list[Path]]:
    """The files at a path that are read, and those that are left out, in order."""
    if not path.exists():
        raise UserError(f"data.dir={path} does not exist")
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise UserError(f"data.dir={path} is neither a file nor a folder")
    files: list[Path] = []
    left_out: list[Path] = []
    for file in sorted(path.rglob("*")):
        if not file.is_dir():
            (files if file.is_file() and kind(file) in READ else left_out).append(file)
    if not files:
        raise UserError(f"data.dir={path} has no {', '.join(READ[:-1])} or {READ[-1]} file")
    return files, left_out


def told(left_out: list[Path]) -> str:
    """What is left out, as a line of the log goes on with it."""
    more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    return f"; left out: {', '.join(map(str, left_out[:NAMED]))}{more}" if left_out else ""


def kind(file: Path) -> str:
    """A file's suffix in lower case, gzipped or not."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def readable(size: int) -> str:
    """Bytes in a unit that fits."""
    units = {"GB": 1e9, "MB": 1e6, "kB": 1e3}
    return next((f"{size / unit:.1f} {name}" for name, unit in units.items() if size >= unit), f"{size} bytes")
