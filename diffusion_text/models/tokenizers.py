"""Where tokens come from: byte pairs or characters learned from the corpus, or a pretrained tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from diffusion_text.cache import cached_directory
from diffusion_text.data.base import TextDataModule
from diffusion_text.hub import load_pretrained
from diffusion_text.values import LONGEST, whole, words

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

FEWEST = 300  # tokens that stand for any text: 256 bytes and the special ones
SPECIAL_TOKENS = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}


class TokenizerRecipe(ABC):
    """Makes a tokenizer for a corpus."""

    @abstractmethod
    def build(self, data: TextDataModule) -> PreTrainedTokenizerBase:
        """The tokenizer, with padding."""


class LearnedTokenizer(TokenizerRecipe):
    """A tokenizer learned from the corpus's training split; made once, then cached."""

    @abstractmethod
    def learn(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        """The tokenizer of these texts."""

    def build(self, data):
        from transformers import PreTrainedTokenizerFast

        key = {"corpus": data.digest, **vars(self)}
        directory = cached_directory(
            data.cache_dir,
            type(self).__name__,
            key,
            [__file__],
            lambda path: self.learn(data.excerpt()).save_pretrained(path),
        )
        return PreTrainedTokenizerFast.from_pretrained(directory)


class BytePairTokenizer(LearnedTokenizer):
    """Byte-level BPE of at most `vocab_size` tokens."""

    def __init__(self, vocab_size: int = 2048):
        self.vocab_size = whole(vocab_size, "tokenizer.vocab_size", FEWEST, LONGEST)

    def learn(self, texts):
        return train_tokenizer(texts, self.vocab_size)


class CharacterTokenizer(LearnedTokenizer):
    """A token for each character of the corpus."""

    def learn(self, texts):
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        characters = sorted({character for text in texts for character in text} | {"\n"})
        vocabulary = {token: i for i, token in enumerate([*SPECIAL_TOKENS.values(), *characters])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS["unk"]))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
        return wrapped(tokenizer)


class PretrainedTokenizer(TokenizerRecipe):
    """A tokenizer from the hub, or from a local directory in the same format."""

    def __init__(self, pretrained: str):
        self.pretrained = words(pretrained, "tokenizer.pretrained")

    def build(self, data):
        from transformers import AutoTokenizer

        tokenizer = load_pretrained(
            AutoTokenizer, self.pretrained, "tokenizer.pretrained", "tokenizer_config.json", "tokenizer=bpe"
        )
        if tokenizer.pad_token_id is None:  # none is added where one can do: pretrained rows are of these tokens
            tokenizer.add_special_tokens({"pad_token": tokenizer.eos_token or SPECIAL_TOKENS["pad"]})
        return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with BART's special tokens (Sennrich et al. 2016; Radford et al. 2019)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

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
    return wrapped(bpe)


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """As transformers knows it, with BART's special tokens."""
    from transformers import PreTrainedTokenizerFast

    names = {f"{name}_token": token for name, token in SPECIAL_TOKENS.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **names)


def written(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Every token as it reads in a text; special ones are empty."""
    return tokenizer.batch_decode([[token] for token in range(len(tokenizer))], skip_special_tokens=True)
