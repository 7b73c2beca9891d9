"""Another text: told that, a model writes the one that goes with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from diffusion_text.conditions.base import Condition
from diffusion_text.conditions.named import ANY
from diffusion_text.data.tokens import NOTHING
from diffusion_text.errors import UserError
from diffusion_text.shapes import Context, PerText
from diffusion_text.values import share

EACH_COUNTS_ONE = math.log(math.e - 1)  # by softplus
TEXT = "text"  # what the one thing that can be asked for is called


class OtherText(Condition):
    """Another text, which the run's own text space reads; it stands beside the text, as far along it as there.

    In training a share `dropout` of the texts is told nothing, so that the model also writes without.
    """

    reads: ClassVar[str | None] = "another text"

    def __init__(self, values: Mapping[str, Sequence[str]], dim: int, dropout: float = 0.1):
        super().__init__(values, dim)
        self.width, self.dropout = dim, share(dropout, "condition.dropout")
        self.count = LengthGuess(dim)

    def forward(self, told, space):
        where = told != NOTHING
        read = where.clone()
        read[:, 0] = True  # a text of no positions cannot be encoded
        vectors = space.encode(told.clamp(min=0), read)
        at = torch.arange(vectors.shape[1], device=told.device, dtype=torch.float32)
        return Context(vectors, space.latent_mask(where), at, fits=True)

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
        return self.count(self(told, space)).round().long().clamp(min=1).cpu()

    def losses(self, context, lengths):
        off = (self.count(context._replace(vectors=context.vectors.detach())) - lengths) ** 2 / lengths
        return {"length": off * context.where.any(1)}


class LengthGuess(nn.Module):
    """How many positions a text has that another one stands for: each vector of that one counts for so many, by what
    stands around it (after Ghazvininejad et al. 2019, §3.2, who predict a length from another text).
    """

    def __init__(self, width: int, hidden: int = 64):
        super().__init__()
        self.near, self.nearer = nn.Conv1d(width, hidden, 5, padding=2), nn.Conv1d(hidden, hidden, 5, padding=2)
        self.leave = nn.Conv1d(hidden, 1, 1, bias=False)
        nn.init.normal_(self.leave.weight, std=1e-3)

    def forward(self, context: Context) -> PerText:
        real = context.where.unsqueeze(1)
        h = F.gelu(self.near(context.vectors.transpose(1, 2) * real))
        h = F.gelu(self.nearer(h * real))
        return (F.softplus(self.leave(h) + EACH_COUNTS_ONE) * real).sum((1, 2))
