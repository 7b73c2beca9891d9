"""How a text space comes to be for a corpus: pretrained here, or loaded.

A recipe is cheap to construct and knows `dim` and `max_length`, so that a run can be refused before data is touched.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from diffusion_text.cache import cached_directory
from diffusion_text.data import base as data_base
from diffusion_text.data.base import TextDataModule
from diffusion_text.models import text_autoencoder
from diffusion_text.models.text_autoencoder import TextAutoencoder
from diffusion_text.progress import progress_bar
from diffusion_text.text_spaces.bart import BartSpace, bart_config

if TYPE_CHECKING:
    from transformers import BartForConditionalGeneration, PreTrainedTokenizerFast

log = logging.getLogger(__name__)
SPECIAL_TOKENS = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}


class SpaceRecipe(ABC):
    """Builds a text space for a corpus."""

    dim: int
    max_length: int

    @abstractmethod
    def build(self, data: TextDataModule) -> BartSpace:
        """The space, ready to encode; without statistics yet."""


class BartPretrained(SpaceRecipe):
    """A BART from the hub, or from a local directory in the same format."""

    def __init__(self, pretrained: str):
        self.pretrained = pretrained

    @cached_property
    def dim(self) -> int:  # type: ignore[override]
        return bart_config(self.pretrained).hidden_size

    @cached_property
    def max_length(self) -> int:  # type: ignore[override]
        return bart_config(self.pretrained).max_position_embeddings

    def build(self, data):
        return BartSpace.from_pretrained(self.pretrained)


class BartMini(SpaceRecipe):
    """A small BART, pretrained on the corpus's training split by denoising reconstruction; made once, then cached.

    `vocab_size` byte-level BPE tokens, `layers` in encoder and decoder each, `dim` wide; `num_steps` of `batch_size`
    texts with `mask_probability` of the input tokens masked, at a one-cycle peak of `learning_rate`.
    """

    def __init__(
        self,
        dim: int = 128,
        layers: int = 2,
        heads: int = 4,
        vocab_size: int = 2048,
        max_length: int = 1024,
        num_steps: int = 800,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        mask_probability: float = 0.1,
        seed: int = 0,
    ):
        if dim % heads:
            raise ValueError(f"text_space.dim={dim} is not a multiple of text_space.heads={heads}")
        if vocab_size < 300:
            raise ValueError(f"text_space.vocab_size must be at least 300 (256 bytes and the rest), not {vocab_size}")
        self.dim, self.layers, self.heads, self.vocab_size, self.max_length = (
            dim,
            layers,
            heads,
            vocab_size,
            max_length,
        )
        self.num_steps, self.batch_size, self.learning_rate = num_steps, batch_size, learning_rate
        self.mask_probability, self.seed = mask_probability, seed

    def build(self, data):
        key = {"corpus": data.digest, "length": data.length, **vars(self)}
        code = [__file__, text_autoencoder.__file__, data_base.__file__]
        directory = cached_directory(data.cache_dir, "bart_mini", key, code, lambda path: self.pretrain(data, path))
        return BartSpace.from_pretrained(directory)

    def pretrain(self, data: TextDataModule, directory: Path) -> None:
        """Train tokenizer and BART on the corpus and save both to `directory`."""
        tokenizer = train_tokenizer(data.paragraphs("train"), self.vocab_size)
        with isolate_rng():
            torch.manual_seed(self.seed)
            bart = self._untrained(tokenizer)
            texts = data.tokens(tokenizer)["train"]
            loader = torch.utils.data.DataLoader(
                texts,
                batch_size=self.batch_size,
                shuffle=True,
                collate_fn=lambda batch: dict(
                    zip(
                        ("tokens", "mask"),
                        data_base.pad([t["tokens"] for t in batch], tokenizer.pad_token_id),
                        strict=True,
                    )
                ),
            )
            module = TextAutoencoder(
                bart, tokenizer.mask_token_id, self.mask_probability, self.learning_rate, self.num_steps
            )
            log.info("Pretraining bart_mini on %d texts, %d steps; this happens once", len(texts), self.num_steps)
            Trainer(
                max_steps=self.num_steps,
                devices=1,
                gradient_clip_val=1.0,
                logger=False,
                log_every_n_steps=10,
                enable_checkpointing=False,
                enable_model_summary=False,
                callbacks=[progress_bar()],
            ).fit(module, loader)
        bart.save_pretrained(directory)
        tokenizer.save_pretrained(directory)

    def _untrained(self, tokenizer: PreTrainedTokenizerFast) -> BartForConditionalGeneration:
        from transformers import BartConfig, BartForConditionalGeneration

        half: dict[str, Any] = {"layers": self.layers, "attention_heads": self.heads, "ffn_dim": 4 * self.dim}
        config = BartConfig(
            vocab_size=len(tokenizer),
            d_model=self.dim,
            max_position_embeddings=self.max_length,
            dropout=0.0,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.eos_token_id,
            forced_eos_token_id=None,
            **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in half.items()},
        )
        return BartForConditionalGeneration(config)


def train_tokenizer(texts, vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with BART's special tokens (Sennrich et al. 2016; Radford et al. 2019)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    names = {f"{name}_token": token for name, token in SPECIAL_TOKENS.items()}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, clean_up_tokenization_spaces=False, **names)
