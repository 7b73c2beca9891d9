"""Texts of which a user gives a part."""

from __future__ import annotations

import re

import torch

from diffusion_text.errors import UserError
from diffusion_text.models.writing import Given
from diffusion_text.tasks.session import Session

BLANK = "_"
UNKNOWN = -1


def with_blanks(session: Session, text: str) -> Given:
    """A text in which every `_` stands for one token to be found."""
    return given(session, ids_of(session, text))


def prompt(session: Session, text: str) -> Given:
    """A text that goes on up to `session.length`, or as long as texts were in training."""
    ids = ids_of(session, text)
    return given(session, ids + [UNKNOWN] * (room(session) - len(ids)))


def ids_of(session: Session, text: str) -> list[int]:
    """Token ids, UNKNOWN for a blank; refuses what the model cannot take."""
    tokenizer = session.model.text_space.tokenizer
    if session.model.text_space.encodes_ahead:
        raise UserError("a BART's latents mix their tokens: only a run of model=diffusion_lm takes parts of a text")
    ids: list[int] = []
    for piece in re.split(f"({BLANK})", text):
        ids += [UNKNOWN] if piece == BLANK else tokenizer(piece, add_special_tokens=False, verbose=False).input_ids
    if not ids or len(ids) > room(session):
        raise UserError(f"text= has {len(ids)} tokens: this run takes from 1 to {room(session)}")
    return ids


def room(session: Session) -> int:
    """The most tokens that a text may have, without those that the corpus puts around it."""
    longest = session.length or len(session.model.length_counts) - 1
    return longest - len(session.corpus.wrap([], session.model.text_space.tokenizer))


def given(session: Session, ids: list[int]) -> Given:
    """As the corpus has its texts."""
    tokenizer = session.model.text_space.tokenizer
    tokens = torch.tensor(session.corpus.wrap(ids, tokenizer), device=session.model.device)
    where = tokens != UNKNOWN
    return Given(tokens.where(where, tokenizer.pad_token_id), where)
