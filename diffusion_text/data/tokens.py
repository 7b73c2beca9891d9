"""From texts to tokens. Nothing in a text stands for a special token, and what a tokenizer does not know is told."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffusion_text.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)
NOTHING = -1  # in the place of a token that is told
NAMED = 10  # pieces of text that a line of the log has room for


class TextReader:
    """A tokenizer that reads `<s>` and the like in a text as text, and keeps account of what it does not know."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, unknown: Iterable[str] = (), times: int = 0):
        self.tokenizer, self.special = tokenizer, set(tokenizer.all_special_ids)
        self.unknown, self.times = list(dict.fromkeys(unknown)), times

    def ids(self, text: str) -> list[int]:
        """A text's token ids, none of them special but that of the unknown."""
        try:
            read = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        except Exception as error:  # a backend in Rust raises nothing more special
            raise UserError(f"{named(self.tokenizer)} cannot read {text[:40]!r}: {first_line(error)}") from error
        if self.special.isdisjoint(read.input_ids):
            return read.input_ids
        places = zip(read.input_ids, read.encodings[0].offsets, strict=True)
        return [self.missing(text[slice(*place)]) if token in self.special else token for token, place in places]

    def missing(self, piece: str) -> int:
        """The id of the unknown, in place of a piece of text that has none; takes account of it."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            raise UserError(f"{named(self.tokenizer)} has no token for {piece!r}, nor one for what it does not know")
        self.times += 1
        if len(self.unknown) <= NAMED and piece not in self.unknown:
            self.unknown.append(piece)
        return unknown

    def report(self, what: str) -> None:
        """Tell what there was in `what` that the tokenizer does not know."""
        if self.times:
            pieces = ", ".join(map(repr, self.unknown[:NAMED])) + (", …" if len(self.unknown) > NAMED else "")
            unknown = self.tokenizer.unk_token
            log.warning("The tokenizer does not know %s: %s in %s read as %s", pieces, self.times, what, unknown)


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], what: str) -> list[list[int]]:
    """The token ids of each text; tells what there was in them, and thereby in `what`, that is unknown."""
    reader = TextReader(tokenizer)
    ids = [reader.ids(text) for text in texts]
    reader.report(what)
    return ids


def pack(texts: Iterable[str], reader: TextReader, length: int, joint: str = "\n\n") -> Iterator[list[int]]:
    """Consecutive paragraphs, joined by a blank line or another `joint`, in texts of at most `length` tokens, ends
    included.
    """
    start, end = ends(reader.tokenizer)
    room = length - len(start) - len(end)
    between = reader.ids(joint)
    current: list[int] = []
    for text in texts:
        ids = reader.ids(text)
        if current and len(current) + len(between) + len(ids) <= room:
            current += between + ids
            continue
        if current:
            yield [*start, *current, *end]
        for place in range(0, len(ids) - room, room):
            yield [*start, *ids[place : place + room], *end]
        current = ids[max(0, (len(ids) - 1) // room) * room :]
    if current:
        yield [*start, *current, *end]


def stream(texts: Iterable[str], reader: TextReader, length: int, joint: str = "\n\n") -> Iterator[list[int]]:
    """All paragraphs, so joined, in texts of `length` tokens; what is left at the end is a shorter one."""
    between = reader.ids(joint)
    current: list[int] = []
    for number, text in enumerate(texts):
        ids = reader.ids(text)
        current += between + ids if number else ids
        whole = len(current) // length * length
        yield from (current[place : place + length] for place in range(0, whole, length))
        current = current[whole:]
    if current:
        yield current


def ends(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What stands before and after a text: `<s>` and `</s>`, where the tokenizer has them."""
    before, after = tokenizer.bos_token_id, tokenizer.eos_token_id
    return [] if before is None else [before], [] if after is None else [after]


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that texts cannot be read with."""
    if not tokenizer.is_fast:
        raise UserError(
            f"{named(tokenizer)} is a {type(tokenizer).__name__}, of which there is no fast version: choose another, "
            "one with a tokenizer.json"
        )
    if tokenizer.pad_token_id is None:
        raise UserError(f"{named(tokenizer)} has no padding: give it a pad_token in its tokenizer_config.json")


def named(tokenizer: PreTrainedTokenizerBase) -> str:
    """What a user knows a tokenizer by."""
    return f"the tokenizer {tokenizer.name_or_path}".strip()


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A fingerprint of what a tokenizer does."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()[:16]


def pad(texts: list[Tensor], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Token ids `(batch, length)` and the mask of real ones."""
    tokens = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=pad_token_id).long()
    lengths = torch.tensor([len(text) for text in texts])
    return tokens, torch.arange(tokens.shape[1]) < lengths[:, None]
