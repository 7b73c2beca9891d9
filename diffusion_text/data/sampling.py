"""The order in which training and evaluation take their texts, shared by however many processes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from diffusion_text.errors import UserError

WINDOW = 100  # steps among which texts are sorted by length


class Steps(Sampler[int]):
    """The texts of step `first`, first + 1, … up to `last`, of which each takes `batches` of `batch_size` on each of
    `ranks` processes; these are the `rank`th's.

    Every epoch has an order of its own, which follows from (seed, epoch). What does not fill a step at its end is left
    out; where the texts do not fill one step, they are repeated. So all steps are equal, and one process takes the
    same texts in a step as several that share them. Where the texts' `lengths` are given, those of a step are about as
    long as one another.
    """

    def __init__(
        self, texts: int, last: int, batch_size: int, batches: int = 1, ranks: int = 1, rank: int = 0, seed: int = 0,
        first: int = 0, lengths: Tensor | None = None,
    ):  # fmt: skip
        self.texts, self.first, self.last, self.seed, self.lengths = texts, first, last, seed, lengths
        self.shape, self.rank = (batches, ranks, batch_size), rank
        self.per_step = batches * ranks * batch_size
        self.per_epoch = steps_per_epoch(texts, self.per_step)

    def __len__(self) -> int:
        return self.last * self.shape[0] * self.shape[2]

    def __iter__(self) -> Iterator[int]:
        shuffled = None
        for step in range(self.first, self.last):
            epoch, place = divmod(step, self.per_epoch)
            if shuffled is None or place == 0:
                shuffled = self.order(epoch)
            taken = shuffled[place * self.per_step : (place + 1) * self.per_step].view(self.shape)
            yield from taken[:, self.rank].flatten().tolist()

    def order(self, epoch: int) -> Tensor:
        """The texts of an epoch, `(steps · texts a step,)` at least."""
        chance = torch.Generator().manual_seed(self.seed + epoch)
        order = torch.randperm(self.texts, generator=chance, dtype=torch.int32)
        if self.per_step > self.texts:
            return order.repeat(-(-self.per_step // self.texts))
        return order if self.lengths is None else self.by_length(order, self.lengths, chance)

    def by_length(self, order: Tensor, lengths: Tensor, chance: torch.Generator) -> Tensor:
        """The whole steps of an order, sorted by length within every WINDOW of them, which then come in any order."""
        windows = []
        for window in order[: self.per_epoch * self.per_step].split(WINDOW * self.per_step):
            steps = window[lengths[window].argsort(stable=True)].view(-1, self.per_step)
            windows.append(steps[torch.randperm(len(steps), generator=chance)].flatten())
        return torch.cat(windows)


class Shares(Sampler[list[int]]):
    """All texts in order, in batches of about `batch_size`: the `rank`th of `ranks` stretches of them.

    Every process has as many batches, and every batch a text; UserError where there are too few.
    """

    def __init__(self, texts: int, batch_size: int, ranks: int = 1, rank: int = 0):
        if texts < ranks:
            raise UserError(f"{ranks} processes cannot share {texts} texts: raise data.eval_texts, or take fewer")
        self.texts = texts
        self.batches = min(-(-texts // (ranks * batch_size)), texts // ranks)
        first, last = (texts * (rank + i) // ranks for i in range(2))
        self.ends = [first + (last - first) * i // self.batches for i in range(self.batches + 1)]

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        return (list(range(*ends)) for ends in pairwise(self.ends))


def shared(texts: int, batches: int) -> int:
    """How many texts of a step each of its batches has; UserError where it does not divide."""
    size, left = divmod(texts, batches)
    if left:
        raise UserError(
            f"data.global_batch_size={texts} is not shared evenly by the {batches} batches of a step: "
            f"choose a multiple of processes × trainer.accumulate_grad_batches"
        )
    return size


def steps_per_epoch(texts: int, per_step: int) -> int:
    """How many steps of `per_step` texts see all texts once."""
    return max(1, texts // per_step)


class ResumableLoader(DataLoader):
    """A loader whose place follows from the trainer's step, so that it has no state of its own to keep."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state_dict: dict) -> None:
        pass
