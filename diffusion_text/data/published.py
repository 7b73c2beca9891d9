"""Corpora that the field reports its figures on, in parquet files as the hub has them, with their published splits.

They come from the hub's `repository`, or from `dir`, a copy of it. The path of a file says to which split it belongs.
"""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import ClassVar

from diffusion_text.data import detokenising
from diffusion_text.data.described import Described
from diffusion_text.data.detokenising import Rules, detokenised
from diffusion_text.data.files import FileCorpus, Piece
from diffusion_text.data.reading import text_lines
from diffusion_text.data.tables import parquet, parquet_rows, row_groups
from diffusion_text.errors import UserError
from diffusion_text.hub import REMOTE, TABLE, hub_files, tables_below
from diffusion_text.values import flag, one_of, or_null, whole

Part = tuple[str, slice]  # what the paths of files say, and which of their rows


class Published(FileCorpus):
    """Rows of parquet files; of each, what the column `text` holds is a text."""

    group: ClassVar[str]  # what data= calls it
    repository: ClassVar[str]
    revision: ClassVar[str | None] = None
    folder: ClassVar[str] = ""  # of the repository
    end: ClassVar[tuple[str, ...]] = ("\n",)  # lines that follow a row
    rules: Rules = ()

    def part(self, split: str) -> Part:
        """Which rows are a split's."""
        return split, slice(None)

    @cached_property
    def found(self) -> tuple[str, list[str]]:
        """The folder, and the files in it."""
        if self.dir is None:
            return hub_files(self.repository, self.revision, self.folder, self.group, self.streaming)
        if not self.dir.is_dir():
            raise UserError(f"data.dir={self.dir} is not a folder; data={self.group} is several files")
        folder = self.dir / self.folder if (self.dir / self.folder).is_dir() else self.dir
        return str(folder), tables_below(folder)

    def files(self, said: str) -> list[str]:
        """The files whose paths say so."""
        folder, names = self.found
        files = [f"{folder}/{name}" for name in names if said in name]
        if not files:
            raise UserError(f"{folder} has no {TABLE} file{f' with {said!r} in its path' if said else ''}")
        return files

    @property
    def read_from(self):
        folder, names = self.found
        return None if folder.startswith(REMOTE) else [Path(folder, name) for name in names]

    @cached_property
    def groups(self) -> dict[str, list[Piece]]:
        """The groups of rows of each file."""
        folder, names = self.found
        return {f"{folder}/{name}": groups_of(f"{folder}/{name}") for name in names}

    def pieces(self, split):
        said, rows = self.part(split)
        groups = [group for file in self.files(said) for group in self.groups[file]]
        ends = [*accumulate(group.last - group.first for group in groups)]
        first, last, _ = rows.indices(ends[-1])
        for group, reached in zip(groups, ends, strict=True):
            before = reached - group.last  # rows of the files before this one
            piece = group._replace(first=max(first - before, group.first), last=min(last - before, group.last))
            if piece.first < piece.last:
                yield piece

    def piece_lines(self, piece):
        for (text,) in parquet_rows(piece.file, {"data.dir": "text"}, piece.first, piece.last):
            yield from text_lines(detokenised(text or "\n", self.rules))
            yield from self.end


def groups_of(file: str) -> list[Piece]:
    """The groups of rows of a parquet file, whose sizes are in bytes."""
    with parquet(file) as content:
        return [Piece(file, *group) for group in row_groups(content)]


class OpenWebText(Published):
    """Eight million web pages, `Skylion007/openwebtext` (Gokaslan & Cohen 2019).

    Nobody publishes splits; MDLM (Sahoo et al. 2024) validates on the last hundred thousand pages. Of so many, or of
    `held_out`, half validate here and half test.
    """

    group, repository, folder = "openwebtext", "Skylion007/openwebtext", "plain_text"
    telling = ("held_out",)
    said = "train"

    def __init__(self, cache_dir: str, held_out: int = 100_000, **settings):
        super().__init__(cache_dir, **settings)
        self.held_out = whole(held_out, "data.held_out", 2)

    def part(self, split):
        first, half = -self.held_out, -(self.held_out // 2)
        return self.said, {"train": slice(first), "validation": slice(first, half), "test": slice(half, None)}[split]


class FineWebEdu(OpenWebText):
    """Educational web pages, the sample of ten billion tokens of `HuggingFaceFW/fineweb-edu` (Penedo et al. 2024).

    Nobody publishes splits: of the last `held_out` pages half validate, half test.
    """

    group, repository, folder = "fineweb_edu", "HuggingFaceFW/fineweb-edu", "sample/10BT"
    said = ""


class LM1B(Published):
    """The One Billion Word Benchmark (Chelba et al. 2013), sentences in random order, `dvruette/lm1b`; detokenised as
    D3PM's successors have it since SEDD, unless `detokenise` is false.

    Its test split, which papers report on, is parted: the first half validates.
    """

    group, repository, revision = "lm1b", "dvruette/lm1b", "refs/convert/parquet"
    telling = ("detokenise",)

    def __init__(self, cache_dir: str, detokenise: bool = True, **settings):
        super().__init__(cache_dir, **settings)
        self.detokenise = flag(detokenise, "data.detokenise")
        self.rules = detokenising.LM1B if self.detokenise else ()

    def part(self, split):
        if split == "train":
            return split, slice(None)
        half = sum(self.groups[file][-1].last for file in self.files("test")) // 2
        return "test", slice(half) if split == "validation" else slice(half, None)


class ROCStories(Published):
    """Stories of five sentences (Mostafazadeh et al. 2016), each row a story, `mintujupally/ROCStories`.

    Of its training split, the last `held_out` stories validate.
    """

    group, repository = "rocstories", "mintujupally/ROCStories"
    telling: ClassVar[tuple[str, ...]] = ("held_out",)

    def __init__(self, cache_dir: str, held_out: int = 4_000, **settings):
        super().__init__(cache_dir, **settings)
        self.held_out = whole(held_out, "data.held_out", 1)

    def part(self, split):
        if split == "test":
            return split, slice(None)
        return "train", slice(-self.held_out) if split == "train" else slice(-self.held_out, None)


class AGNews(ROCStories):
    """Headlines and first sentences of news (Zhang et al. 2015), `fancyzhx/ag_news`. With `label` topic it is known of
    each which of four topics it is about.

    Of its training split, the last `held_out` texts validate.
    """

    group, repository = "ag_news", "fancyzhx/ag_news"
    telling: ClassVar[tuple[str, ...]] = ("held_out", "label")
    topics = ("World", "Sports", "Business", "Sci/Tech")

    def __init__(self, cache_dir: str, held_out: int = 5_000, label: str | None = None, **settings):
        super().__init__(cache_dir, held_out, **settings)
        self.label = or_null(one_of, label, "data.label", options=("topic",))

    def described(self, split):
        if self.label is not None:
            for piece in self.pieces(split):
                columns = {"data.dir": "text", "data.label": "label"}
                for text, topic in parquet_rows(piece.file, columns, piece.first, piece.last):
                    yield Described({self.label: self.topics[topic]}, text)
