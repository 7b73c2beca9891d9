"""The text itself, spoilt: told that, a model restores what was there.

(1) Each told token has a count: the positions of the text that it stands for, the first of which is its own; the others
    are missing. 0: it should not be there. A text then has as many positions as its tokens count together
    (the fertilities of Gu et al. 2018, §3.3).
(2) p(text | told) ≥ p(text | told, counts) · p(counts | told)          Gu et al. 2018, eq. 4

In training, and when a text's likelihood is asked for, the counts are known; when one is written they are guessed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from diffusion_text.conditions.text import Neighbourhood, OtherText
from diffusion_text.data.garbling import WAYS, Garbling, counted, parted
from diffusion_text.data.tokens import NOTHING
from diffusion_text.shapes import Context, Told
from diffusion_text.values import listed, one_of, share, whole

MOST = 7  # positions that a token is guessed to stand for; more are taken for as many
KNOWN = 1 << 32  # a told number is that of a token, and this times 1 more than its count where that is known


class Garbled(OtherText):
    """The text itself, spoilt anew whenever it is told: in one of the `ways`, at a rate up to `rate`, shuffled within
    `window` words. Most of it stands where it stood, so that each position reads it beside its own x_t.
    """

    reads = None
    remembers = 512
    on_host = True

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

    def guessing(self, dim):
        return CountGuess(dim)

    def forward(self, told, space):
        vectors, where = self.read(tokens_of(told), space)
        known = per_position(counts_of(told), space.compression)
        guess = self.guess(vectors.detach(), where)
        counts = torch.where(known < 0, guess.detach().argmax(-1), known) * where
        nats = F.cross_entropy(guess.transpose(1, 2), known.clamp(0, MOST), reduction="none")
        at = torch.arange(vectors.shape[1], device=told.device, dtype=torch.float32)
        return Context(vectors, where, at, counts=counts, nats=(nats * where * (known >= 0)).sum(1))

    @property
    def draws(self):
        return 2

    def known(self, batch, space, chances):
        special, spoilt = set(space.tokenizer.all_special_ids), []
        tokens, mask = batch.get("on_host", (batch["tokens"], batch["mask"]))
        drawn = (tokens.tolist(), mask.sum(1).tolist(), chances[:, 1].tolist())
        for row, length, seed in zip(*drawn, strict=True):
            start, text, end = parted(row[:length], special)
            chance = random.Random(seed)
            garbling = Garbling(chance.choice(self.ways), chance.uniform(0, self.rate), self.window)
            each = garbling.each(text, space.tokenizer, self.pool, chance)
            counts = counted([*([token] for token in start), *each, *([token] for token in end)])
            numbers = [token + KNOWN * (1 + count) for token, count in counts]
            spoilt.append(torch.tensor(numbers or [NOTHING]))
        told = pad_sequence(spoilt, batch_first=True, padding_value=NOTHING)
        return told.to(batch["tokens"].device, non_blocking=True)

    def remember(self, texts, space):
        special = set(space.tokenizer.all_special_ids)
        self.pool = [token for text in texts["tokens"] for token in text.tolist() if token not in special]

    def sayable(self, told):
        return tokens_of(told)

    @torch.no_grad()
    def lengths(self, told, space, generators):
        context = self(told, space)
        return context.counts.sum(1).clamp(min=1).cpu()

    def losses(self, context, lengths):
        return {"counts": context.nats / lengths}


class CountGuess(Neighbourhood):
    """Logits of each vector's count, from 0 to MOST; at first each counts for itself."""

    def __init__(self, width: int):
        super().__init__(width, 1 + MOST)
        with torch.no_grad():
            self.leave.bias[1] = 1


def tokens_of(told: Told) -> Told:
    """The tokens alone."""
    return torch.where(told == NOTHING, NOTHING, told % KNOWN)


def counts_of(told: Told) -> Int[Tensor, "batch told"]:
    """What each counts for, below 0 where that is not known."""
    return torch.div(told, KNOWN, rounding_mode="floor") - 1


def per_position(counts: Int[Tensor, "batch told"], compression: int) -> Int[Tensor, "batch positions"]:
    """What as many told tokens as a position stands for count for together, in positions; below 0 where not known."""
    padded = F.pad(counts, (0, -counts.shape[1] % compression), value=-1).unflatten(1, (-1, compression))
    ends = -(-padded.clamp(min=0).sum(2).cumsum(1) // compression)
    return torch.where(padded[..., 0] < 0, -1, ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1])))
