"""The text itself, spoilt: told that, a model restores what was there."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from diffusion_text.conditions.text import OtherText
from diffusion_text.data.garbling import WAYS, Garbling, parted
from diffusion_text.data.tokens import NOTHING
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
        self.pool: list[int] = []  # that tokens are replaced by

    @property
    def draws(self):
        return 2

    def known(self, batch, space, chances):
        special, spoilt = set(space.tokenizer.all_special_ids), []
        drawn = (batch["tokens"].tolist(), batch["mask"].sum(1).tolist(), chances[:, 1].tolist())
        for tokens, length, seed in zip(*drawn, strict=True):
            start, text, end = parted(tokens[:length], special)
            chance = random.Random(seed)
            garbling = Garbling(chance.choice(self.ways), chance.uniform(0, self.rate), self.window)
            told = [*start, *garbling(text, space.tokenizer, self.pool, chance), *end]
            spoilt.append(torch.tensor(told or [NOTHING]))
        return pad_sequence(spoilt, batch_first=True, padding_value=NOTHING).to(batch["tokens"].device)

    def remember(self, texts, space):
        special = set(space.tokenizer.all_special_ids)
        self.pool = [token for text in texts["tokens"] for token in text.tolist() if token not in special]
