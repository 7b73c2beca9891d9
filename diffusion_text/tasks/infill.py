"""Filling the blanks of a text."""

from __future__ import annotations

from rich.text import Text

from diffusion_text.errors import UserError
from diffusion_text.models.writing import Given, Sampled
from diffusion_text.tasks.given import parted, with_blanks
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.terminal import console
from diffusion_text.values import or_null, words


class Infill:
    """Find the tokens that stand for the blanks of `text=`; everything else stays exactly as it is.

    A blank is a run of `_` by itself, a token for each: those of `snake_case` and `__init__` are text. With `blank`
    every occurrence of that, wherever it stands, is the blank of a token, and `_` is text.
    """

    def __init__(self, blank: str | None = None):
        self.blank = or_null(words, blank, "task.blank")

    def __call__(self, session: Session) -> None:
        given, sampled = self.fill(session)
        tokenizer = session.model.text_space.tokenizer
        rows = []
        for number, tokens in enumerate(sampled.tokens, 1):
            pieces = tokenizer.batch_decode(tokens[:, None], skip_special_tokens=True)
            styles = ("" if was_given else "bold" for was_given in given.where)
            console().print(Text.assemble(f"[{number}] ", *zip(pieces, styles, strict=True)), soft_wrap=True)
            text = tokenizer.decode(tokens, skip_special_tokens=True)
            rows.append({"text": text, "given": session.text, "seed": session.seed})
        print(session.write_lines("infill", rows))

    def fill(self, session: Session) -> tuple[Given, Sampled]:
        """What is given of the session's text, and texts around it."""
        if session.text is None or len(parted(session.text, self.blank)) == 1:
            example = "O ____, ____ art thou".replace("_", self.blank or "_")
            raise UserError(f'task=infill needs a text with blanks, each a word by itself: text="{example}"')
        given = with_blanks(session, session.text, self.blank)
        return given, session.sample(given)
