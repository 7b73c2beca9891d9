"""Generated text held against real text of the same corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from diffusion_text.data.base import pad
from diffusion_text.metrics.text_quality import QualityReference, TextQuality
from diffusion_text.models.tokenizers import written
from diffusion_text.shapes import Tokens

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class Quality(NamedTuple):
    """TextQuality's figures, and the most frequent token as it reads in a text."""

    figures: dict[str, float]
    most_frequent: str


class Judge:
    """TextQuality of texts in a corpus's tokens, `splits`; special tokens don't count."""

    def __init__(self, splits: dict[str, Dataset], tokenizer: PreTrainedTokenizerBase):
        self.splits, self.pad_token_id = splits, tokenizer.pad_token_id
        self.special = torch.tensor(tokenizer.all_special_ids)
        batches = splits["train"].with_format("numpy").iter(1000)
        texts = [tokens[~np.isin(tokens, self.special)] for batch in batches for tokens in batch["tokens"]]
        self.reference = QualityReference(texts, written(tokenizer))

    def __call__(self, tokens: Tokens) -> Quality:
        """Of these texts."""
        metric = TextQuality(self.reference)
        metric.sync_on_compute = False  # one process judges for all
        metric.update(tokens.cpu(), ~torch.isin(tokens.cpu(), self.special))
        return Quality({name: float(value) for name, value in metric.compute().items()}, metric.most_frequent())

    def real(self, split: str, count: int) -> Tokens:
        """`count` real texts, or as many as there are, from all over a split."""
        texts = self.splits[split]
        chosen = torch.linspace(0, len(texts) - 1, min(count, len(texts))).long().tolist()
        return pad(list(texts.with_format("torch").select(chosen)["tokens"]), self.pad_token_id)[0]

    def unigrams(self, like: Tokens, seed: int) -> Tokens:
        """Tokens drawn one by one from the training split's, where `like` has any that are not special."""
        generator = torch.Generator().manual_seed(seed)
        shares = self.reference.log_unigram.exp()
        drawn = torch.multinomial(shares, like.numel(), True, generator=generator).view(like.shape)
        return like.cpu().where(torch.isin(like.cpu(), self.special), drawn)
