"""What every condition is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffusion_text.errors import UserError
from diffusion_text.shapes import Context, Counts, PerText, Told
from diffusion_text.text_spaces.base import TextSpace


class Condition(nn.Module, ABC):
    """From what is `told` of each text to vectors of `width` channels, which the denoiser reads beside it.

    It is made for texts whose attributes have these `values`, and a text space of `dim` channels. One that
    `reads` something needs a corpus that tells it.
    """

    width: int
    reads: ClassVar[str | None] = None
    remembers: ClassVar[int] = 0  # texts of the training split
    on_host: ClassVar[bool] = False  # whether what is known of a text is made of its tokens in Python

    def __init__(self, values: Mapping[str, Sequence[str]], dim: int):
        super().__init__()

    @abstractmethod
    def forward(self, told: Told, space: TextSpace) -> Context: ...

    @abstractmethod
    def known(self, batch: dict[str, Tensor], space: TextSpace, chances: Float[Tensor, "batch drawn"]) -> Told:
        """All that there is to tell of a batch's texts; `chances`, `draws` of them a text, are uniform in [0, 1)."""

    @abstractmethod
    def hidden(self, told: Told, chances: Float[Tensor, "batch drawn"]) -> Told:
        """What is told of each text in training, which must also do without."""

    @property
    @abstractmethod
    def draws(self) -> int:
        """How many chances a text takes."""

    @abstractmethod
    def asked(self, wanted: Mapping[str, Any], read: Callable[[str, str], Int[Tensor, length]]) -> Int[Tensor, told]:
        """What a user wants of a text, as it is told; raises UserError where there is no such thing. `read` makes
        tokens of a text that is the value of a setting.
        """

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether a text can be asked to be something of this name."""

    def sayable(self, told: Told) -> Told:
        """Of what there is to tell what a user could say."""
        return told

    @abstractmethod
    def worded(self, told: Told, space: TextSpace) -> list[dict[str, str]]:
        """What texts are told, as `asked` takes it."""

    def counts(self, told: Iterable[Tensor]) -> dict[str, Counts]:
        """How many texts are told nothing of each thing that there is to tell, and each of its values, of all that are
        told one of a set of values.
        """
        return {}

    def remember(self, texts: Mapping[str, Sequence[Tensor]], space: TextSpace) -> None:
        """Take over texts of the training split, `remembers` of them at most: before training starts, or goes on."""

    @abstractmethod
    def lengths(self, told: Told, space: TextSpace, generators: Sequence[torch.Generator]) -> Counts:
        """How many positions of x_0 texts have that are told this, each drawn with its own generator."""

    def targets(self) -> Iterator[Mapping[str, str]]:
        """All that can be asked for by itself, as `asked` takes it."""
        raise UserError("task=control is of a run that is told attributes: experiment=e2e_control")

    def losses(self, context: Context, lengths: Counts) -> dict[str, PerText]:
        """What is minimised of the condition itself, by texts of these lengths."""
        return {}
