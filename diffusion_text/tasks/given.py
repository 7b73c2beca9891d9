"""Texts of which a user gives a part."""

from __future__ import annotations

import re

import torch

from diffusion_text.data.tokens import TextReader
from diffusion_text.errors import UserError
from diffusion_text.models.writing import Given
from diffusion_text.tasks.session import Session

STANDING_ALONE = r"(?<!\w)_+(?!\w)"
UNKNOWN = -1


def with_blanks(session: Session, text: str, blank: str | None = None) -> Given:
    """A text with blanks, as `parted` tells them."""
    return given(session, ids_of(session, parted(text, blank)))


def parted(text: str, blank: str | None) -> list[str | int]:
    """The text between blanks, and how many tokens each of these stands for.

    A blank is a run of `_` that no letter, digit or other `_` touches, a token for each; with `blank`, every occurrence
    of that is one for a token.
    """
    split = re.split(f"({STANDING_ALONE if blank is None else re.escape(blank)})", text)
    return [len(piece) // len(blank or "_") if place % 2 else piece for place, piece in enumerate(split)]


def prompt(session: Session, text: str) -> Given:
    """A text that goes on up to `session.length`, or as long as texts were in training."""
    ids = ids_of(session, [text])
    return given(session, ids + [UNKNOWN] * (room(session) - len(ids)))


def ids_of(session: Session, parts: list[str | int]) -> list[int]:
    """Token ids of pieces of text, UNKNOWN for the tokens of blanks; refuses what the model cannot take."""
    if session.model.text_space.encodes_ahead:
        raise UserError("a BART's latents mix their tokens: only a run of model=diffusion_lm takes parts of a text")
    reader = TextReader(session.model.text_space.tokenizer)
    ids: list[int] = []
    for part in parts:
        ids += [UNKNOWN] * part if isinstance(part, int) else reader.ids(part)
    reader.report("text=")
    session.check_room(ids, "text", room(session))
    return ids


def room(session: Session) -> int:
    """The most tokens that a text may have which the model is to write."""
    return session.room(session.length or session.model.max_length)


def given(session: Session, ids: list[int]) -> Given:
    """As the corpus has its texts."""
    tokenizer = session.model.text_space.tokenizer
    tokens = torch.tensor(session.corpus.wrap(ids, tokenizer), device=session.model.device)
    where = tokens != UNKNOWN
    return Given(tokens.where(where, tokenizer.pad_token_id), where)
