"""Generated text held against real text of the same corpus."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from diffusion_text.data.excerpts import from_all_over, spread
from diffusion_text.data.tokens import pad
from diffusion_text.errors import UserError
from diffusion_text.metrics.frontier import TextScores
from diffusion_text.metrics.ngrams import Text, per_text
from diffusion_text.metrics.text_quality import QualityReference, TextQuality, entropy
from diffusion_text.models.tokenizers import written
from diffusion_text.shapes import Tokens

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from diffusion_text.models.writing import Writer

JUDGED = 64  # texts at a time
BLOCK = 1_000  # texts that lie together, the first of which tell how long all are
COUNTED = 2_000_000  # tokens of the training split, about, whose n-grams are counted
FOLLOWED = 1_000_000  # of these, from which trigrams are drawn


class Quality(NamedTuple):
    """TextQuality's figures, and the most frequent token as it reads in a text."""

    figures: dict[str, float]
    most_frequent: str


def check_judge(network: Writer, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError for a model that cannot judge texts in these tokens."""
    if network.likelihood != "exact":
        kind = type(network).__name__
        raise UserError(f"task.judge: {kind} knows no exact likelihood: use one of model=autoregressive")
    if network.text_space.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise UserError("task.judge was trained on other tokens: train one with this run's data= and tokenizer=")


def counted(texts: Dataset) -> Dataset:
    """A training split's texts, or of a large one COUNTED tokens from all over it, in blocks that are read at once."""
    from datasets import concatenate_datasets

    some = list(texts[:BLOCK]["tokens"])
    many = COUNTED * len(some) // sum(map(len, some))
    if len(texts) <= many:
        return texts
    starts = spread(range(0, len(texts), BLOCK), -(-many // BLOCK))
    return concatenate_datasets([texts.select(range(start, min(start + BLOCK, len(texts)))) for start in starts])


class Judge:
    """TextQuality of texts in a corpus's tokens, `splits`; special tokens don't count. `network`, a model that tells
    exactly how likely a text in these tokens is, takes the place of the n-grams in `scores`.
    """

    def __init__(self, splits: dict[str, Dataset], tokenizer: PreTrainedTokenizerBase, network: Writer | None = None):
        if network is not None:
            check_judge(network, tokenizer)
        self.splits, self.pad_token_id, self.network = splits, tokenizer.pad_token_id, network
        self.special = torch.tensor(tokenizer.all_special_ids)
        batches = counted(splits["train"].with_format("numpy")).iter(1000)
        self.texts = [tokens[~np.isin(tokens, self.special)] for batch in batches for tokens in batch["tokens"]]
        self.reference = QualityReference(self.texts, written(tokenizer))

    def __call__(self, tokens: Tokens) -> Quality:
        """Of these texts."""
        metric = TextQuality(self.reference, sync_on_compute=False)  # one process judges for all
        metric.update(tokens.cpu(), ~torch.isin(tokens.cpu(), self.special))
        return Quality({name: float(value) for name, value in metric.compute().items()}, metric.most_frequent())

    def without_special(self, tokens: Tokens) -> list[Text]:
        """The tokens of each text that are of the text."""
        return [text[~np.isin(text, self.special)] for text in tokens.cpu().numpy()]

    def scores(self, tokens: Tokens) -> TextScores:
        """The judge's nats, the number of tokens, and the entropy of each of these texts."""
        texts = self.without_special(tokens)
        entropies = np.array([entropy(text) if len(text) else np.nan for text in texts])
        if self.network is not None:
            return TextScores(*self.nats(self.network, tokens), entropies)
        lengths = np.array([len(text) for text in texts])
        nats = -per_text(self.reference.judge.log_probabilities(texts), texts)
        return TextScores(nats, lengths, entropies)

    def nats(self, network: Writer, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
        """−log p of each text, and its tokens, those included that begin and end it."""
        tokens = tokens.to(network.device)
        mask, generator = tokens != self.pad_token_id, torch.Generator().manual_seed(0)
        nats = [
            torch.stack(list(network.nats(*batch, 1, None, generator).values())).sum(0)
            for batch in zip(tokens.split(JUDGED), mask.split(JUDGED), strict=True)
        ]
        return torch.cat(nats).double().cpu().numpy(), mask.sum(1).cpu().numpy()

    def real(self, split: str, count: int) -> Tokens:
        """`count` real texts, or as many as there are, from all over a split."""
        texts = from_all_over(self.splits[split].with_format("torch"), count)
        return pad(list(texts["tokens"]), self.pad_token_id)[0]

    def nonsense(self, like: Tokens, seed: int) -> dict[str, Tokens]:
        """Texts that nobody wants, as many as `like` and about as long: what they score, no figure should be praised
        for. Tokens drawn one by one, tokens drawn after the two before them, one real text over and over, and training
        texts copied.
        """
        return {
            "unigrams": self.unigrams(like, seed),
            "trigrams": self.trigrams(like, seed),
            "one text": self.real("validation", 1).expand(len(like), -1),
            "copied": self.real("train", len(like)),
        }

    def trigrams(self, like: Tokens, seed: int) -> Tokens:
        """Tokens drawn as they follow the two before them somewhere in training texts, where `like` has any that are
        not special; a text's first come from those of training texts, and what follows nothing is drawn anew.
        """
        chance = np.random.default_rng(seed)
        tokens, places, starts = self._following
        drawn = like.cpu().numpy().copy()
        for text in drawn:
            at = -1
            for position in np.flatnonzero(~np.isin(text, self.special)):
                at = chance.choice(starts) if at < 0 else chance.choice(places[tokens[at - 1], tokens[at]]) + 1
                if at == len(tokens) or tokens[at] < 0:
                    at = chance.choice(starts)
                text[position] = tokens[at]
        return torch.from_numpy(drawn)

    @cached_property
    def _following(self) -> tuple[Text, dict[tuple[int, int], list[int]], Text]:
        """The training texts end to end, −1 before each; where every pair of tokens ends; where texts start."""
        texts = [np.insert(text.astype(np.int64), 0, -1) for text in self.texts if len(text)]
        tokens = np.concatenate(texts)[:FOLLOWED]
        places: dict[tuple[int, int], list[int]] = {}
        for place, pair in enumerate(pairwise(tokens.tolist()), 1):
            places.setdefault(pair, []).append(place)
        starts = np.flatnonzero(tokens[:-1] < 0) + 1
        return tokens, places, starts

    def unigrams(self, like: Tokens, seed: int) -> Tokens:
        """Tokens drawn one by one from the training split's, where `like` has any that are not special."""
        generator = torch.Generator().manual_seed(seed)
        shares = self.reference.log_unigram.exp()
        drawn = torch.multinomial(shares, like.numel(), True, generator=generator).view(like.shape)
        return like.cpu().where(torch.isin(like.cpu(), self.special), drawn)
