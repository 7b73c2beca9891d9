"""The text itself, spoilt: told that, a model restores what was there."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch

from diffusion_text.conditions.text import OtherText, told_as
from diffusion_text.data.garbling import WAYS, Garbling, parted
from diffusion_text.values import listed, one_of, share, whole


class Garbled(OtherText):
    """The text itself, spoilt anew whenever it is told: in one of the `ways`, at a rate up to `rate`, shuffled within
    `window` words.
    """

    reads = None
    remembers = 512

    def __init__(
        self,
        values: Mapping[str, Sequence[str]],
        dim: int,
        ways: Sequence[str] = WAYS,
        rate: float = 0.4,
        window: int = 3,
        dropout: float = 0.1,
    ):
        super().__init__(values, dim, dropout)
        self.ways = listed(ways, "condition.ways", one_of, fewest=1, options=WAYS)
        self.rate, self.window = share(rate, "condition.rate"), whole(window, "condition.window", 2)
        self.register_buffer("pool", torch.zeros(16 * self.remembers, dtype=torch.long))

    @property
    def draws(self):
        return 2

    def known(self, batch, space, chances):
        special, pool = set(space.tokenizer.all_special_ids), self.pool.tolist()
        spoilt = []
        for tokens, real, seed in zip(batch["tokens"], batch["mask"], chances[:, 1].tolist(), strict=True):
            start, text, end = parted(tokens[real].tolist(), special)
            chance = random.Random(seed)
            garbling = Garbling(chance.choice(self.ways), chance.uniform(0, self.rate), self.window)
            spoilt.append([*start, *garbling(text, space.tokenizer, pool, chance), *end])
        return told_as(spoilt, max(map(len, spoilt))).to(batch["tokens"].device)

    def remember(self, texts, space):
        special = torch.tensor(space.tokenizer.all_special_ids)
        tokens = torch.cat(list(texts["tokens"]))
        tokens = tokens[~torch.isin(tokens, special)]
        self.pool.copy_(tokens[torch.linspace(0, len(tokens) - 1, len(self.pool)).long()])
