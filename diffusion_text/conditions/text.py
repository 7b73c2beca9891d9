"""Another text: told that, a model writes the one that goes with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusion_text.conditions.base import Condition
from diffusion_text.conditions.named import ANY
from diffusion_text.data.tokens import NOTHING
from diffusion_text.denoisers.transformer import normalise
from diffusion_text.errors import UserError
from diffusion_text.shapes import Context, Latents, Mask, PerText, Told
from diffusion_text.text_spaces.base import TextSpace
from diffusion_text.values import share

EACH_COUNTS_ONE = math.log(math.e - 1)  # by softplus
TINY = 1e-6  # of a text that is told nothing
TEXT = "text"  # what the one thing that can be asked for is called


class OtherText(Condition):
    """Another text, which the run's own text space reads; it stands in front of the text, as far along it as there.

    In training a share `dropout` of the texts is told nothing, so that the model also writes without.
    """

    reads: ClassVar[str | None] = "another text"

    def __init__(self, values: Mapping[str, Sequence[str]], dim: int, dropout: float = 0.1):
        super().__init__(values, dim)
        self.width, self.dropout = dim, share(dropout, "condition.dropout")
        self.guess: nn.Module = self.guessing(dim)

    def guessing(self, dim: int) -> nn.Module:
        """What guesses how long a text is, by vectors of what it is told."""
        return LengthGuess(dim)

    def forward(self, told, space):
        vectors, where = self.read(told, space)
        at = torch.arange(vectors.shape[1], device=told.device, dtype=torch.float32)
        return Context(vectors, where, at, fits=True)

    def read(self, told: Told, space: TextSpace) -> tuple[Latents, Mask]:
        """The text space's vectors, and where they are of something."""
        where = told != NOTHING
        read = where.clone()
        read[:, 0] = True  # a text of no positions cannot be encoded
        return space.encode(told.clamp(min=0), read), space.latent_mask(where)

    @property
    def draws(self):
        return 1

    def known(self, batch, space, chances):
        return batch["told"]

    def hidden(self, told, chances):
        return told.masked_fill(chances[:, :1] < self.dropout, NOTHING)

    def asked(self, wanted, read):
        unknown = [name for name in wanted if not self.has(name)]
        if unknown:
            raise UserError(f"condition.{unknown[0]}: this run is told another text: condition.{TEXT}=…")
        if len(wanted) > 1:
            raise UserError(f"condition= and condition.{TEXT}= are the same: give one")
        [text] = wanted.values()
        return read(str(text), f"condition.{TEXT}")

    def worded(self, told, space):
        texts = [text[text != NOTHING].tolist() for text in told]
        return [{TEXT: text} for text in space.to_text(texts)]

    def has(self, name):
        return name in (ANY, TEXT)

    @torch.no_grad()
    def lengths(self, told, space, generators):
        return self.guess(*self.read(told, space)).round().long().clamp(min=1).cpu()

    def losses(self, context, lengths):
        guessed = self.guess(context.vectors.detach(), context.where)
        return {"length": (guessed / lengths).clamp(min=TINY).log() ** 2 * context.where.any(1)}


class Neighbourhood(nn.Module):
    """So many numbers of each vector, by what stands around it and by what the whole text is like: convolutions, each
    added to what was there before, twice as wide as the vectors, and no wider than 128.
    """

    def __init__(self, width: int, numbers: int):
        super().__init__()
        hidden = min(2 * width, 128)
        self.enter, self.whole = nn.Conv1d(width, hidden, 5, padding=2), nn.Linear(hidden, hidden)
        self.layers = nn.ModuleList(nn.Conv1d(hidden, hidden, 5, padding=2) for _ in range(4))
        self.leave = nn.Linear(hidden, numbers)
        nn.init.normal_(self.leave.weight, std=1e-3)
        nn.init.zeros_(self.leave.bias)

    def forward(self, vectors: Latents, where: Mask) -> Float[Tensor, "batch length numbers"]:
        real = where.unsqueeze(2)
        h = F.gelu(self.enter((vectors * real).transpose(1, 2)).transpose(1, 2)) * real
        h = h + self.whole(h.sum(1) / real.sum(1).clamp(min=1)).unsqueeze(1)
        for layer in self.layers:
            h = h + F.gelu(layer((normalise(h) * real).transpose(1, 2))).transpose(1, 2)
        return self.leave(normalise(h))


class LengthGuess(Neighbourhood):
    """How many positions a text has that another one stands for: each vector of that one counts for so many (after
    Ghazvininejad et al. 2019, §3.2, who predict a length from another text).
    """

    def __init__(self, width: int):
        super().__init__(width, 1)

    def forward(self, vectors: Latents, where: Mask) -> PerText:
        return (F.softplus(super().forward(vectors, where).squeeze(2) + EACH_COUNTS_ONE) * where).sum(1)
