"""From a corpus to batches: paragraphs, splits, tokens, latents.

A corpus is a sequence of paragraphs. Its splits are contiguous stretches of it, so no text of one overlaps a text of
another. Consecutive paragraphs are packed into texts of at most `length` tokens, `<s>` and `</s>` included where the
tokenizer has them; a longer paragraph is cut. With `packing` stream, texts are stretches of exactly `length` tokens
instead, wherever that cuts, and nothing is put around them. Tokens, and latents where a text space encodes ahead of
training, are memory-mapped from a cache.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from lightning import LightningDataModule
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from diffusion_text.cache import cached_directory, found_in
from diffusion_text.data import described, latents, reading, statistics, tables, tokenising
from diffusion_text.data import tokens as data_tokens
from diffusion_text.data.described import Described, Values, numbered, values_of
from diffusion_text.data.excerpts import EXCERPT, EXCERPTS, as_many, spread
from diffusion_text.data.latents import Encoder, Latents, Store, stored
from diffusion_text.data.reading import LEAST, SPLITS, Lines, paragraphs
from diffusion_text.data.sampling import ResumableLoader, Shares, Steps, shared
from diffusion_text.data.statistics import token_lengths, token_statistics
from diffusion_text.data.streaming import Readers, stand_ins
from diffusion_text.data.tokenising import STATISTICS_FILE, opened, tokenise
from diffusion_text.data.tokens import TextReader, check_tokenizer, ends, pack, pad, stream, tokenizer_digest
from diffusion_text.errors import UserError
from diffusion_text.values import LONGEST, flag, one_of, or_null, seed_number, whole, words

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from diffusion_text.data.sources import Source

MOST_WORKERS = 1_024
FOUR = 4  # positions by which the lengths of batches differ that are long or short as their texts are
Found = TypeVar("Found")


class TextDataModule(LightningDataModule, ABC):
    """A corpus in three splits. Subclasses say where its lines come from: `lines(split)`, or `all_lines()`.

    `prepare` gives it a tokenizer, and an encoder where texts are to be encoded once and cached. A batch has
    `batch_size` texts; in training its share of `global_batch_size`, where that is given, which all of a step's have.
    """

    def __init__(
        self,
        cache_dir: str,
        length: int = 64,
        batch_size: int = 32,
        global_batch_size: int | None = None,
        seed: int = 0,
        dir: str | None = None,
        num_workers: int = 0,
        packing: str = "paragraphs",
        eval_texts: int = 1024,
        num_proc: int | None = None,
        streaming: bool = False,
        buffer: int = 10_000,
        bucket: bool = False,
    ):
        super().__init__()
        self.cache_dir = words(cache_dir, "cache_dir")
        self.length = whole(length, "data.length", 4, LONGEST)
        self.batch_size = whole(batch_size, "data.batch_size", 1, LONGEST)
        self.global_batch_size = or_null(whole, global_batch_size, "data.global_batch_size", least=1, most=LONGEST)
        self.seed = seed_number(seed, "data.seed")
        self.dir = None if dir is None else Path(words(dir, "data.dir"))
        self.num_workers = whole(num_workers, "data.num_workers", 0, MOST_WORKERS)
        self.packing = one_of(packing, "data.packing", ("paragraphs", "stream"))
        self.eval_texts = whole(eval_texts, "data.eval_texts", 1)
        self.streaming, self.readers = flag(streaming, "data.streaming"), Readers(self)
        self.buffer, self.bucket = whole(buffer, "data.buffer", 1, LONGEST), flag(bucket, "data.bucket")
        self.num_proc = or_null(whole, num_proc, "data.num_proc", least=1, most=MOST_WORKERS)

    store: Store | None = None  # of latents, where texts are encoded
    licence: str | None = None  # of its texts, where that is known
    label: str | None = None  # what is known of each text, one of a set, which it need not say
    joint: ClassVar[str] = "\n\n"  # what stands between two paragraphs
    telling: ClassVar[tuple[str, ...]] = ()  # settings that the texts depend on, beside the files

    @abstractmethod
    def lines(self, split: str) -> Lines:
        """The split's lines, read anew at each call. Blank lines part paragraphs."""

    def stretches(self, split: str) -> Sequence[Any]:
        """Parts of a split that can be read each by itself, in order, so that several processes can read it."""
        return [None]

    def paragraphs_of(self, split: str, stretch: Any) -> Iterator[str]:
        """The paragraphs of a stretch in order."""
        return paragraphs(self.lines(split))

    def paragraphs(self, split: str) -> Iterator[str]:
        """The split's paragraphs in order."""
        return chain.from_iterable(self.paragraphs_of(split, stretch) for stretch in self.stretches(split))

    def excerpt(self) -> Iterator[str]:
        """The training split's paragraphs, of a large one some from all over it: what a tokenizer is learned from."""
        chosen = spread(self.stretches("train"), EXCERPTS)
        return chain.from_iterable(
            as_many(self.paragraphs_of("train", stretch), EXCERPT // len(chosen)) for stretch in chosen
        )

    @property
    def read_from(self) -> Sequence[Path] | None:
        """The files that the corpus is read from, by which it is known again; None where that cannot be told."""
        return None

    def once(self, what: str, find: Callable[[], Found]) -> Found:
        """What `find` finds in the corpus; from the cache, where it is one in which that was found before."""
        if (files := self.read_from) is None:
            return find()
        settings = {name: getattr(self, name) for name in self.telling}
        modules = (sys.modules[type(self).__module__], described, reading, tables)
        code = [__file__, *(str(module.__file__) for module in modules)]
        return found_in(files, self.cache_dir, what, {"corpus": type(self).__name__, **settings}, code, find)

    @property
    def tells(self) -> str | None:
        """What batches bring as `told` of each text: attributes, another text, or nothing."""
        return "attributes" if self.attributes else None

    def described(self, split: str) -> Iterable[Described]:
        """The texts of a split with what is known of each; none where nothing is."""
        return ()

    @cached_property
    def attributes(self) -> Values:
        """What its texts may be asked for: the values of each attribute in the training split."""

        def find() -> Values:
            return values_of(self.described("train"))

        return self.once("attributes", find) if self.label else find()

    def says(self, text: str, name: str, value: str) -> bool:
        """Whether a text, in lower case, says that an attribute has a value: word for word."""
        return re.search(rf"(?<!\w){re.escape(value.lower())}(?!\w)", text) is not None

    def rows(self, split: str, stretch: Any, reader: TextReader) -> Iterator[dict[str, list[int]]]:
        """The `tokens` of each text of a stretch, and where there are attributes what it is `told` to be: the number of
        a value of each, from 1 on, or 0. Texts of which something is known stay apart, cut to `length`.
        """
        if self.attributes:
            return (
                {"tokens": self.wrap(reader.ids(text), reader.tokenizer), "told": numbered(known, self.attributes)}
                for known, text in self.described(split)
            )
        return ({"tokens": text} for text in self.packed(self.paragraphs_of(split, stretch), reader))

    def packed(self, paragraphs: Iterable[str], reader: TextReader) -> Iterator[list[int]]:
        """Consecutive paragraphs in texts."""
        return (pack if self.packing == "paragraphs" else stream)(paragraphs, reader, self.length, self.joint)

    @cached_property
    def source(self) -> Source | None:
        """What the texts are drawn from, where that is known."""
        return None

    @cached_property
    def digest(self) -> str:
        """A fingerprint of the corpus's content; refuses one that has nothing to train on."""
        return self.once("digest", self.read_through)

    def read_through(self) -> str:
        """The digest, from the content."""
        digest = hashlib.sha256()
        for split in SPLITS:
            size = 0
            for paragraph in self.paragraphs(split):
                size += len(paragraph)
                digest.update(paragraph.encode() + b"\0")
            if size < LEAST:
                raise UserError(
                    f"the corpus is too small: its {split} split has {size} characters and needs at least {LEAST}; "
                    "give more text, or use data=python_docs"
                )
            digest.update(split.encode())
            for known, _ in self.described(split):
                digest.update(json.dumps(known).encode())
        return digest.hexdigest()[:16]

    def tokens(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Dataset]:
        """The texts of every split as token ids, from the cache; of a stream some of each, which stand for all."""
        check_tokenizer(tokenizer)
        if self.streaming:
            return stand_ins(self, tokenizer)
        self.directory = self.cached("tokens", self.key(tokenizer), partial(tokenise, self, tokenizer))
        return {split: opened(self.directory / split).with_format("torch") for split in SPLITS}

    def prepare(
        self, tokenizer: PreTrainedTokenizerBase, encoder: Encoder | None = None, cache: str | None = None
    ) -> None:
        """Tokenise, and encode where there is an encoder; `cache`: where its latents are kept, one of CACHES, or None
        for wherever their size lets them be. Afterwards the loaders work.
        """
        self.tokenizer, self.pad_token_id = tokenizer, tokenizer.pad_token_id
        self.splits = self.tokens(tokenizer)
        self.store = None if encoder is None else stored(self, encoder, cache)
        if self.store is not None:
            self.statistics = self.store.statistics
        elif self.streaming:
            self.statistics = token_statistics(self.splits["train"], len(tokenizer), self.length)
        else:
            self.statistics = load_file(self.directory / STATISTICS_FILE)

    def wrap(self, ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The tokens of a text as this corpus has them, cut to its length."""
        return self.enclosed(ids[: self.length - len(self.enclosed([], tokenizer))], tokenizer)

    def enclosed(self, ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The tokens of a text between `<s>` and `</s>`, unless the corpus is a stream."""
        start, end = ([], []) if self.packing == "stream" else ends(tokenizer)
        return [*start, *ids, *end]

    def key(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
        """What the token ids of its texts depend on."""
        special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        key = {"corpus": self.digest, "tokenizer": tokenizer_digest(tokenizer), "special": special}
        return key | {"length": self.length, "packing": self.packing}

    def cached(self, kind: str, key: dict[str, object], build: Callable[[Path], None]) -> Path:
        """The directory that `build` fills with what depends on this key; once."""
        modules = (described, latents, statistics, tokenising, data_tokens)
        code = [__file__, str(Path(__file__).with_name("files.py")), *(str(module.__file__) for module in modules)]
        return cached_directory(self.cache_dir, kind, key, code, build)

    def train_dataloader(self) -> DataLoader:
        """All steps of the training, as one epoch; a resumed run goes on after the step that it is at."""
        if self.streaming:
            return self.readers.loader()
        texts, trainer = self.batches("train"), self.trainer
        if trainer is None:
            steps = Steps(len(texts), 1, self.batch_size, seed=self.seed)
            return self._loader(texts, sampler=steps, batch_size=self.batch_size)
        batches = trainer.accumulate_grad_batches
        size = self.texts_per_batch(batches * trainer.world_size)
        lengths = torch.from_numpy(token_lengths(self.splits["train"])) if self.bucket else None
        order = (trainer.max_steps, size, batches, *self.ranks(), self.seed, trainer.global_step, lengths)
        return self._loader(texts, sampler=Steps(len(texts), *order), batch_size=size)

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Keep tokens and mask `on_host`, too: what is made of them in Python then need not wait for a device."""
        return batch | {"on_host": (batch["tokens"].numpy(), batch["mask"].numpy())}

    def texts_per_batch(self, batches: int) -> int:
        """The texts of each of the `batches` that make a step, on all processes; refuses what does not divide."""
        return self.batch_size if self.global_batch_size is None else shared(self.global_batch_size, batches)

    def state_dict(self) -> dict[str, Any]:
        return self.readers.state() if self.streaming else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.streaming:
            self.readers.restore(state_dict)

    def val_dataloader(self) -> DataLoader:
        return self._in_order("validation")

    def test_dataloader(self) -> DataLoader:
        return self._in_order("test")

    def batches(self, split: str, many: int | None = None) -> Batches:
        """A split, or so many texts from all over it."""
        texts = self.splits[split]
        store = None if self.store is None else self.store.splits.get(split)
        if many is not None:
            chosen = spread(range(len(texts)), many)
            texts, store = texts.select(chosen), None if store is None else store.at(chosen)
        return Batches(texts, self.collate, store)

    def evaluated(self, split: str) -> Batches:
        """`eval_texts` texts from all over a split, or all where there are no more."""
        return self.batches(split, self.eval_texts)

    def batch(self, split: str, many: int) -> dict[str, Tensor]:
        """The first texts of those that are evaluated of a split: so many, or all."""
        texts = self.evaluated(split)
        return texts.__getitems__(range(min(many, len(texts))))

    def _in_order(self, split: str) -> DataLoader:
        texts = self.evaluated(split)
        return self._loader(texts, batch_sampler=Shares(len(texts), self.batch_size, *self.ranks()))

    def ranks(self) -> tuple[int, int]:
        """How many processes train, and which this is."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _loader(self, texts: Batches, **order: Any) -> DataLoader:
        return ResumableLoader(texts, **order, collate_fn=as_it_is, **self.processes())

    def processes(self) -> dict[str, Any]:
        """What loaders have in common."""
        return {"num_workers": self.num_workers, "pin_memory": torch.cuda.is_available()}

    def collate(self, texts: list[dict]) -> dict[str, Tensor]:
        """Pad to the longest text, or beyond it to a multiple of FOUR where each batch has a length of its own, since
        kernels are kept for every length: `tokens` and `mask` `(batch, length)`, and where something is told of them
        `told` `(batch, told)`.
        """
        tokens, mask = pad([text["tokens"] for text in texts], self.pad_token_id)
        if self.bucket:
            beyond = (0, min(-tokens.shape[1] % FOUR, self.length - tokens.shape[1]))
            tokens, mask = F.pad(tokens, beyond, value=self.pad_token_id), F.pad(mask, beyond)
        batch = {"tokens": tokens, "mask": mask}
        if "told" in texts[0]:
            told = [text["told"] for text in texts]
            batch["told"] = torch.nn.utils.rnn.pad_sequence(told, batch_first=True, padding_value=data_tokens.NOTHING)
        return batch


class Batches(torch.utils.data.Dataset):
    """The texts of a split, brought batch by batch: what `collate` makes of their rows, and their latents."""

    def __init__(
        self, texts: Dataset, collate: Callable[[list[dict]], dict[str, Tensor]], latents: Latents | None = None
    ):
        self.texts, self.collate, self.latents = texts, collate, latents

    def __len__(self) -> int:
        return len(self.texts)

    def __getitems__(self, places: Sequence[int]) -> dict[str, Tensor]:
        batch = self.collate(self.texts.__getitems__(list(places)))
        return batch if self.latents is None else batch | self.latents.batch(places)


def as_it_is(batch: Any) -> Any:
    """A batch that is one already."""
    return batch
