"""The latents of a corpus's texts, a split's in one array, which is mapped from the disk or lies in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusion_text.data.excerpts import from_all_over
from diffusion_text.data.statistics import LatentMoments, token_lengths
from diffusion_text.data.tokenising import STATISTICS_FILE
from diffusion_text.data.tokens import pad
from diffusion_text.errors import UserError
from diffusion_text.progress import counting
from diffusion_text.storage import check_room

if TYPE_CHECKING:
    from datasets import Dataset

    from diffusion_text.data.base import TextDataModule

CACHES = ("disk", "memory", "none")
INSTEAD = "encode them in the step, text_space.cache=none"
MOST = 10_000_000_000  # bytes that are kept where nobody says so
TOGETHER = 64  # texts that are encoded at once
MEASURED = 2_048  # texts of the training split that tell mean and covariance where no latents are kept
AT_ONCE = 16_384  # positions that are measured at once
TYPE = np.dtype("<f2")
Lengths = Mapping[str, np.ndarray]


class Encoder(Protocol):
    """What turns tokens into latents; `fingerprint` identifies its weights."""

    dim: int

    @property
    def fingerprint(self) -> str: ...

    def encode_raw(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Latents `(batch, positions, dim)` of texts `(batch, length)`; what lies beyond a text's own is padding."""

    def latent_length(self, tokens: int) -> int:
        """How many positions the latents of a text of so many tokens have."""


class Latents:
    """The latents of a split's texts `(positions, dim)`, in a file or in memory: each of `lengths` positions, from its
    own of `starts` on.
    """

    def __init__(self, kept: Path | np.ndarray, lengths: np.ndarray, starts: np.ndarray | None = None):
        self.array = kept if isinstance(kept, np.ndarray) else np.load(kept, mmap_mode="r")
        self.lengths, self.starts = lengths, np.cumsum(lengths) - lengths if starts is None else starts

    def __len__(self) -> int:
        return len(self.lengths)

    def __reduce__(self) -> tuple[type[Latents], tuple[Any, ...]]:
        kept = Path(str(self.array.filename)) if isinstance(self.array, np.memmap) else self.array
        return type(self), (kept, self.lengths, self.starts)

    def at(self, texts: Sequence[int]) -> Latents:
        """Those of some of the texts."""
        chosen = np.asarray(texts)
        return type(self)(self.array, self.lengths[chosen], self.starts[chosen])

    def batch(self, texts: Sequence[int]) -> dict[str, Tensor]:
        """`latents` `(batch, positions, dim)` of some of the texts, zero beyond each, and `latent_mask`."""
        chosen = np.asarray(texts)
        lengths = self.lengths[chosen, None]
        along = np.arange(lengths.max())
        mask = along < lengths
        found = self.array[self.starts[chosen, None] + np.minimum(along, lengths - 1)]
        found[~mask] = 0
        return {"latents": torch.from_numpy(found), "latent_mask": torch.from_numpy(mask)}


class Store(NamedTuple):
    """Each split's latents, none where they are encoded in the step; mean, covariance and lengths of the training
    split's; and where they are, in words.
    """

    splits: Mapping[str, Latents]
    statistics: dict[str, Tensor]
    about: str


def stored(data: TextDataModule, encoder: Encoder, cache: str | None) -> Store:
    """The latents of a corpus, kept in one of CACHES, or wherever their size lets them be."""
    lengths = {split: lengths_of(texts, encoder) for split, texts in data.splits.items()}
    size = sum(int(each.sum()) for each in lengths.values()) * encoder.dim * TYPE.itemsize
    if cache is None:
        cache = "none" if data.streaming or size > MOST else "disk"
    keep = {"disk": on_the_disk, "memory": in_memory, "none": nowhere}[cache]
    return keep(data, encoder, lengths, size)


def on_the_disk(data: TextDataModule, encoder: Encoder, lengths: Lengths, size: int) -> Store:
    """Encoded once, and found again by whoever encodes the same texts with the same weights."""

    def build(directory: Path) -> None:
        check_room(directory, size, "the latents", INSTEAD)
        for split, each in lengths.items():
            parts = encoded(data, split, encoder)
            write(directory / f"{split}.npy", (int(each.sum()), encoder.dim), parts)
        latents = np.load(directory / "train.npy", mmap_mode="r")
        save_file(measure(latents, lengths["train"], data.length), directory / STATISTICS_FILE)

    directory = data.cached("latents", data.key(data.tokenizer) | {"encoder": encoder.fingerprint}, build)
    splits = {split: Latents(directory / f"{split}.npy", each) for split, each in lengths.items()}
    return Store(splits, load_file(directory / STATISTICS_FILE), f"{megabytes(size)} on the disk")


def in_memory(data: TextDataModule, encoder: Encoder, lengths: Lengths, size: int) -> Store:
    """Encoded at every start."""
    if size > (most := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise UserError(
            f"the latents take {megabytes(size)} of memory, and this machine has {megabytes(most)}: {INSTEAD}"
        )
    splits = {split: Latents(filled(data, split, encoder, each), each) for split, each in lengths.items()}
    statistics = measure(splits["train"].array, lengths["train"], data.length)
    return Store(splits, statistics, f"{megabytes(size)} in memory")


def nowhere(data: TextDataModule, encoder: Encoder, lengths: Lengths, size: int) -> Store:
    """Encoded in the step; mean and covariance are those of MEASURED texts of the training split."""

    def build(directory: Path) -> None:
        texts = from_all_over(data.splits["train"], MEASURED)
        latents = np.concatenate([*encode(texts, encoder, data.pad_token_id, "texts to be measured")])
        save_file(measure(latents, lengths["train"], data.length), directory / STATISTICS_FILE)

    key = data.key(data.tokenizer) | {"encoder": encoder.fingerprint, "texts": MEASURED}
    directory = data.cached("moments", key, build)
    about = "encoded in the step" if data.streaming else f"encoded in the step, {megabytes(size)} of them in all"
    return Store({}, load_file(directory / STATISTICS_FILE), about)


def lengths_of(texts: Dataset, encoder: Encoder) -> np.ndarray:
    """How many positions the latents of each text have."""
    tokens = token_lengths(texts)
    return np.array([encoder.latent_length(many) for many in range(tokens.max() + 1)])[tokens]


def encode(texts: Dataset, encoder: Encoder, padding: int, what: str) -> Iterator[np.ndarray]:
    """The latents of texts in order, some at once, without what is beyond each: `(positions, dim)`."""
    with counting(f"Encoding {what}", len(texts)) as done:
        for rows in texts.iter(TOGETHER):
            tokens, mask = pad(rows["tokens"], padding)
            latents = encoder.encode_raw(tokens, mask)
            lengths = torch.tensor([encoder.latent_length(len(text)) for text in rows["tokens"]])
            real = torch.arange(latents.shape[1]) < lengths[:, None]
            yield latents[real.to(latents.device)].cpu().numpy().astype(TYPE)
            done(len(lengths))


def encoded(data: TextDataModule, split: str, encoder: Encoder) -> Iterator[np.ndarray]:
    """The latents of a split in order."""
    return encode(data.splits[split], encoder, data.pad_token_id, f"the {split} split")


def filled(data: TextDataModule, split: str, encoder: Encoder, lengths: np.ndarray) -> np.ndarray:
    """The latents of a split as one array, of which there is never a copy."""
    array, first = np.empty((int(lengths.sum()), encoder.dim), TYPE), 0
    for part in encoded(data, split, encoder):
        array[first : first + len(part)] = part
        first += len(part)
    return array


def write(file: Path, shape: tuple[int, int], parts: Iterable[np.ndarray]) -> None:
    """Write an array of this shape part by part: so a full disk is an error, and no process is killed by it."""
    header = {"descr": TYPE.str, "fortran_order": False, "shape": shape}
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[arg-type]
        for part in parts:
            stream.write(part.tobytes())


def measure(latents: np.ndarray, lengths: np.ndarray, longest: int) -> dict[str, Tensor]:
    """Mean and covariance of latents `(positions, dim)`, and how often each of the lengths occurs."""
    moments = LatentMoments(latents.shape[1], longest)
    moments.count(lengths)
    for first in range(0, len(latents), AT_ONCE):
        moments.add(latents[first : first + AT_ONCE])
    return moments.statistics()


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:,.0f} MB"
