"""Texts for training as they come: tokenised on the way, kept nowhere.

Every reader has stretches of the corpus of its own, in another order each epoch, and shuffles texts in blocks. So the
order follows from (seed, reader, place), and a place is a few numbers by which a reader goes on exactly there: it fills
the block anew. The buffer of the `datasets` library would be empty then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from diffusion_text.data.excerpts import EXCERPTS, as_many, spread
from diffusion_text.data.reading import SPLITS
from diffusion_text.data.sampling import ResumableLoader
from diffusion_text.data.tokenising import features
from diffusion_text.data.tokens import TextReader, named
from diffusion_text.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from diffusion_text.data.base import TextDataModule

PORTION = 250_000  # characters that are packed into texts by themselves
KEPT = 4  # steps whose places are known, of which one may be saved while the next are made
KNOWN = 10_000  # texts of the training split that stand for all of it
Text = np.ndarray


class Place(NamedTuple):
    """`taken` texts after the beginning of a `block`, whose first text is a `text` of a portion of a stretch of an
    epoch; all of them counted from 0.
    """

    epoch: int = 0
    stretch: int = 0
    portion: int = 0
    text: int = 0
    block: int = 0
    taken: int = 0


class Stream(IterableDataset):
    """The batches of a process, of `size` texts, without end, each with the `place` after it.

    Its workers take turns, and so do their places: that whose turn comes first reads as the `first`th of them.
    """

    def __init__(
        self, data: TextDataModule, size: int, places: list[Place], rank: int, ranks: int, first: int, batches: int
    ):
        self.data, self.size, self.places, self.rank, self.ranks = data, size, places, rank, ranks
        self.first, self.batches = first, batches

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker, data = get_worker_info(), self.data
        turn = (self.first + worker.id) % worker.num_workers if worker else 0
        reader = self.rank * len(self.places) + turn
        texts = self.shuffled(self.places[turn], reader)
        try:
            while batch := list(islice(texts, self.size)):
                rows = [{"tokens": torch.from_numpy(text)} for _, text in batch]
                yield data.collate(rows) | {"place": torch.tensor(batch[-1][0])}
        except UserError as refusal:  # which a worker would tell in many lines
            yield {"refused": str(refusal)}

    def shuffled(self, place: Place, reader: int) -> Iterator[tuple[Place, Text]]:
        """The texts after a place, each with the place after it: those of a block in any order, while the next block is
        read.
        """
        texts = self.texts(place, reader)
        block = list(islice(texts, self.data.buffer))
        for number in count(place.block):
            following = []
            order = np.random.default_rng([self.data.seed, reader, number]).permutation(len(block))
            for taken, which in enumerate(order, 1):
                following.append(next(texts))
                if (number, taken) > place[-2:]:
                    yield block[0][0]._replace(block=number, taken=taken), block[which][1]
            block = following

    def texts(self, place: Place, reader: int) -> Iterator[tuple[Place, Text]]:
        """The texts from that with which the block of a place begins, each with where it lies. Where there are fewer
        stretches than readers, all read all of them and take every so manieth portion.
        """
        data, readers = self.data, self.ranks * len(self.places)
        stretches, tokens = data.stretches("train"), TextReader(data.tokenizer)
        shared = len(stretches) < readers
        own = stretches if shared else stretches[reader::readers]
        for epoch in count(place.epoch):
            found = False
            order = torch.randperm(len(own), generator=torch.Generator().manual_seed(data.seed + epoch)).tolist()
            for number, which in enumerate(order):
                if (epoch, number) < place[:2]:
                    continue
                for portion, paragraphs in enumerate(portions(data.paragraphs_of("train", own[which]))):
                    if (epoch, number, portion) < place[:3] or (shared and (which + portion) % readers != reader):
                        continue
                    for text, ids in enumerate(data.packed(paragraphs, tokens)):
                        found = True
                        where = Place(epoch, number, portion, text)
                        if where[:4] >= place[:4]:
                            yield where, np.array(ids, dtype=np.int32)
            if not found and epoch > place.epoch:
                raise UserError(f"there is too little text for {readers} processes to stream: lower data.num_workers")


class StreamLoader(ResumableLoader):
    """A process's batches, and the places of its workers `after` each of the last steps."""

    def __init__(self, stream: Stream, per_step: int, after: dict[int, list[Place]], **settings: Any):
        self.per_step, self.after = per_step, after
        super().__init__(stream, batch_size=None, **settings)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:  # type: ignore[override]
        places = [*self.dataset.places]  # type: ignore[attr-defined]
        for number, batch in enumerate(super().__iter__(), self.dataset.first):  # type: ignore[attr-defined]
            if "refused" in batch:
                raise UserError(batch["refused"])
            places[number % len(places)] = Place(*batch.pop("place").tolist())
            step, rest = divmod(number + 1, self.per_step)
            if not rest:
                self.after[step] = [*places]
                self.after.pop(step - KEPT, None)
            yield batch


class Readers:
    """The readers of a corpus's stream: one in each process, or one in each of its workers."""

    def __init__(self, data: TextDataModule):
        self.data = data
        self.places: list[list[Place]] = []  # that a checkpoint has, process by process
        self.after: dict[int, list[Place]] = {}

    def loader(self) -> StreamLoader:
        """All steps of the training, as one epoch; a resumed run's from where its readers were."""
        data, trainer = self.data, self.data.trainer
        ranks, rank = data.ranks()
        last, step, per_step = (
            (trainer.max_steps, trainer.global_step, trainer.accumulate_grad_batches) if trainer else (1, 0, 1)
        )
        places = self.places[rank] if step else [Place()] * max(1, data.num_workers)
        self.after = {step: places}
        size = data.texts_per_batch(per_step * ranks)
        stream = Stream(data, size, places, rank, ranks, step * per_step, last * per_step)
        return StreamLoader(stream, per_step, self.after, **data.processes())

    def state(self) -> dict[str, Any]:
        """Where they are after the step that was made last, in plain values."""
        trainer = self.data.trainer
        if trainer is None or not self.after:
            return {}
        own = [[*place] for place in self.after[trainer.global_step]]
        places: list[Any] = [own] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(places, own)
        return {"places": places}

    def restore(self, state: dict[str, Any]) -> None:
        """Have them go on there."""
        self.places = [[Place(*place) for place in own] for own in state["places"]]
        before, now = (len(self.places), len(self.places[0])), (self.data.ranks()[0], max(1, self.data.num_workers))
        if before != now:
            raise UserError(
                f"this stream was read by {before[0]} × {before[1]} processes, and {now[0]} × {now[1]} cannot go on "
                "from there: keep devices and data.num_workers as they were"
            )


def portions(paragraphs: Iterable[str]) -> Iterator[list[str]]:
    """Paragraphs in groups of PORTION characters, or as many more as there are in one."""
    paragraphs = iter(paragraphs)
    while portion := list(as_many(paragraphs, PORTION)):
        yield portion


def stand_ins(data: TextDataModule, tokenizer: PreTrainedTokenizerBase) -> dict[str, Dataset]:
    """Texts of every split that stand for all of it: KNOWN of training, and those that are evaluated."""
    many = {"train": KNOWN, "validation": data.eval_texts, "test": data.eval_texts}
    return {split: sampled(data, tokenizer, split, many[split]).with_format("torch") for split in SPLITS}


def sampled(data: TextDataModule, tokenizer: PreTrainedTokenizerBase, split: str, many: int) -> Dataset:
    """So many texts from all over a split, in memory; or fewer, where its parts have fewer."""
    import datasets

    chosen = spread(data.stretches(split), EXCERPTS)
    reader, each = TextReader(tokenizer), -(-many // len(chosen))
    rows = [text for stretch in chosen for text in islice(data.rows(split, stretch, reader), each)]
    if not rows:
        raise UserError(f"{named(tokenizer)} makes no token of the {split} split: choose another")
    reader.report(f"{len(rows)} texts of the {split} split")
    return datasets.Dataset.from_list(rows[:many], features=features(data, tokenizer))
