"""Control: do texts say what they are asked to say, and at what cost?"""

from __future__ import annotations

import copy
import json
import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.table import Table

from diffusion_text.conditions.base import Condition
from diffusion_text.data.base import TextDataModule, pad
from diffusion_text.data.described import as_setting
from diffusion_text.diffusion.samplers import GaussianSampler
from diffusion_text.errors import UserError, first_line
from diffusion_text.models.quality import Quality
from diffusion_text.shapes import Tokens, Told
from diffusion_text.storage import write_json
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.terminal import console
from diffusion_text.values import listed, number, or_null, whole, words

log = logging.getLogger(__name__)
Target = Mapping[str, str]


class Row(NamedTuple):
    """Texts, one after the other for each target: the share of what is asked for that they say, word for word or in one
    of the ways in which the corpus has it, their quality, and the networks evaluated for each.
    """

    said: float
    verbatim: float
    quality: Quality
    evaluations: int


def read_targets(file: str) -> list[Target]:
    """A user's targets: an object of attributes a line, or a list such as `["Type", ":", "pub"]` (Li et al. 2022)."""
    try:
        lines = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read task.targets={file}: {first_line(error)}") from error
    wanted: list[Target] = []
    for line in lines:
        if isinstance(line, list):
            name, _, value = " ".join(map(str, line)).partition(" : ")
            line = {as_setting(name): value}
        if not isinstance(line, dict):
            raise UserError(f"task.targets={file}: {line} is neither an object of attributes nor a list of tokens")
        wanted.append(line)
    return wanted


def is_known(condition: Condition, target: Target) -> bool:
    """Whether texts were told all of it in training."""
    try:
        condition.asked(target, lambda text, setting: torch.tensor([]))
    except UserError:
        return False
    return True


class Control:
    """Ask for each of the `targets`, `each` times at each `guidance`: lines of a .jsonl, or every value by itself.

    Beside the texts stand those of nothing asked; real texts of the test split that are told what is asked for, and
    that are told something else instead; and training texts that are told it, which is what looking one up gives.
    """

    def __init__(self, targets: str | None = None, guidance: Sequence[float] = (1.0, 2.0, 4.0), each: int = 5):
        self.targets = or_null(words, targets, "task.targets")
        self.guidance = listed(guidance, "task.guidance", number, fewest=1, least=0)
        self.each = whole(each, "task.each", 1)

    def __call__(self, session: Session) -> None:
        rows = self.measure(session)
        self.show(rows)
        print(self.write(session, rows))

    def measure(self, session: Session) -> dict[str, Row]:
        """Every row of the table."""
        condition = session.model.condition
        if condition is None:
            raise UserError("task=control is of a run that was trained with a condition: experiment=e2e_control")
        asked = [target for target in self.wanted(condition) for _ in range(self.each)]
        told = torch.stack([condition.asked(target, session.told_text) for target in asked])
        drawn = {"nothing asked": (self.draw(session, None, 1.0, len(told)), session.sampler.nfe)}
        for guidance in self.guidance:
            cost = session.sampler.nfe * (1 if guidance == 1 else 2)
            drawn[f"guidance {guidance:g}"] = self.draw(session, told, guidance, len(told)), cost
        chance = random.Random(session.seed)
        drawn["real texts"] = self.real(session, told, "test", True, chance), 0
        drawn["of something else"] = self.real(session, told, "test", False, chance), 0
        drawn["looked up"] = self.real(session, told, "train", True, chance), 0
        return {name: self.row(session, asked, *what) for name, what in drawn.items()}

    def wanted(self, condition: Condition) -> list[Target]:
        """What is asked for."""
        if self.targets is None:
            return [*condition.targets()]
        wanted = read_targets(self.targets)
        known = [target for target in wanted if is_known(condition, target)]
        if not known:
            raise UserError(
                f"task.targets={self.targets} has no line that is known: give an object of attributes in each"
            )
        if unknown := [target for target in wanted if target not in known]:
            log.warning("Left out %d of %d targets, which were in no text: %s", len(unknown), len(wanted), unknown)
        return known

    def draw(self, session: Session, told: Told | None, guidance: float, many: int) -> Tokens:
        """Texts that are what they are told to be."""
        sampler = copy.copy(session.sampler)
        assert isinstance(sampler, GaussianSampler)
        sampler.guidance = guidance
        return session.drawn(sampler, many, told).tokens.cpu()

    def real(self, session: Session, told: Told, split: str, same: bool, chance: random.Random) -> Tokens:
        """For each target a text of a split that is told all of it, or something else in all of it; an empty text where
        there is none.
        """
        tokenizer = session.model.text_space.tokenizer
        texts = session.corpus.tokens(tokenizer)[split]
        known = torch.stack(list(texts["told"]))
        found = []
        for target in told:
            fits = (known == target) if same else (known != target) & (known > 0)
            places = (fits | (target == 0)).all(1).nonzero().flatten().tolist()
            found.append(texts[chance.choice(places)]["tokens"] if places else torch.tensor([], dtype=torch.long))
        return pad(found, tokenizer.pad_token_id)[0]

    def row(self, session: Session, asked: list[Target], tokens: Tokens, evaluations: int) -> Row:
        """What a set of texts says, and how well."""
        texts = session.model.text_space.to_text(tokens)
        pairs = [
            (text.lower(), name, value)
            for text, target in zip(texts, asked, strict=True)
            if text
            for name, value in target.items()
        ]
        said = [session.corpus.says(*pair) for pair in pairs]
        verbatim = [TextDataModule.says(session.corpus, *pair) for pair in pairs]
        many = max(1, len(pairs))
        return Row(sum(said) / many, sum(verbatim) / many, session.judge(tokens), evaluations)

    def show(self, rows: dict[str, Row]) -> None:
        """Print the table."""
        table = Table(
            title="Is it said? Word for word, or in one of the ways in which the corpus has it", title_justify="left"
        )
        table.add_column("")
        for column in ("said", "verbatim", "judge NLL", "entropy", "unique", "NFE"):
            table.add_column(column, justify="right")
        for name, row in rows.items():
            figures = row.quality.figures
            judged = (f"{figures[figure]:.3f}" for figure in ("judge_nll", "text_entropy"))
            shares = (f"{row.said:.1%}", f"{row.verbatim:.1%}")
            table.add_row(name, *shares, *judged, f"{figures['unique_texts']:.2f}", str(row.evaluations or ""))
        console().print(table)

    def write(self, session: Session, rows: dict[str, Row]) -> Path:
        """The figures as .json."""
        written: dict[str, Any] = {
            name: {"said": row.said, "verbatim": row.verbatim, "nfe": row.evaluations} | row.quality.figures
            for name, row in rows.items()
        }
        path = session.file("control", ".json")
        write_json(path, written | {"seed": session.seed, "each": self.each, "targets": self.targets})
        return path
