"""A model for other people, in a directory of its own."""

from __future__ import annotations

from pathlib import Path

from diffusion_text.errors import UserError
from diffusion_text.exports import write_export
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.model_card import figures_of, model_card
from diffusion_text.tracking.records import Record
from diffusion_text.values import words


class Export:
    """Write the model, with the sampler as it is set, to `to`, a new directory: what it has is in exports.py."""

    def __init__(self, to: str | None = None):
        if to is None:
            raise UserError("task=export writes a new directory: name it with to=DIR")
        self.to = Path(words(to, "to")).absolute()
        if self.to.exists() and not (self.to.is_dir() and not any(self.to.iterdir())):
            raise UserError(f"task=export to={to}: that is there already, choose a new directory")

    def __call__(self, session: Session) -> None:
        export(session, self.to)
        print(self.to)


def export(session: Session, directory: Path) -> None:
    """Write a session's model to a new directory."""
    if session.guide is not None:
        raise UserError("task=export: a classifier is no part of what it steers: leave out sampler.classifier=")
    if session.run.exported.is_file():
        raise UserError(f"{session.run.directory} is an export already: copy it")
    record, model, corpus = Record(session.run), session.model, session.corpus
    figures = figures_of(record, session.step)
    texts = f"{type(corpus).__name__} {session.config['corpus']}, {corpus.packing} of {corpus.length} tokens"
    card = model_card(record, model.describe(), session.step, texts, corpus.licence)
    write_export(
        directory, dict(session.config), model.state_dict(), session.step, model.text_space.save, figures, card
    )
