"""Control: do texts say what they are asked to say, and at what cost?"""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from rich.table import Table

from diffusion_text.data.base import TextDataModule
from diffusion_text.data.tokens import pad
from diffusion_text.diffusion.samplers import GaussianSampler
from diffusion_text.errors import UserError
from diffusion_text.figures import SAMPLES, Figure
from diffusion_text.metrics.labels import NGramLabels
from diffusion_text.models.quality import Quality
from diffusion_text.shapes import Tokens, Told
from diffusion_text.storage import write_json, write_text
from diffusion_text.tasks.session import Session, Wish, stacked
from diffusion_text.tasks.targets import Target, read_targets
from diffusion_text.tracking.charts import control, for_page
from diffusion_text.tracking.pages import render
from diffusion_text.tracking.summary import control_table
from diffusion_text.tracking.terminal import console
from diffusion_text.values import listed, number, or_null, whole, words

log = logging.getLogger(__name__)
BESIDE = (("real texts", "test", True), ("of something else", "test", False), ("looked up", "train", True))


class Row(NamedTuple):
    """Texts, one after the other for each target: the share of what is asked for that they say, word for word or in one
    of the ways in which the corpus has it, their quality, and the evaluations for each of the network, and of a
    classifier's gradient.
    """

    said: float
    verbatim: float
    quality: Quality
    evaluations: int = 0
    gradients: int = 0


def is_known(session: Session, target: Target) -> bool:
    """Whether texts were told all of it in training."""
    try:
        session.wish(target)
    except UserError:
        return False
    return True


class Control:
    """Ask for each of the `targets`, `each` times: lines of a .jsonl, or every value in the test split by itself. A
    model that is told conditions is asked at each `guidance`, and where there is a classifier that one leads at each
    `scale`.

    Of texts that have a label, which they need not say, a classifier by n-grams tells whether it is the one asked for.

    Beside the texts stand those of nothing asked; real texts of the test split that are told what is asked for, and
    that are told something else instead; and training texts that are told it, which is what looking one up gives.
    """

    FIGURES: ClassVar = {
        "said": Figure("estimate", "share of what is asked for", SAMPLES, "higher"),
        "verbatim": Figure("estimate", "share of what is asked for", SAMPLES, "higher"),
    }

    def __init__(
        self,
        targets: str | None = None,
        guidance: Sequence[float] = (1.0, 1.5, 2.0),
        scale: Sequence[float] = (10.0, 30.0, 100.0),
        each: int = 5,
    ):
        self.targets = or_null(words, targets, "task.targets")
        self.guidance = listed(guidance, "task.guidance", number, fewest=1, least=0)
        self.scale = listed(scale, "task.scale", number, fewest=1, least=0)
        self.each = whole(each, "task.each", 1)

    def __call__(self, session: Session) -> None:
        rows = self.measure(session)
        self.show(rows)
        print(self.write(session, rows))

    def measure(self, session: Session) -> dict[str, Row]:
        """Every row of the table."""
        asked = [target for target in self.wanted(session) for _ in range(self.each)]
        wish = stacked(map(session.wish, asked))
        rows = {}
        for name, (turned, what) in self.settings(session, wish).items():
            tokens = turned.drawn(turned.sampler, len(asked), what).tokens.cpu()
            evaluations, gradients = cost(turned, what)
            rows[name] = self.row(session, asked, tokens)._replace(evaluations=evaluations, gradients=gradients)
        chance, described = random.Random(session.seed), asked_of(wish)
        for name, split, same in BESIDE:
            rows[name] = self.row(session, asked, self.real(session, described, split, same, chance))
        return rows

    def settings(self, session: Session, wish: Wish) -> dict[str, tuple[Session, Wish]]:
        """What is drawn: nothing asked; told, at each guidance; led, at each scale."""
        drawn = {"nothing asked": (session, Wish())}
        if wish.told is not None:
            drawn |= {name: (turned, Wish(wish.told)) for name, turned in self.guided(session)}
        for scale in self.scale if wish.led is not None else ():
            assert session.guide is not None
            turned = replace(session, guide=replace(session.guide, scale=scale))
            drawn[f"classifier {scale:g}"] = turned, Wish(led=wish.led)
        return drawn

    def guided(self, session: Session) -> Iterator[tuple[str, Session]]:
        """The session at each guidance, where its sampler can be guided."""
        if not isinstance(session.sampler, GaussianSampler):
            yield "told", session
            return
        for guidance in self.guidance:
            sampler = copy.copy(session.sampler)
            sampler.guidance = guidance
            yield f"guidance {guidance:g}", replace(session, sampler=sampler)

    def wanted(self, session: Session) -> list[Target]:
        """What is asked for."""
        condition = session.model.condition if session.guide is None else session.guide.classifier.named
        if condition is None:
            raise UserError(
                "task=control is of a run that was trained with a condition, experiment=e2e_control, or that a "
                "classifier leads, sampler.classifier=RUN"
            )
        if self.targets is None:
            values, told = [*condition.targets()], told_in(session, "test")
            wanted = [target for target in values if fitting(told, asked_of(session.wish(target)))]
            if not wanted:
                raise UserError("no value is in the test split: give what to ask for, task.targets=FILE.jsonl")
            if missing := len(values) - len(wanted):
                log.info("Left out %d of %d values, which are in no text of the test split", missing, len(values))
            return wanted
        wanted = read_targets(self.targets, "task.targets")
        known = [target for target in wanted if is_known(session, target)]
        if not known:
            raise UserError(
                f"task.targets={self.targets} has no line that is known: give an object of attributes in each"
            )
        if unknown := [target for target in wanted if target not in known]:
            log.warning("Left out %d of %d targets, which were in no text: %s", len(unknown), len(wanted), unknown)
        return known

    def real(self, session: Session, told: Told, split: str, same: bool, chance: random.Random) -> Tokens:
        """For each target a text of a split that is told all of it, or something else in all of it; an empty text where
        there is none.
        """
        texts, known, found = session.splits[split], told_in(session, split), []
        for target in told:
            places = fitting(known, target, same)
            found.append(texts[chance.choice(places)]["tokens"] if places else torch.tensor([], dtype=torch.long))
        return pad(found, session.model.text_space.tokenizer.pad_token_id)[0]

    def row(self, session: Session, asked: list[Target], tokens: Tokens) -> Row:
        """What a set of texts says, and how well."""
        texts = session.model.text_space.to_text(tokens)
        real = [place for place, text in enumerate(texts) if text]
        pairs = [(texts[place].lower(), name, value) for place in real for name, value in asked[place].items()]
        if session.corpus.label is None:
            said = [session.corpus.says(*pair) for pair in pairs]
        else:
            read = labels(session)(session.judge.without_special(tokens[real]))
            said = [label.lower() == value.lower() for label, (_, _, value) in zip(read, pairs, strict=True)]
        verbatim = [TextDataModule.says(session.corpus, *pair) for pair in pairs]
        many = max(1, len(pairs))
        return Row(sum(said) / many, sum(verbatim) / many, session.judge(tokens))

    def show(self, rows: dict[str, Row]) -> None:
        """Print the table."""
        table = Table(
            title="Is it said? Word for word, or in one of the ways in which the corpus has it", title_justify="left"
        )
        [_, *columns], *cells = control_table({name: figures_of(row) for name, row in rows.items()})
        table.add_column("")
        for column in columns:
            table.add_column(column, justify="right")
        for row in cells:
            table.add_row(*row)
        console().print(table)

    def write(self, session: Session, rows: dict[str, Row]) -> Path:
        """The figures as .json, and a page with the chart; returns the page."""
        found = {name: figures_of(row) for name, row in rows.items()}
        path = session.file("control", ".json")
        write_json(path, found | {"seed": session.seed, "each": self.each, "targets": self.targets})
        name = session.run.directory.resolve().name
        [chart] = control(found).values()
        page = render("control.html", {"control": for_page(chart, alone=True)}, name=name, rows=control_table(found))
        write_text(path.with_suffix(".html"), page)
        return path.with_suffix(".html")


def asked_of(wish: Wish) -> Told:
    """What texts are asked for, a row each: by the classifier where one leads, and otherwise by the model."""
    asked = wish.told if wish.led is None else wish.led
    assert asked is not None
    return asked


def told_in(session: Session, split: str) -> Told:
    """What each text of a split is told."""
    return torch.stack(list(session.splits[split]["told"]))


def fitting(known: Told, asked: Told, same: bool = True) -> list[int]:
    """Places of the texts that are told all that is asked for, or something else in all of it."""
    fits = (known == asked) if same else (known != asked) & (known > 0)
    return (fits | (asked == 0)).all(1).nonzero().flatten().tolist()


def labels(session: Session) -> NGramLabels:
    """What tells the label of a text by the training split's."""
    if "labels" not in session.made:
        [[_, values]] = session.corpus.attributes.items()
        texts = session.splits["train"]
        of_each: dict[str, list[np.ndarray]] = {value: [] for value in values}
        for told, text in zip(texts["told"], texts["tokens"], strict=True):
            of_each[values[int(told[0]) - 1]] += session.judge.without_special(text[None])
        session.made["labels"] = NGramLabels(of_each, len(session.model.text_space.tokenizer))
    return session.made["labels"]


def cost(session: Session, wish: Wish) -> tuple[int, int]:
    """Evaluations for a text: of the network, which guidance asks twice, and of a classifier's gradient."""
    sampler, guide = session.sampler, session.guide
    twice = isinstance(sampler, GaussianSampler) and sampler.guides(told=wish.told is not None)
    gradients = 0 if wish.led is None or guide is None else guide.steps * (sampler.num_steps - 1)
    return sampler.nfe * (1 + twice), gradients


def figures_of(row: Row) -> dict[str, Any]:
    """As they are kept."""
    spent = {"nfe": row.evaluations, "gradients": row.gradients}
    return {"said": row.said, "verbatim": row.verbatim} | spent | row.quality.figures
