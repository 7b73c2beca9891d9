"""Filling the blanks of a text."""

from __future__ import annotations

from rich.text import Text

from diffusion_text.errors import UserError
from diffusion_text.tasks.given import BLANK, with_blanks
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.terminal import console


class Infill:
    """Find the tokens that stand for each `_` of `text=`; everything else stays exactly as it is."""

    def __call__(self, session: Session) -> None:
        if session.text is None or BLANK not in session.text:
            raise UserError('task=infill needs a text with blanks, one _ for each token: text="O ____, ____ art thou"')
        given = with_blanks(session, session.text)
        sampled = session.sample(given)
        tokenizer = session.model.text_space.tokenizer
        rows = []
        for number, tokens in enumerate(sampled.tokens, 1):
            pieces = tokenizer.batch_decode(tokens[:, None], skip_special_tokens=True)
            styles = ("" if was_given else "bold" for was_given in given.where)
            console().print(Text.assemble(f"[{number}] ", *zip(pieces, styles, strict=True)), soft_wrap=True)
            text = tokenizer.decode(tokens, skip_special_tokens=True)
            rows.append({"text": text, "given": session.text, "seed": session.seed})
        print(session.write_lines("infill", rows))
