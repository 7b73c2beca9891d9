"""Array types and the conventions that every module shares.

Latents are `(batch, length, dim)`; a network that wants channels first transposes inside itself.
Masks are True on real tokens; losses, metrics and statistics ignore the rest.
Times lie in [0, 1]: 0 is data, 1 is noise.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Latents = Float[Tensor, "batch length dim"]
Tokens = Int[Tensor, "batch length"]
Mask = Bool[Tensor, "batch length"]
Times = Float[Tensor, "batch"]
PerText = Float[Tensor, "batch"]
Counts = Int[Tensor, "batch"]
Told = Int[Tensor, "batch told"]  # what each text is told to be: numbers of values, or tokens of another text


class Context(NamedTuple):
    """What a denoiser reads beside a text: vectors, of which those tell something `where` it is True; they stand `at`
    positions of the text, or before it, the same of all texts or each its own.

    Where they are of another text that `fits`, that begins and ends where this one does, they are yet to be put along
    it. Where each `counts` for some of its positions, they are yet to be put on the first of those; then each position
    has one `beside` it. `nats`: what it takes of each text to tell more than it is told.
    """

    vectors: Float[Tensor, "batch told channels"]
    where: Bool[Tensor, "batch told"]
    at: Float[Tensor, "*texts told"]
    fits: bool = False
    counts: Int[Tensor, "batch told"] | None = None
    beside: bool = False
    nats: PerText | float = 0.0

    def of(self, texts: Tensor) -> "Context":
        """That of some of the texts."""
        at = self.at if self.at.ndim == 1 else self.at[texts]
        nats = self.nats[texts] if isinstance(self.nats, Tensor) else self.nats
        return self._replace(vectors=self.vectors[texts], where=self.where[texts], at=at, nats=nats)

    def along(self, mask: Mask) -> "Context":
        """That of texts with these positions: a text that fits stands as far along each as in its own."""
        if self.counts is not None:
            return self.put_beside(mask, self.counts)
        if not self.fits:
            return self
        stretch = mask.sum(1) / self.where.sum(1).clamp(min=1)
        return self._replace(at=self.at * stretch[:, None], fits=False)

    def put_beside(self, mask: Mask, counts: Int[Tensor, "batch told"]) -> "Context":
        """From the first position on; beyond the last that they count for nothing is told."""
        at, ends = torch.arange(mask.shape[1], device=mask.device), counts.cumsum(1)
        told = torch.searchsorted(ends, at.repeat(len(mask), 1), right=True).clamp(max=counts.shape[1] - 1)
        first = at == (ends - counts).gather(1, told)
        vectors = self.vectors.gather(1, told[..., None].expand(-1, -1, self.vectors.shape[2]))
        return Context(vectors, first & (at < ends[:, -1:]) & mask, at.float(), beside=True, nats=self.nats)

    def twice(self, again: bool) -> "Context":
        """That of the texts twice over, the second time telling it again, or nothing."""
        twice = torch.cat([self.where, self.where if again else torch.zeros_like(self.where)])
        at = self.at if self.at.ndim == 1 else self.at.repeat(2, 1)
        return self._replace(vectors=self.vectors.repeat(2, 1, 1), where=twice, at=at)
