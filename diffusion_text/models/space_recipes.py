"""How a text space comes to be for a corpus: trained there (trained_spaces.py), loaded, or learned with the denoiser.

A recipe is cheap to construct and knows `dim` and `max_length`, so that a run can be refused before data is touched.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diffusion_text.data.base import TextDataModule
from diffusion_text.data.latents import CACHES
from diffusion_text.hub import load_rows
from diffusion_text.models.tokenizers import TokenizerRecipe
from diffusion_text.text_spaces.bart import BartSpace
from diffusion_text.text_spaces.bart_autoencoder import pretrained_shape
from diffusion_text.text_spaces.base import TextSpace
from diffusion_text.text_spaces.embedding import ROUNDINGS, EmbeddingSpace, LearnedEmbedding
from diffusion_text.values import WIDEST, flag, instance, number, one_of, or_null, whole, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class SpaceRecipe(ABC):
    """Builds a text space for a corpus. `kept`: a run saves a copy of its own, as nobody else has it; `cache`: where
    latents are kept, disk, memory or none; None: wherever their size lets them be.
    """

    dim: int
    max_length: int
    kept: bool = True

    def __init__(self, cache: str | None = None):
        self.cache = or_null(one_of, cache, "text_space.cache", options=CACHES)

    @abstractmethod
    def build(self, data: TextDataModule) -> TextSpace:
        """The space, ready to encode; without statistics yet."""

    @abstractmethod
    def load(self, directory: Path) -> TextSpace:
        """The space that a run saved to `directory`."""

    def prepare(self, data: TextDataModule, space: TextSpace, device: torch.device) -> None:
        """Have a corpus ready for its loaders in this space; what is encoded ahead is encoded on this device."""
        encoder = space.to(device) if isinstance(space, BartSpace) else None
        data.prepare(space.tokenizer, encoder, self.cache)
        space.cpu()


class BartPretrained(SpaceRecipe):
    """A BART from the hub, or from a local directory in the same format, such as a trained run's text_space."""

    kept = False

    def __init__(self, pretrained: str, cache: str | None = None):
        super().__init__(cache)
        self.pretrained = words(pretrained, "text_space.pretrained")

    @cached_property
    def dim(self) -> int:  # type: ignore[override]
        return pretrained_shape(self.pretrained)[0]

    @cached_property
    def max_length(self) -> int:  # type: ignore[override]
        return pretrained_shape(self.pretrained)[1]

    def build(self, data):
        return BartSpace.from_pretrained(self.pretrained)

    def load(self, directory):
        return BartSpace.from_pretrained(self.pretrained)


class LearnedSpace(SpaceRecipe):
    """An embedding of width `dim` that a denoiser's training learns, over the tokens of `tokenizer`.

    `pretrained_embeddings`: a safetensors file, a local model directory or a model on the hub, whose embedding rows
    are those of this tokenizer. The rest is EmbeddingSpace's and LearnedEmbedding's.
    """

    max_length = EmbeddingSpace.max_length

    def __init__(
        self,
        tokenizer: TokenizerRecipe,
        dim: int = 128,
        std: float | None = 1.0,
        normalise: bool = True,
        rounding: str = "learned",
        tied: bool = True,
        pretrained_embeddings: str | None = None,
    ):
        super().__init__()
        self.tokenizer = instance(tokenizer, "text_space.tokenizer", TokenizerRecipe)
        self.dim = whole(dim, "text_space.dim", 1, WIDEST)
        self.pretrained_embeddings = or_null(words, pretrained_embeddings, "text_space.pretrained_embeddings")
        std = or_null(number, std, "text_space.std", above=0)
        self.embedding: dict[str, Any] = {"std": std, "normalise": flag(normalise, "text_space.normalise")}
        rounding = one_of(rounding, "text_space.rounding", ROUNDINGS)
        self.reading: dict[str, Any] = {"rounding": rounding, "tied": flag(tied, "text_space.tied")}

    def build(self, data):
        rows = None if self.pretrained_embeddings is None else load_rows(self.pretrained_embeddings)
        return self._space(self.tokenizer.build(data), rows)

    def load(self, directory):
        from transformers import AutoTokenizer

        return self._space(AutoTokenizer.from_pretrained(directory, trust_remote_code=False))

    def _space(self, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None = None) -> EmbeddingSpace:
        embedding = LearnedEmbedding(len(tokenizer), self.dim, rows, **self.embedding)
        return EmbeddingSpace(tokenizer, embedding, **self.reading)
