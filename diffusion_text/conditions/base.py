"""What every condition is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffusion_text.shapes import Context, Counts, Told


class Condition(nn.Module, ABC):
    """From what a batch is `told` of each text to vectors of `width` channels, which the denoiser reads before it."""

    width: int
    remembers: int

    @abstractmethod
    def forward(self, told: Told) -> Context: ...

    @abstractmethod
    def hidden(self, told: Told, chances: Float[Tensor, "batch drawn"]) -> Told:
        """What is told of each text in training, which must also do without; `chances`, `draws` of them a text, are
        uniform in [0, 1).
        """

    @property
    @abstractmethod
    def draws(self) -> int:
        """How many chances `hidden` takes for a text."""

    @abstractmethod
    def asked(self, wanted: Mapping[str, Any]) -> Int[Tensor, attributes]:
        """What a user wants of a text, as batches bring it; raises UserError where there is no such thing."""

    @abstractmethod
    def targets(self) -> Iterator[Mapping[str, str]]:
        """All that can be asked for by itself, as `asked` takes it."""

    @abstractmethod
    def remember(self, told: Told, lengths: Counts) -> None:
        """Take over texts of the training split, `remembers` of them at most, from which `lengths_of` goes."""

    @abstractmethod
    def lengths_of(self, told: Int[Tensor, attributes]) -> Counts:
        """Lengths of the training texts that are most of what is asked for."""


def draw_lengths(condition: Condition, told: Told, generators: list[torch.Generator]) -> Counts:
    """Lengths that texts of what is asked for have in training, each drawn with its own generator."""
    like = [condition.lengths_of(asked) for asked in told]
    places = [torch.randint(len(each), (), generator=own) for each, own in zip(like, generators, strict=True)]
    return torch.stack([each[place] for each, place in zip(like, places, strict=True)])
