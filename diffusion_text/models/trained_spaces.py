"""Text spaces that this project trains on a corpus, once: a small BART, and a bottleneck on one."""

from __future__ import annotations

import logging
from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader
from transformers import get_scheduler

from diffusion_text.cache import cached_directory
from diffusion_text.data import base as data_base
from diffusion_text.data import tokens as data_tokens
from diffusion_text.data.base import TextDataModule
from diffusion_text.data.excerpts import from_all_over
from diffusion_text.models import base, text_autoencoder, tokenizers
from diffusion_text.models.space_recipes import LearnedSpace, SpaceRecipe
from diffusion_text.models.text_autoencoder import TextAutoencoder
from diffusion_text.progress import progress_bar
from diffusion_text.text_spaces import bart_autoencoder
from diffusion_text.text_spaces.bart import BartSpace
from diffusion_text.text_spaces.bart_autoencoder import BartAutoencoder, Bottleneck
from diffusion_text.values import DEEPEST, LONGEST, WIDEST, instance, number, or_null, seed_number, share, whole

if TYPE_CHECKING:
    from transformers import BartForConditionalGeneration, PreTrainedTokenizerBase

log = logging.getLogger(__name__)
LOOK_EVERY = 50  # steps between two looks at how much of its texts a space gives back
OWN_POSITION = 1.5
MOST_COMPRESSED = 1_024  # tokens that one position stands for


class TrainedSpace(SpaceRecipe):
    """A space that this project trains on the corpus's training split; made once, then cached.

    Trained until a share `target` of the first validation texts' tokens comes back, looked at every LOOK_EVERY steps,
    and for `max_steps` at most, or just that long where the target is null: steps of `batch_size` texts at
    `learning_rate`, on the objective of TextAutoencoder with its `mask_probability`, `kl_weight` and `decoder_noise`.
    """

    def __init__(
        self,
        max_steps: int = 1500,
        target: float | None = 0.99,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        mask_probability: float = 0.1,
        kl_weight: float = 0.0,
        decoder_noise: float = 0.0,
        seed: int = 0,
        cache: str | None = None,
    ):
        super().__init__(cache)
        self.max_steps = whole(max_steps, "text_space.max_steps", 1)
        self.target = or_null(number, target, "text_space.target", above=0, most=1)
        self.batch_size = whole(batch_size, "text_space.batch_size", 1, LONGEST)
        self.learning_rate = number(learning_rate, "text_space.learning_rate", above=0)
        self.seed = seed_number(seed, "text_space.seed")
        self.objective = {
            "mask_probability": share(mask_probability, "text_space.mask_probability"),
            "kl_weight": number(kl_weight, "text_space.kl_weight", least=0),
            "decoder_noise": share(decoder_noise, "text_space.decoder_noise"),
        }

    @abstractmethod
    def start(self, data: TextDataModule) -> BartAutoencoder:
        """What is to be trained, as it is before."""

    @abstractmethod
    def key(self, data: TextDataModule) -> dict[str, object]:
        """Everything that the result depends on, beside the code."""

    def build(self, data):
        key = {"corpus": data.digest, "length": data.length, **self.key(data)}
        del key["cache"]  # which is not what it is, but what is done with it
        modules = (base, text_autoencoder, tokenizers, bart_autoencoder, data_base, data_tokens)
        code = [str(module.__file__) for module in modules]
        kind = type(self).__name__
        directory = cached_directory(data.cache_dir, kind, key, [__file__, *code], lambda path: self.train(data, path))
        return self.load(directory)

    def load(self, directory):
        return BartSpace.from_pretrained(directory)

    def train(self, data: TextDataModule, directory: Path) -> None:
        """Train and save to `directory`."""
        with isolate_rng():
            torch.manual_seed(self.seed)
            autoencoder = self.start(data)
            data.prepare(autoencoder.tokenizer)
            texts = from_all_over(data.splits["train"], self.max_steps * self.batch_size)
            loader = DataLoader(texts, self.batch_size, shuffle=True, collate_fn=data.collate)
            module = TextAutoencoder(
                autoencoder,
                **self.objective,
                optimizer=partial(torch.optim.AdamW, lr=self.learning_rate),
                lr_schedule=partial(get_scheduler, "constant_with_warmup", num_warmup_steps=50),
                seed=self.seed,
            )
            log.info("Training %s on %d texts; once, then it is cached", type(self).__name__, len(texts))
            trainer = Trainer(
                max_steps=self.max_steps,
                devices=1,
                gradient_clip_val=1.0,
                logger=False,
                log_every_n_steps=10,
                limit_val_batches=1,
                num_sanity_val_steps=0,
                val_check_interval=LOOK_EVERY,
                check_val_every_n_epoch=None,
                enable_checkpointing=False,
                enable_model_summary=False,
                callbacks=[
                    progress_bar(),
                    EarlyStopping(
                        "val/token_accuracy", mode="max", stopping_threshold=self.target, patience=self.max_steps
                    ),
                ],
            )
            trainer.fit(module, loader, data.val_dataloader())
            read = float(trainer.callback_metrics["val/token_accuracy"])
            log.info("Reads %.1f %% of its validation texts' tokens after %d steps", 100 * read, trainer.global_step)
        autoencoder.save(directory)


class BartMini(TrainedSpace):
    """A small BART from scratch: `dim` wide, `layers` in encoder and decoder each, `vocab_size` byte-level BPE
    tokens; the rest is TrainedSpace's.
    """

    def __init__(
        self,
        dim: int = 128,
        layers: int = 2,
        heads: int = 4,
        vocab_size: int = 2048,
        max_length: int = 1024,
        **training: Any,
    ):
        super().__init__(**training)
        self.dim, self.heads = whole(dim, "text_space.dim", 1, WIDEST), whole(heads, "text_space.heads", 1)
        if self.dim % self.heads:
            raise ValueError(f"text_space.dim={dim} is not a multiple of text_space.heads={heads}")
        self.layers = whole(layers, "text_space.layers", 1, DEEPEST)
        self.vocab_size = whole(vocab_size, "text_space.vocab_size", tokenizers.FEWEST, LONGEST)
        self.max_length = whole(max_length, "text_space.max_length", 4, LONGEST)

    def key(self, data):
        return vars(self)

    def start(self, data):
        tokenizer = tokenizers.train_tokenizer(data.excerpt(), self.vocab_size)
        return BartAutoencoder(self._untrained(tokenizer), tokenizer)

    def _untrained(self, tokenizer: PreTrainedTokenizerBase) -> BartForConditionalGeneration:
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
        bart = BartForConditionalGeneration(config)
        attend_to_own_position(bart)
        return bart


@torch.no_grad()
def attend_to_own_position(bart: BartForConditionalGeneration) -> None:
    """Start every cross-attention at the position that is to be written next. From uniform attention a BART first has
    to find it, and until then learns nothing but frequencies.

    Both sides begin with one table of positions, and queries and keys as OWN_POSITION times what they are made of.
    """
    encoder, decoder = bart.get_encoder(), bart.get_decoder()
    decoder.embed_positions.weight.copy_(encoder.embed_positions.weight)
    for layer in decoder.layers:
        for projection in (layer.encoder_attn.q_proj, layer.encoder_attn.k_proj):
            projection.weight.copy_(OWN_POSITION * torch.eye(projection.in_features))


class BartVAE(TrainedSpace):
    """A variational autoencoder made of the BART of `backbone`: a bottleneck of `dim` channels, each position of it
    standing for `compression` tokens, trained together with the BART; the rest is TrainedSpace's.
    """

    def __init__(
        self,
        backbone: SpaceRecipe,
        dim: int = 64,
        compression: int = 1,
        kl_weight: float = 1e-3,
        **training: Any,
    ):
        super().__init__(kl_weight=kl_weight, **training)
        self.backbone = instance(backbone, "text_space.backbone", SpaceRecipe)
        if isinstance(backbone, LearnedSpace):
            raise ValueError("text_space.backbone is no BART: choose text_space@text_space.backbone=bart_mini")
        self.dim = whole(dim, "text_space.dim", 1, WIDEST)
        self.compression = whole(compression, "text_space.compression", 1, MOST_COMPRESSED)

    @property
    def max_length(self) -> int:  # type: ignore[override]
        return self.backbone.max_length

    def key(self, data):
        return vars(self) | {"backbone": self.backbone.build(data).fingerprint}

    def start(self, data):
        backbone = self.backbone.build(data).frozen.module.train().requires_grad_(True)
        if backbone.bottleneck:
            raise ValueError("the backbone has a bottleneck already: take it as it is, with text_space=bart_base")
        bottleneck = Bottleneck(backbone.dim, self.dim, self.compression)
        return BartAutoencoder(backbone.bart, backbone.tokenizer, bottleneck)
