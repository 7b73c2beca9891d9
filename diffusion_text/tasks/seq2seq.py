"""Sequence to sequence: told all that texts of a split are told, how near comes what is written to those texts?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.table import Table

from diffusion_text.conditions.text import TEXT
from diffusion_text.data.base import SPLITS
from diffusion_text.data.tokens import NOTHING
from diffusion_text.errors import UserError
from diffusion_text.sampled_texts import in_words
from diffusion_text.shapes import Told
from diffusion_text.tasks.comparison import References, bleu, chrf, exact_match, most_expected
from diffusion_text.tasks.session import Session, Wish
from diffusion_text.tracking.terminal import console
from diffusion_text.values import one_of, whole

CHOSEN = "minimum Bayes risk"
LENGTHS = ("short", "middle", "long")  # thirds, by the length of the first reference


class Asked(NamedTuple):
    """What is told, a row a text, in words, and the texts that are told it."""

    told: Told
    worded: list[dict[str, str]]
    references: References


class Seq2Seq:
    """BLEU and chrF of what is written against all texts of `split` that are told the same, over `num_samples` of such,
    and how many of them it is exactly; its words; BLEU of the shortest third, the middle and the longest.

    Of several `candidates` for each the one is chosen that is most like the others, by BLEU: minimum Bayes risk (Kumar
    & Byrne 2004). Beside them stand texts that are told nothing; what is told itself, where it is a text; and one of
    the references against the others, where there are others.
    """

    def __init__(self, split: str = "test", candidates: int = 1):
        self.split = one_of(split, "task.split", SPLITS)
        self.candidates = whole(candidates, "task.candidates", 1)

    def __call__(self, session: Session) -> None:
        asked, written = self.write_texts(session)
        scores = self.measure(session, asked, written)
        self.show(asked, written, scores)
        print(self.write(session, asked, written, scores))

    def write_texts(self, session: Session) -> tuple[Asked, dict[str, list[str]]]:
        """What is told, and by name the texts that are written for it."""
        asked = self.asked(session)
        many, each = len(asked.references), self.candidates
        drawn = session.read(session.drawn(session.sampler, many * each, Wish(asked.told.repeat_interleave(each, 0))))
        candidates = [drawn[i * each : (i + 1) * each] for i in range(many)]
        written = {"told": [texts[0] for texts in candidates]}
        if each > 1:
            written[CHOSEN] = [most_expected(texts) for texts in candidates]
        written["told nothing"] = session.read(session.drawn(session.sampler, many, Wish()))
        if TEXT in asked.worded[0]:
            written["what is told itself"] = [told[TEXT] for told in asked.worded]
        return asked, written

    def asked(self, session: Session) -> Asked:
        """What the first texts of the split are told, each with all texts that are told the same."""
        condition, space = session.model.condition, session.model.text_space
        if condition is None or condition.reads is None:
            raise UserError("task=seq2seq is of a run that is told attributes or another text: condition= names them")
        texts = session.splits[self.split]
        references: dict[tuple[int, ...], list[list[int]]] = {}
        for told, tokens in zip(texts["told"], texts["tokens"], strict=True):
            references.setdefault(tuple(told.tolist()), []).append(tokens.tolist())
        chosen = list(references)[: session.num_samples]
        widest = max(len(told) for told in chosen) if condition.reads == "attributes" else session.corpus.length
        rows = [F.pad(torch.tensor(told), (0, widest - len(told)), value=NOTHING) for told in chosen]
        told = torch.stack(rows)
        return Asked(told, condition.worded(told, space), [space.to_text(references[each]) for each in chosen])

    def measure(self, session: Session, asked: Asked, written: dict[str, list[str]]) -> dict[str, dict[str, float]]:
        """The figures of each set of texts."""
        scores = {name: self.scores(session, texts, asked) for name, texts in written.items()}
        several = [place for place, texts in enumerate(asked.references) if len(texts) > 1]
        if several:
            one = [asked.references[place][0] for place in several]
            others = [asked.references[place][1:] for place in several]
            same = Asked(asked.told[several], [asked.worded[place] for place in several], others)
            scores["one of the references"] = self.scores(session, one, same)
        return scores

    def scores(self, session: Session, texts: list[str], asked: Asked) -> dict[str, float]:
        """BLEU, chrF, exact matches, words a text, what is said of what is told, and BLEU by length."""
        references = asked.references
        found = {"bleu": bleu(texts, references), "chrf": chrf(texts, references)}
        found["exact"] = exact_match(texts, references)
        found["words"] = sum(len(text.split()) for text in texts) / len(texts)
        if TEXT not in asked.worded[0]:
            said = [
                session.corpus.says(text.lower(), name, value)
                for text, told in zip(texts, asked.worded, strict=True)
                for name, value in told.items()
            ]
            found["said"] = sum(said) / max(1, len(said))
        order = sorted(range(len(texts)), key=lambda place: len(references[place][0].split()))
        for number, name in enumerate(LENGTHS):
            third = order[number * len(order) // 3 : (number + 1) * len(order) // 3]
            if third:
                found[f"bleu_{name}"] = bleu([texts[i] for i in third], [references[i] for i in third])
        return found

    def show(self, asked: Asked, written: dict[str, list[str]], scores: dict[str, dict[str, float]]) -> None:
        """Print some texts, and the scores."""
        shown = CHOSEN if CHOSEN in written else "told"
        examples = Table(show_lines=True, title=f"{len(asked.references)} texts", title_justify="left")
        for column in ("told", "written", "a reference"):
            examples.add_column(column)
        for told, text, references in list(zip(asked.worded, written[shown], asked.references, strict=True))[:3]:
            examples.add_row(in_words(told), " ".join(text.split()), " ".join(references[0].split()))
        console().print(examples)
        table = Table(title="Against all texts that are told the same", title_justify="left")
        table.add_column("")
        for name in scores:
            table.add_column(name, justify="right")
        for figure in scores["told"]:
            cells = (f"{row[figure]:.3f}" if figure in row else "" for row in scores.values())
            table.add_row(figure.replace("_", " "), *cells)
        console().print(table)

    def write(
        self, session: Session, asked: Asked, written: dict[str, list[str]], scores: dict[str, dict[str, float]]
    ) -> Path:
        """Settings and scores, then a line for each that is told, as .jsonl."""
        settings = {
            "split": self.split,
            "candidates": self.candidates,
            "seed": session.seed,
            "nfe": session.sampler.nfe,
        }
        rows: Sequence[dict[str, Any]] = [
            {"condition": told, "references": references} | {name: texts[i] for name, texts in written.items()}
            for i, (told, references) in enumerate(zip(asked.worded, asked.references, strict=True))
        ]
        return session.write_lines("seq2seq", [{"scores": scores, **settings}, *rows])
