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
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import torch
from lightning import LightningDataModule
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from diffusion_text.cache import cached_directory, found_in
from diffusion_text.data import described, reading, statistics, tables, tokenising
from diffusion_text.data import tokens as data_tokens
from diffusion_text.data.described import Described, Values, numbered, values_of
from diffusion_text.data.excerpts import EXCERPT, EXCERPTS, as_many, from_all_over, spread
from diffusion_text.data.reading import LEAST, SPLITS, Lines, paragraphs
from diffusion_text.data.sampling import ResumableLoader, Shares, Steps, shared
from diffusion_text.data.statistics import LatentMoments, token_statistics
from diffusion_text.data.streaming import Readers, stand_ins
from diffusion_text.data.tokenising import STATISTICS_FILE, opened, tokenise
from diffusion_text.data.tokens import TextReader, check_tokenizer, ends, pack, stream, tokenizer_digest
from diffusion_text.errors import UserError
from diffusion_text.progress import counting
from diffusion_text.values import LONGEST, flag, one_of, or_null, seed_number, whole, words

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from diffusion_text.data.sources import Source

MOST_WORKERS = 1_024
Found = TypeVar("Found")


class Encoder(Protocol):
    """Whatever turns tokens into latents ahead of training."""

    dim: int

    @property
    def fingerprint(self) -> str: ...

    def encode_raw(self, tokens: Tensor, mask: Tensor) -> Tensor: ...

    def latent_length(self, tokens: int) -> int: ...


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
        self.buffer = whole(buffer, "data.buffer", 1, LONGEST)
        self.num_proc = or_null(whole, num_proc, "data.num_proc", least=1, most=MOST_WORKERS)

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
        return self._cached("tokens", self._tokens_key(tokenizer), partial(tokenise, self, tokenizer))

    def prepare(self, tokenizer: PreTrainedTokenizerBase, encoder: Encoder | None = None) -> None:
        """Tokenise, and encode where there is an encoder. Afterwards the loaders work."""
        self.tokenizer, self.pad_token_id = tokenizer, tokenizer.pad_token_id
        self.splits = self.tokens(tokenizer)
        if encoder is not None:
            key = self._tokens_key(tokenizer) | {"encoder": encoder.fingerprint}
            self.splits = self._cached("latents", key, partial(self._encode, encoder))
        if self.streaming:
            self.statistics = token_statistics(self.splits["train"], len(tokenizer), self.length)
            return
        self.statistics = load_file(self.directory / STATISTICS_FILE)

    def _encode(self, encoder: Encoder, directory: Path) -> None:
        """Write every split with the latents of its tokens, in float16."""
        import datasets

        latents = {"latents": datasets.Array2D((None, encoder.dim), "float16")}
        features = datasets.Features(self.splits["train"].features | latents)

        def encode(batch: dict, done: Callable[[int], None]) -> dict:
            tokens, mask = pad(batch["tokens"], self.pad_token_id)
            latents = encoder.encode_raw(tokens, mask).half().cpu().numpy()
            lengths = [encoder.latent_length(len(ids)) for ids in batch["tokens"]]
            done(len(lengths))
            return {"latents": [text[:length] for text, length in zip(latents, lengths, strict=True)]}

        moments = LatentMoments(encoder.dim, self.length)
        for split, dataset in self.splits.items():
            building = directory / "building.arrow"
            with counting(f"Encoding the {split} split", len(dataset)) as done:
                encoded = dataset.map(
                    partial(encode, done=done), batched=True, batch_size=64, features=features,
                    cache_file_name=str(building), load_from_cache_file=False, new_fingerprint=split,
                )  # fmt: skip
            encoded.save_to_disk(directory / split)
            building.unlink()
        for batch in opened(directory / "train").with_format("numpy").iter(256):
            moments.add(batch["latents"])
        save_file(moments.statistics(), directory / STATISTICS_FILE)

    def _tokens_key(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
        special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        key = {"corpus": self.digest, "tokenizer": tokenizer_digest(tokenizer), "special": special}
        return key | {"length": self.length, "packing": self.packing}

    def wrap(self, ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The tokens of a text as this corpus has them: cut to its length, with `<s>` and `</s>` unless it streams."""
        start, end = ([], []) if self.packing == "stream" else ends(tokenizer)
        return [*start, *ids[: self.length - len(start) - len(end)], *end]

    def _cached(self, kind: str, key: dict[str, object], build: Callable[[Path], None]) -> dict[str, Dataset]:
        modules = (described, statistics, tokenising, data_tokens)
        code = [__file__, str(Path(__file__).with_name("files.py")), *(str(module.__file__) for module in modules)]
        self.directory = cached_directory(self.cache_dir, kind, key, code, build)
        return {split: opened(self.directory / split).with_format("torch") for split in SPLITS}

    def train_dataloader(self) -> DataLoader:
        """All steps of the training, as one epoch; a resumed run goes on after the step that it is at."""
        if self.streaming:
            return self.readers.loader()
        dataset, trainer = self.splits["train"], self.trainer
        if trainer is None:
            steps = Steps(len(dataset), 1, self.batch_size, seed=self.seed)
            return self._loader(dataset, sampler=steps, batch_size=self.batch_size)
        batches = trainer.accumulate_grad_batches
        size = self.texts_per_batch(batches * trainer.world_size)
        order = (trainer.max_steps, size, batches, *self.ranks(), self.seed, trainer.global_step)
        return self._loader(dataset, sampler=Steps(len(dataset), *order), batch_size=size)

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

    def evaluated(self, split: str) -> Dataset:
        """`eval_texts` texts from all over a split, or all where there are no more."""
        return from_all_over(self.splits[split], self.eval_texts)

    def batch(self, split: str, many: int) -> dict[str, Tensor]:
        """The first texts of those that are evaluated of a split: so many, or all."""
        texts = self.evaluated(split)
        return self.collate([texts[place] for place in range(min(many, len(texts)))])

    def _in_order(self, split: str) -> DataLoader:
        dataset = self.evaluated(split)
        return self._loader(dataset, batch_sampler=Shares(len(dataset), self.batch_size, *self.ranks()))

    def ranks(self) -> tuple[int, int]:
        """How many processes train, and which this is."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _loader(self, dataset: Dataset, **order: Any) -> DataLoader:
        return ResumableLoader(dataset, **order, collate_fn=self.collate, **self.processes())

    def processes(self) -> dict[str, Any]:
        """What loaders have in common."""
        return {"num_workers": self.num_workers, "pin_memory": torch.cuda.is_available()}

    def collate(self, texts: list[dict]) -> dict[str, Tensor]:
        """Pad to the longest text: `tokens` and `mask` `(batch, length)`, where there are latents `latents`
        `(batch, positions, dim)` and `latent_mask` `(batch, positions)`, and where something is told of them `told`
        `(batch, told)`.
        """
        tokens, mask = pad([text["tokens"] for text in texts], self.pad_token_id)
        batch = {"tokens": tokens, "mask": mask}
        if "told" in texts[0]:
            told = [text["told"] for text in texts]
            batch["told"] = torch.nn.utils.rnn.pad_sequence(told, batch_first=True, padding_value=data_tokens.NOTHING)
        if "latents" in texts[0]:
            latents = [text["latents"].float() for text in texts]
            batch["latents"] = torch.nn.utils.rnn.pad_sequence(latents, batch_first=True)
            batch["latent_mask"] = real_positions(latents)
        return batch


def pad(texts: list[Tensor], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Token ids `(batch, length)` and the mask of real ones."""
    tokens = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=pad_token_id).long()
    return tokens, real_positions(texts)


def real_positions(texts: list[Tensor]) -> Tensor:
    """The mask `(batch, length)` of texts that are padded to the longest."""
    lengths = torch.tensor([len(text) for text in texts])
    return torch.arange(int(lengths.max())) < lengths[:, None]
