"""Named values, any subset of which a text may be asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from jaxtyping import Int
from torch import Tensor, nn

from diffusion_text.conditions.base import Condition
from diffusion_text.conditions.named import Named
from diffusion_text.shapes import Context
from diffusion_text.values import WIDEST, share, whole


class Attributes(Condition):
    """Each attribute has `values`, a learned vector of `width` channels each; the number 0 stands for none.

    In training a share `dropout` of the texts is told nothing, as classifier-free guidance needs (Ho & Salimans 2022),
    and a share `partial` of the others a random part of what is known: a user asks for one value as well as for all.
    """

    reads = "attributes"
    remembers = 4_096
    told: Tensor
    long: Tensor

    def __init__(
        self,
        values: Mapping[str, Sequence[str]],
        dim: int,
        width: int = 128,
        dropout: float = 0.1,
        partial: float = 0.5,
    ):
        super().__init__(values, dim)
        self.named = Named(values)
        self.width = whole(width, "condition.width", 1, WIDEST)
        self.dropout, self.partial = share(dropout, "condition.dropout"), share(partial, "condition.partial")
        sizes = self.named.sizes
        self.embedding = nn.Embedding(sum(sizes), self.width)
        self.register_buffer("first", torch.tensor([0, *accumulate(sizes[:-1])]), persistent=False)
        self.register_buffer("told", torch.zeros(self.remembers, len(sizes), dtype=torch.long))
        self.register_buffer("long", torch.zeros(self.remembers, dtype=torch.long))

    def forward(self, told, space):
        before = torch.arange(-told.shape[1], 0, device=told.device, dtype=torch.float32)
        return Context(self.embedding((told - 1 + self.first).clamp(min=0)), told > 0, before)

    def known(self, batch, space, chances):
        return batch["told"]

    @property
    def draws(self):
        return 3 + len(self.named.values)

    def hidden(self, told, chances):
        dropped, in_part, kept = chances[:, :3].split(1, dim=1)
        shown = (in_part >= self.partial) | (chances[:, 3:] < kept)
        return told * (shown & (dropped >= self.dropout))

    def asked(self, wanted, read):
        return self.named.asked(wanted)

    def worded(self, told, space):
        return self.named.worded(told)

    def counts(self, told):
        return self.named.counts(told)

    def has(self, name):
        return self.named.has(name)

    def targets(self):
        return self.named.targets()

    def remember(self, texts, space):
        told = torch.stack(list(texts["told"]))
        lengths = torch.tensor([space.latent_length(len(tokens)) for tokens in texts["tokens"]])
        chosen = torch.arange(self.remembers) % len(told)
        self.told.copy_(told[chosen])
        self.long.copy_(lengths[chosen])

    def lengths(self, told, space, generators):
        like = [self.lengths_of(asked) for asked in told]
        places = [torch.randint(len(each), (), generator=own) for each, own in zip(like, generators, strict=True)]
        return torch.stack([each[place] for each, place in zip(like, places, strict=True)])

    def lengths_of(self, told: Int[Tensor, attributes]) -> Int[Tensor, texts]:
        """Lengths of the training texts that are most of what is asked for."""
        fits = ((self.told == told.to(self.told)) & (told.to(self.told) > 0)).sum(1)
        return self.long[fits == fits.max()].cpu()
