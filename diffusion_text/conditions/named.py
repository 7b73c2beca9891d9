"""Attributes, each with its values; a text is told, or asked for, the number of one of each, or 0 for none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from diffusion_text.commands import nearest
from diffusion_text.errors import UserError
from diffusion_text.shapes import Counts
from diffusion_text.values import words

ANY = "any"  # what stands for a name where there is but one


class Named:
    """The `values` of each attribute by its name, numbered from 1 on."""

    def __init__(self, values: Mapping[str, Sequence[str]]):
        self.values = {name: [words(value, name) for value in known] for name, known in values.items()}

    @property
    def sizes(self) -> list[int]:
        """How many values each attribute has."""
        return [len(known) for known in self.values.values()]

    def has(self, name: str) -> bool:
        """Whether there is such an attribute, or but one and the name stands for that."""
        return name in self.values or (name == ANY and len(self.values) == 1)

    def asked(self, wanted: Mapping[str, Any]) -> Int[Tensor, attributes]:
        """The numbers of what a user wants; raises UserError where there is no such thing."""
        wanted = {self.only(value) if name == ANY else name: value for name, value in wanted.items()}
        for name in wanted:
            if name not in self.values:
                raise UserError(
                    f"condition.{name}: there is no such attribute{nearest(name, [*self.values])}; there are "
                    f"{', '.join(self.values)}"
                )
        return torch.tensor([self.number(name, wanted.get(name)) for name in self.values])

    def worded(self, told: Int[Tensor, "batch attributes"]) -> list[dict[str, str]]:
        """What texts are told, as `asked` takes it."""
        named = self.values.items()
        return [
            {name: values[number - 1] for (name, values), number in zip(named, text, strict=True) if number}
            for text in told.tolist()
        ]

    def counts(self, told: Iterable[Tensor]) -> dict[str, Counts]:
        """How many of the texts are told nothing of an attribute, and each of its values."""
        numbers = torch.stack(list(told))
        return {
            name: numbers[:, place].bincount(minlength=len(values) + 1)
            for place, (name, values) in enumerate(self.values.items())
        }

    def only(self, value: str) -> str:
        """The name of the one attribute that there is."""
        if len(self.values) > 1:
            raise UserError(
                f"condition={value} is of which attribute? condition.NAME={value}, of {', '.join(self.values)}"
            )
        return next(iter(self.values))

    def number(self, name: str, value: object) -> int:
        """The number of a value, 0 for none."""
        if value is None:
            return 0
        known = {each.lower(): number for number, each in enumerate(self.values[name], 1)}
        if str(value).lower() not in known:
            some = ", ".join(self.values[name][:10]) + (", …" if len(known) > 10 else "")
            raise UserError(
                f"condition.{name}={value} was in no text{nearest(str(value), self.values[name])}; there are {some}"
            )
        return known[str(value).lower()]

    def targets(self) -> Iterator[Mapping[str, str]]:
        """Every value by itself, as `asked` takes it."""
        return ({name: value} for name, values in self.values.items() for value in values)
