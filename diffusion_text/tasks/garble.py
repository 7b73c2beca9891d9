"""The garbled-text test: can the model repair a text that was spoilt?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from rich.table import Table

from diffusion_text.conditions.garbled import Garbled
from diffusion_text.data.garbling import WAYS, Garbling
from diffusion_text.data.tokens import NOTHING
from diffusion_text.diffusion.gaussian import corrupt, per_text
from diffusion_text.diffusion.samplers import draw_like, generators_of
from diffusion_text.figures import SAMPLES, Figure
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.shapes import Latents, Mask, Tokens
from diffusion_text.tasks.agreement import agreed
from diffusion_text.tasks.comparison import alone, chrf, word_error_rate
from diffusion_text.tasks.corrector import Corrector, Ids
from diffusion_text.tasks.session import Session, Wish
from diffusion_text.tracking.terminal import console
from diffusion_text.values import listed, number, one_of, share, whole


class Repair(NamedTuple):
    """Texts as they were, what became of them by name, and how close that is to them."""

    garbling: Garbling
    originals: list[str]
    texts: dict[str, list[str]]
    scores: dict[str, dict[str, float]]


class Garble:
    """Spoil each text by `how` at `rate`, and restore it; of several ways and rates, by each at each.

    `how`: shuffle words within `window` words, or drop, repeat or replace tokens (by another of these texts).
    A model that was trained with condition=garbled is told the spoilt text and writes the restored one from noise. Any
    other has the spoilt text's x_0, noisy up to time `t`, to denoise. Of several `candidates`, what more than half of
    them change is changed, unless encoding and decoding the spoilt text changes it in the same way.
    Beside the restored texts stand the do-nothing baseline, the garbled x_0 decoded as it is, and what n-grams restore
    that are told how the text was spoilt.
    """

    FIGURES: ClassVar = {
        "word_error_rate": Figure("exact", "edits a word", SAMPLES, "lower"),
        "chrf": Figure("exact", "chrF, 0 to 1", SAMPLES, "higher"),
    }

    def __init__(
        self,
        how: str | Sequence[str] = "shuffle",
        rate: float | Sequence[float] = 0.3,
        window: int = 3,
        t: float = 0.1,
        candidates: int = 1,
    ):
        ways = listed([how] if isinstance(how, str) else how, "task.how", one_of, fewest=1, options=WAYS)
        rates = listed(rate if isinstance(rate, Sequence) else [rate], "task.rate", share, fewest=1)
        window = whole(window, "task.window", 2)
        self.garblings = [Garbling(how, rate, window) for how, rate in product(ways, rates)]
        self.t = number(t, "task.t", above=0, most=1)
        self.candidates = whole(candidates, "task.candidates", 1)

    def __call__(self, session: Session) -> None:
        repairs = [self.measure(session, garbling) for garbling in self.garblings]
        self.show(repairs)
        for repair in repairs:
            print(self.write(session, repair))

    def measure(self, session: Session, garbling: Garbling) -> Repair:
        """Garble and restore the session's texts."""
        space, chance = session.model.text_space, random.Random(session.seed)
        whole = self.that_fit(session)
        pool = [token for text in whole for token in text]
        spoilt = [garbling(text, space.tokenizer, pool, chance) for text in whole]
        originals, garbled = space.to_text(whole), space.to_text(spoilt)
        room = session.room(self.longest(session))
        enclosed = [session.corpus.enclosed(text[:room], space.tokenizer) for text in spoilt]
        tokens, token_mask = session.padded([torch.tensor(text) for text in enclosed])
        texts, reread = {"garbled": garbled}, spoilt
        x_0, mask = space.encode(tokens, token_mask), space.latent_mask(token_mask)
        if isinstance(session.model, TextDiffusion):
            reread = plain(session, session.model.reader.decode(x_0, mask))
            texts["do nothing"] = space.to_text(reread)
        told = isinstance(session.model.condition, Garbled)
        drawn = self.rewrite(session, tokens, token_mask) if told else self.denoise(session, x_0, mask)
        chosen = self.chosen(spoilt, plain(session, drawn), reread)
        texts |= {name: space.to_text(them) for name, them in chosen.items()}
        if "corrector" not in session.made:
            session.made["corrector"] = Corrector(session.judge, space.tokenizer)
        texts["by n-grams"] = space.to_text([session.made["corrector"](text, garbling) for text in spoilt])
        scores = {
            name: {"word_error_rate": word_error_rate(them, originals), "chrf": chrf(them, alone(originals))}
            for name, them in texts.items()
        }
        return Repair(garbling, originals, texts, scores)

    def longest(self, session: Session) -> int:
        """How many tokens a garbled text may have: as many as a text, or where it is told, and another one written, as
        a text with each of them twice.
        """
        return session.corpus.length * (2 if isinstance(session.model.condition, Garbled) else 1)

    def that_fit(self, session: Session) -> list[list[int]]:
        """The session's texts as token ids, short enough to be repeated at any rate."""
        tokens, mask = session.texts()
        room = int(session.room(self.longest(session)) / (1 + max(garbling.rate for garbling in self.garblings)))
        special = set(session.model.text_space.tokenizer.all_special_ids)
        texts = [text[real].tolist() for text, real in zip(tokens, mask, strict=True)]
        return [[token for token in text if token not in special][:room] for text in texts]

    def chosen(self, spoilt: list[Ids], drawn: list[Ids], reread: list[Ids]) -> dict[str, list[Ids]]:
        """The restored texts, of several candidates each."""
        if (each := self.candidates) == 1:
            return {"restored": drawn}
        of_each = [drawn[i : i + each] for i in range(0, len(drawn), each)]
        restored = [agreed(*given) for given in zip(spoilt, of_each, reread, strict=True)]
        return {"drawn once": drawn[::each], "restored": restored}

    def rewrite(self, session: Session, tokens: Tokens, mask: Mask) -> Tokens:
        """From noise, told the garbled text; as wide as any, so that a text comes out the same beside any other."""
        told = tokens.masked_fill(~mask, NOTHING)
        told = F.pad(told, (0, self.longest(session) - told.shape[1]), value=NOTHING)
        told = told.repeat_interleave(self.candidates, 0)
        return session.drawn(session.sampler, len(told), Wish(told)).tokens

    @torch.no_grad()
    def denoise(self, session: Session, x_0: Latents, mask: Mask) -> Tokens:
        """Forward to time t, and back."""
        x_0, mask = (of_each.repeat_interleave(self.candidates, 0) for of_each in (x_0, mask))
        generators = generators_of(session.seed, range(len(x_0)))
        alpha, sigma = (
            per_text(level).to(x_0) for level in session.diffusion.schedule.alpha_sigma(torch.tensor(self.t))
        )
        x_t = corrupt(x_0, draw_like(x_0, generators), alpha, sigma)
        for state in session.reverse(x_t, mask, generators, self.t):
            x_t = state.x_s
        return session.diffusion.reader.decode(x_t, mask)

    def show(self, repairs: list[Repair]) -> None:
        """Print texts side by side, and the scores."""
        examples = Table(show_lines=True, title="Garbled texts", title_justify="left")
        for column in ("original", "garbled", "restored"):
            examples.add_column(column)
        for repair in repairs:
            texts = (repair.originals, repair.texts["garbled"], repair.texts["restored"])
            for row in list(zip(*texts, strict=True))[: max(1, 3 // len(repairs))]:
                examples.add_row(*(" ".join(text.split()) for text in row))
        console().print(examples)
        many = len(repairs[0].originals)
        summary = Table(title=f"chrF, word errors in brackets: {many} texts against the original", title_justify="left")
        summary.add_column("")
        for name in repairs[0].scores:
            summary.add_column(name, justify="right")
        for (how, rate, _), scores in ((repair.garbling, repair.scores) for repair in repairs):
            figures = (f"{score['chrf']:.3f} ({score['word_error_rate']:.2f})" for score in scores.values())
            summary.add_row(f"{how} {rate:g}", *figures)
        console().print(summary)

    def write(self, session: Session, repair: Repair) -> Path:
        """Settings and scores, then a line a text, as .jsonl."""
        settings = {**repair.garbling._asdict(), "t": self.t, "candidates": self.candidates, "seed": session.seed}
        rows = [{"scores": repair.scores, **settings, "nfe": session.sampler.nfe}]
        rows += [
            {"original": original, **{name: texts[i] for name, texts in repair.texts.items()}}
            for i, original in enumerate(repair.originals)
        ]
        return session.write_lines("garble", rows)


def plain(session: Session, tokens: Tokens) -> list[Ids]:
    """The tokens of each text that are not special."""
    return [text.tolist() for text in session.judge.without_special(tokens)]
