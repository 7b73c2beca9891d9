"""Every split of a corpus as token ids on the disk: in as many processes as there are, none of which holds more than a
text of it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from diffusion_text.data.reading import SPLITS
from diffusion_text.data.statistics import token_statistics
from diffusion_text.data.tokens import TextReader, named
from diffusion_text.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, Features
    from transformers import PreTrainedTokenizerBase

    from diffusion_text.data.base import TextDataModule

STATISTICS_FILE = "statistics.safetensors"
REFUSED = "refused"  # the file in which a process leaves what it was refused with
TOGETHER = 1_000_000  # tokens that are written at once; to map a file is to touch it as often
SHORT = 1 << 16  # tokens that two bytes tell apart


def tokenise(data: TextDataModule, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write every split as token ids, and the training split's statistics."""
    import datasets

    for split in SPLITS:
        building, place = directory / "building", directory / split
        for folder in (building, place):
            folder.mkdir()
        stretches = list(enumerate(data.stretches(split)))
        texts = (text for _, stretch in stretches for text in data.rows(split, stretch, TextReader(tokenizer)))
        if next(texts, None) is None:
            raise UserError(f"{named(tokenizer)} makes no token of the {split} split: choose another")
        processes = min(data.num_proc or cores(), len(stretches))
        with refused_in(building), library_bars(), ending_at_sigterm():
            dataset = datasets.Dataset.from_generator(
                partial(texts_of, data=data, split=split, tokenizer=tokenizer, notes=building),
                features=features(data, tokenizer), gen_kwargs={"stretches": stretches}, cache_dir=str(building),
                num_proc=processes if processes > 1 else None, split=datasets.NamedSplit(split), fingerprint=split,
                writer_batch_size=-(-TOGETHER // data.length),
            )  # fmt: skip
        for file in dataset.cache_files:
            Path(file["filename"]).rename(place / Path(file["filename"]).name)
        notes = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(building.glob("*.json"))]
        unknown = [piece for pieces, _ in notes for piece in pieces]
        TextReader(tokenizer, unknown, sum(times for _, times in notes)).report(f"the {split} split")
        shutil.rmtree(building)
    save_file(token_statistics(opened(directory / "train"), len(tokenizer), data.length), directory / STATISTICS_FILE)


def texts_of(
    stretches: Sequence[tuple[int, Any]], data: TextDataModule, split: str, tokenizer: PreTrainedTokenizerBase,
    notes: Path,
) -> Iterator[dict[str, list[int]]]:  # fmt: skip
    """The texts of some stretches. What the tokenizer does not know, and a user's mistake, is noted in a file, as
    another process may be the one to tell.
    """
    for number, stretch in stretches:
        reader = TextReader(tokenizer)
        try:
            yield from data.rows(split, stretch, reader)
        except UserError as refusal:
            (notes / REFUSED).write_text(str(refusal), encoding="utf-8")
            raise
        if reader.times:
            note = json.dumps([reader.unknown, reader.times])
            (notes / f"{number:08}.json").write_text(note, encoding="utf-8")


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def refused_in(notes: Path) -> Iterator[None]:
    """A user's mistake that the `datasets` library meets on its way, as what it was."""
    from datasets.exceptions import DatasetGenerationError

    try:
        yield
    except DatasetGenerationError as error:
        if (notes / REFUSED).is_file():
            raise UserError((notes / REFUSED).read_text(encoding="utf-8")) from error
        raise


@contextmanager
def ending_at_sigterm() -> Iterator[None]:
    """Inside, processes that are started end at SIGTERM, which is how a pool ends its own, and may wait for ever where
    they do as this one does: jobs of submitit, for one, go on.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may say so
        yield
        return
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)


@contextmanager
def library_bars() -> Iterator[None]:
    """Inside, the `datasets` library shows how far it is, where someone watches."""
    import datasets

    if not sys.stdout.isatty():
        yield
        return
    datasets.enable_progress_bars()
    try:
        yield
    finally:
        datasets.disable_progress_bars()


def features(data: TextDataModule, tokenizer: PreTrainedTokenizerBase) -> Features:
    """What there is of a text, by name."""
    import datasets

    tokens = datasets.List(datasets.Value("uint16" if len(tokenizer) <= SHORT else "int32"))
    return datasets.Features(
        {"tokens": tokens} | ({"told": datasets.List(datasets.Value("int32"))} if data.tells else {})
    )


def opened(directory: Path) -> Dataset:
    """The texts of a split, memory-mapped."""
    import datasets

    files = sorted(directory.glob("*.arrow"))
    return datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in files])
