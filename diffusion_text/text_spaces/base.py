"""What every text space is."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diffusion_text.shapes import Latents, Mask, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Module = TypeVar("Module", bound=nn.Module)
Logits = Float[Tensor, "batch length vocabulary"]


class Reader(ABC):
    """x_0 to tokens."""

    @abstractmethod
    def decode(self, x_0: Latents, mask: Mask, limit: int | None = None) -> Int[Tensor, "batch decoded"]:
        """The texts that x_0, of this mask, stands for, padded at the end; `limit`: only their first tokens."""

    @abstractmethod
    def decode_with_confidence(
        self, x_0: Latents, mask: Mask
    ) -> tuple[Int[Tensor, "batch decoded"], Float[Tensor, "batch decoded"]]:
        """As `decode`, and the probability given to each token."""

    @abstractmethod
    def draw(
        self, x_0: Latents, mask: Mask, temperature: float, generators: Sequence[torch.Generator]
    ) -> Int[Tensor, "batch decoded"]:
        """As `decode`, each text drawn with its own generator from the distribution over tokens, which is sharper at a
        `temperature` below 1.
        """


class PositionReader(Reader):
    """Reads each token off a position of its own."""

    tokenizer: PreTrainedTokenizerBase

    @abstractmethod
    def position_logits(self, x_0: Latents, mask: Mask) -> Logits:
        """How well each token fits each position."""

    def decode(self, x_0, mask, limit=None):
        """Each position's most likely token."""
        return self.padded(self.position_logits(x_0, mask).argmax(-1), mask)[:, :limit]

    def decode_with_confidence(self, x_0, mask):
        probabilities, tokens = self.position_logits(x_0, mask).softmax(-1).max(-1)
        return self.padded(tokens, mask), probabilities

    def draw(self, x_0, mask, temperature, generators):
        probabilities = (self.position_logits(x_0, mask) / temperature).softmax(-1).cpu()
        drawn = [torch.multinomial(p, 1, generator=own) for p, own in zip(probabilities, generators, strict=True)]
        return self.padded(torch.stack(drawn).view(mask.shape).to(mask.device), mask)

    def padded(self, tokens: Tokens, mask: Mask) -> Tokens:
        """Padding where there is no text."""
        return tokens.masked_fill(~mask, self.tokenizer.pad_token_id)


class TextSpace(nn.Module, Reader):
    """Tokens to x_0 and back.

    `dim` is the width of x_0, `max_length` the most tokens it takes, `compression` the tokens that a position of x_0
    stands for; `encodes_ahead` tells whether texts can be encoded once and for all, as nothing in it is trained.
    """

    tokenizer: PreTrainedTokenizerBase
    dim: int
    max_length: int
    compression: int = 1
    encodes_ahead: bool = True

    @property
    @abstractmethod
    def ruler(self) -> str:
        """What must be the same where information in two spaces is to mean the same."""

    @abstractmethod
    def encode(self, tokens: Tokens, mask: Mask) -> Latents:
        """x_0 of the texts, of unit scale; its mask is `latent_mask(mask)`."""

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Write what the checkpoint of a model does not hold."""

    @property
    @abstractmethod
    def unit_scales(self) -> dict[str, Float[Tensor, dim]]:
        """What a noise of 1 measures in x_0, by the name of the unit: `raw` and `standardised`."""

    def latent_mask(self, mask: Mask) -> Bool[Tensor, "batch positions"]:
        """x_0's mask for that of the tokens."""
        return mask[:, :: self.compression]

    def latent_length(self, tokens: int) -> int:
        """How many positions of x_0 stand for that many tokens."""
        return -(-tokens // self.compression)

    def snap(self, x_0: Latents) -> Latents:
        """The nearest x_0 that is a text, where the space has such a thing; otherwise x_0 itself."""
        return x_0

    def to_text(self, tokens: Tokens | list[list[int]]) -> list[str]:
        """Readable text of token ids."""
        return self.tokenizer.batch_decode(tokens, skip_special_tokens=True)


class Frozen(Generic[Module]):
    """A module that its holder uses without owning it: not in the holder's parameters, checkpoints or copies."""

    def __init__(self, module: Module):
        self.module = module.eval().requires_grad_(False)

    def __deepcopy__(self, memo: dict) -> Frozen[Module]:
        return self

    def on(self, device: torch.device) -> Module:
        """The module, moved to where the data is."""
        return self.module.to(device)


def weights_digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """A fingerprint of a model's weights."""
    digest = hashlib.sha256()
    for name, weight in named:
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
