"""Texts in columns of a table, read by the `datasets` library some rows at a time."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusion_text.data.reading import opened
from diffusion_text.errors import UserError
from diffusion_text.hub import hub_files

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet as pq

KINDS = (".jsonl", ".csv", ".tsv", ".parquet")
Columns = dict[str, str]  # by the setting that names them
ROWS = 1_000  # that are in memory at a time
SHOWN = 200  # characters of a parser's complaint, or of the names of columns


def read_columns(file: Path, kind: str, columns: Columns) -> Iterator[tuple[str, ...]]:
    """The texts of columns in a file of a kind of KINDS, gzipped or not; rows that lack one are left out."""
    try:
        with opened(file) as stream:
            if not stream.read(1):
                return
        for table in read_tables(file, kind, columns):
            check_table(table, file, columns)
            yield from filter(all, zip(*(table[column].to_pylist() for column in columns.values()), strict=True))
    except UserError:
        raise
    except Warning as error:
        raise UserError(f"{file} has more fields in a row than columns: quote texts that have commas") from error
    except Exception as error:  # whatever a parser raises
        reason = " ".join(str(error).split())[:SHOWN] or type(error).__name__
        raise UserError(f"cannot read {file} as {kind}: {reason}") from error


def read_tables(file: Path, kind: str, columns: Columns) -> Iterator[pyarrow.Table]:
    """A file's rows. The library takes a path for a pattern and keeps a cache: it gets a plain name in a new folder."""
    from datasets.io.csv import CsvDatasetReader
    from datasets.io.json import JsonDatasetReader
    from datasets.io.parquet import ParquetDatasetReader

    texts = dict.fromkeys(columns.values(), str)
    separated = partial(CsvDatasetReader, converters=texts, keep_default_na=False, index_col=False)
    readers = {
        ".jsonl": JsonDatasetReader,
        ".csv": separated,
        ".tsv": partial(separated, sep="\t"),
        ".parquet": ParquetDatasetReader,
    }
    with tempfile.TemporaryDirectory() as folder:
        packed = file.suffix.lower() == ".gz"
        link = Path(folder) / f"rows{kind}{'.gz' if packed else ''}"
        link.symlink_to(file.absolute())
        path = f"gzip://rows{kind}::{link}" if packed else str(link)
        rows = readers[kind](path, cache_dir=folder, streaming=True).read().with_format("arrow").iter(ROWS)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Length of header or names does not match length of data")
            first = list(islice(rows, 1))
        yield from chain(first, rows)


def parquet_rows(
    file: Path | str, columns: Columns, first: int = 0, last: int | None = None
) -> Iterator[tuple[Any, ...]]:
    """Columns of the rows of a parquet file from `first` to `last`, of which no more than ROWS are in memory."""
    with parquet(file) as content:
        check_columns(content.schema_arrow.names, file, columns)
        last = content.metadata.num_rows if last is None else last
        for group, (start, end, _) in enumerate(row_groups(content)):
            if start < last and first < end:
                for batch in content.iter_batches(ROWS, [group], [*columns.values()]):
                    part = batch.slice(min(max(0, first - start), len(batch)), max(0, last - max(first, start)))
                    start += len(batch)
                    yield from zip(*(part[column].to_pylist() for column in columns.values()), strict=True)


@contextmanager
def parquet(file: Path | str) -> Iterator[pq.ParquetFile]:
    """A parquet file; one clear line where it cannot be read."""
    import pyarrow.parquet as pq

    try:
        with opened(file) as stream:
            yield pq.ParquetFile(stream)
    except (OSError, ValueError, RuntimeError) as error:  # a parser's, or of the way to the hub
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot read {file}: {' '.join(str(error).split())[:SHOWN]}") from error


def row_groups(content: pq.ParquetFile) -> Iterator[tuple[int, int, int]]:
    """The first and the last row of each group of a parquet file's, and its size in bytes."""
    end = 0
    for number in range(content.num_row_groups):
        group = content.metadata.row_group(number)
        start, end = end, end + group.num_rows
        yield start, end, group.total_byte_size


def hub_rows(
    repository: str, revision: str | None, group: str, split: str, columns: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """Columns of a split's rows on the hub; one clear line where they cannot be had."""
    folder, names = hub_files(repository, revision, "", group)
    for name in names:
        if split in name:
            yield from parquet_rows(f"{folder}/{name}", {column: column for column in columns})


def check_columns(names: Sequence[str], file: Path | str, columns: Columns) -> None:
    """Refuse a file without the columns."""
    for setting, column in columns.items():
        if column not in names:
            told = ", ".join(names)[:SHOWN]
            raise UserError(f"{file} has no column {column!r}, only {told}: choose one with {setting}=")


def check_table(table: pyarrow.Table, file: Path, columns: Columns) -> None:
    """Refuse rows without the columns, or with something else than text in them."""
    import pyarrow as pa

    check_columns(table.column_names, file, columns)
    for setting, column in columns.items():
        kind = table.schema.field(column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            raise UserError(f"the column {column!r} of {file} holds {kind}, not text: choose another with {setting}=")
