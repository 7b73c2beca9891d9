"""Anyone's own text."""

from itertools import chain
from pathlib import Path

from diffusion_text.data.base import TextDataModule
from diffusion_text.data.reading import read_lines, split_by_position
from diffusion_text.errors import UserError


class TextFiles(TextDataModule):
    """UTF-8 text in `dir`: a file, or a folder whose `.txt` and `.md` files are read in order of their paths.

    Split 90 / 5 / 5 % by contiguous position over the files laid end to end.
    """

    def lines(self, split):
        files = text_files(self.dir)
        return split_by_position(lambda: (line for file in files for line in chain(read_lines(file), ["\n"])), split)


def text_files(path: Path | None) -> list[Path]:
    """The text files at a path, in order."""
    if path is None:
        raise UserError("data=text_files needs data.dir=PATH, a UTF-8 text file or a folder of .txt and .md files")
    if not path.exists():
        raise UserError(f"data.dir={path} does not exist")
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.suffix in (".txt", ".md"))
    if not files:
        raise UserError(f"data.dir={path} has no .txt or .md file")
    return files
