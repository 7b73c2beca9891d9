"""Anyone's own pairs of texts: one that is told, and one that is to be written."""

from functools import cached_property
from itertools import chain
from pathlib import Path

from diffusion_text.data import tables
from diffusion_text.data.base import TextDataModule
from diffusion_text.data.described import Described, split_by_description
from diffusion_text.data.text_files import kind
from diffusion_text.errors import UserError
from diffusion_text.values import words


class Pairs(TextDataModule):
    """Two columns of a table in `dir`, a `.jsonl`, `.csv`, `.tsv` or `.parquet` file, also where it is gzipped: the
    `source` is told of the `target`, each a text of its own, cut to `length`.

    Nine tenths of the sources are trained on, and two twentieths are validation and test, each with all its targets.
    """

    tells = "another text"
    telling = ("source_column", "target_column")

    def __init__(self, cache_dir: str, source: str = "source", target: str = "target", **settings):
        super().__init__(cache_dir, **settings)
        self.source_column = words(source, "data.source")
        self.target_column = words(target, "data.target")

    @property
    def file(self) -> Path:
        """The table."""
        if self.dir is None or not self.dir.is_file() or kind(self.dir) not in tables.KINDS:
            raise UserError(f"data=pairs needs data.dir=FILE, a {', '.join(tables.KINDS[:-1])} or {tables.KINDS[-1]}")
        return self.dir

    @property
    def read_from(self):
        return [self.file]

    @cached_property
    def pairs(self) -> dict[str, list[Described]]:
        """Those of each split."""
        columns = {"data.source": self.source_column, "data.target": self.target_column}
        rows = tables.read_columns(self.file, kind(self.file), columns)
        return split_by_description(Described({"source": source}, target) for source, target in rows)

    def lines(self, split):
        return chain.from_iterable((pair.known["source"], "\n", pair.text, "\n") for pair in self.pairs[split])

    def rows(self, split, stretch, reader):
        return (
            {name: self.wrap(reader.ids(text), reader.tokenizer) for name, text in texts.items()}
            for texts in ({"tokens": pair.text, "told": pair.known["source"]} for pair in self.pairs[split])
        )
