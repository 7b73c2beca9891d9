"""text8: a hundred million characters of a Wikipedia, of which only a to z and single spaces are left."""

from functools import cached_property
from itertools import chain
from pathlib import Path

from diffusion_text.cache import cached_directory
from diffusion_text.data.files import STRETCH, FileCorpus, Piece, in_split
from diffusion_text.data.reading import SPLITS, read_lines, within
from diffusion_text.data.tables import hub_rows
from diffusion_text.errors import UserError

REPOSITORY = "afmck/text8"
SIZE = 100_000_000


class Text8(FileCorpus):
    """From the hub (`afmck/text8`), or from `dir`: the file of mattmahoney.net/dc/text8.zip, or its folder.

    90, 5 and 5 million characters, in this order, train, validate and test, as in D3PM (Austin et al. 2021). It is one
    text, with nothing between its parts.
    """

    joint = ""

    @cached_property
    def file(self) -> Path:
        """The text."""
        if self.dir is None:
            return cached_directory(self.cache_dir, "text8", {"repository": REPOSITORY}, [], download) / "text8"
        file = self.dir / "text8" if self.dir.is_dir() else self.dir
        if not file.is_file():
            raise UserError(f"there is no text8 at {file}: data.dir= takes the text file or its folder")
        return file

    @property
    def read_from(self):
        return [self.file]

    def pieces(self, split):
        size = self.file.stat().st_size
        parts = ((first, min(first + STRETCH, size)) for first in range(0, size, STRETCH))
        return in_split([Piece(str(self.file), first, last, last - first) for first, last in parts], split)

    def piece_lines(self, piece):
        return within(read_lines(self.file, piece.first, piece.last), piece.position, piece.window)

    def paragraphs_of(self, split, stretch):
        return chain.from_iterable(map(self.piece_lines, stretch))


def download(directory: Path) -> None:
    """Write the hub's text, in whatever splits it is there."""
    rows = (text for split in SPLITS for (text,) in hub_rows(REPOSITORY, None, "text8", split, ("text",)))
    (directory / "text8").write_text("".join(rows)[:SIZE], encoding="utf-8")
