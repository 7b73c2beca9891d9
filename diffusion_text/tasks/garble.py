"""The garbled-text test: can the model repair a text that was spoilt?"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from rich.table import Table

from diffusion_text.data.tokens import token_ids
from diffusion_text.diffusion.gaussian import corrupt, per_text
from diffusion_text.diffusion.samplers import draw_like, generators_of
from diffusion_text.figures import SAMPLES, Figure
from diffusion_text.tasks.comparison import chrf, word_error_rate
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.terminal import console
from diffusion_text.values import number, one_of, share, whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Garbled(NamedTuple):
    """Texts as they were, what became of them by name, and how close that is to them."""

    originals: list[str]
    texts: dict[str, list[str]]
    scores: dict[str, dict[str, float]]


class Garble:
    """Spoil each text by `how` at `rate`, encode it, add noise up to time `t`, denoise, decode.

    `how`: shuffle words within `window` words, or drop, repeat or replace tokens (by another of these texts).
    Beside the restored texts stands the do-nothing baseline: the garbled latent, decoded as it is.
    """

    FIGURES: ClassVar = {
        "word_error_rate": Figure("exact", "edits a word", SAMPLES, "lower"),
        "chrf": Figure("exact", "chrF, 0 to 1", SAMPLES, "higher"),
    }

    def __init__(self, how: str = "shuffle", rate: float = 0.3, window: int = 3, t: float = 0.1):
        self.how = one_of(how, "task.how", ("shuffle", "drop", "repeat", "replace"))
        self.rate, self.window = share(rate, "task.rate"), whole(window, "task.window", 2)
        self.t = number(t, "task.t", above=0, most=1)

    def __call__(self, session: Session) -> None:
        garbled = self.measure(session)
        self.show(garbled)
        print(self.write(session, garbled))

    def measure(self, session: Session) -> Garbled:
        """Garble and restore the session's texts."""
        space = session.model.text_space
        whole = self.that_fit(session)
        spoilt = self.spoil(whole, space.tokenizer, random.Random(session.seed))
        originals, garbled = space.to_text(whole), space.to_text(spoilt)
        tokens, mask = session.wrap(spoilt)
        x_0, mask = space.encode(tokens, mask), space.latent_mask(mask)
        untouched = space.to_text(space.decode(x_0, mask))
        restored = space.to_text(space.decode(self.denoise(session, x_0, mask), mask))
        texts = {"garbled": garbled, "do nothing": untouched, "restored": restored}
        scores = {
            name: {"word_error_rate": word_error_rate(them, originals), "chrf": chrf(them, originals)}
            for name, them in texts.items()
        }
        return Garbled(originals, texts, scores)

    def that_fit(self, session: Session) -> list[list[int]]:
        """The session's texts as token ids, short enough to be repeated at this rate within the model's length."""
        tokens, mask = session.texts()
        room = int(tokens.shape[1] / (1 + self.rate))
        special = set(session.model.text_space.tokenizer.all_special_ids)
        texts = [text[real].tolist() for text, real in zip(tokens, mask, strict=True)]
        return [[token for token in text if token not in special][:room] for text in texts]

    def spoil(
        self, texts: list[list[int]], tokenizer: PreTrainedTokenizerBase, chance: random.Random
    ) -> list[list[int]]:
        """The texts, garbled."""
        if self.how == "shuffle":
            shuffled = [" ".join(self.shuffle(text.split(), chance)) for text in tokenizer.batch_decode(texts)]
            return token_ids(tokenizer, shuffled, "the shuffled texts")
        vocabulary = [token for text in texts for token in text]
        instead = {
            "drop": lambda token: [],
            "repeat": lambda token: [token, token],
            "replace": lambda token: [chance.choice(vocabulary)],
        }[self.how]
        return [
            [new for token in text for new in (instead(token) if chance.random() < self.rate else [token])]
            for text in texts
        ]

    def shuffle(self, words: list[str], chance: random.Random) -> list[str]:
        """A share of the words, each moved back by less than the window."""
        keys = [i + (chance.uniform(0, self.window) if chance.random() < self.rate else 0) for i in range(len(words))]
        return [word for _, word in sorted(zip(keys, words, strict=True), key=lambda pair: pair[0])]

    @torch.no_grad()
    def denoise(self, session: Session, x_0: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Forward to time t, and back."""
        generators = generators_of(session.seed, range(len(x_0)))
        alpha, sigma = (
            per_text(level).to(x_0) for level in session.diffusion.schedule.alpha_sigma(torch.tensor(self.t))
        )
        x_t = corrupt(x_0, draw_like(x_0, generators), alpha, sigma)
        for state in session.reverse(x_t, mask, generators, self.t):
            x_t = state.x_s
        return x_t

    def show(self, garbled: Garbled) -> None:
        """Print texts side by side, and the scores."""
        table = Table(
            title=f"{self.how}, rate {self.rate:g}, denoised from t = {self.t:g}", show_lines=True, title_justify="left"
        )
        for column in ("original", "garbled", "restored"):
            table.add_column(column)
        texts = (garbled.originals, garbled.texts["garbled"], garbled.texts["restored"])
        for row in list(zip(*texts, strict=True))[:3]:
            table.add_row(*(" ".join(text.split()) for text in row))
        console().print(table)
        summary = Table(title=f"Against the original, over {len(garbled.originals)} texts", title_justify="left")
        for column in ("", "word error rate", "chrF"):
            summary.add_column(column)
        for name, score in garbled.scores.items():
            summary.add_row(name, f"{score['word_error_rate']:.3f}", f"{score['chrf']:.3f}")
        console().print(summary)

    def write(self, session: Session, garbled: Garbled) -> Path:
        """Settings and scores, then a line a text, as .jsonl."""
        settings = {"how": self.how, "rate": self.rate, "window": self.window, "t": self.t, "seed": session.seed}
        rows = [{"scores": garbled.scores, **settings, "nfe": session.sampler.nfe}]
        rows += [
            {"original": original, **{name: texts[i] for name, texts in garbled.texts.items()}}
            for i, original in enumerate(garbled.originals)
        ]
        return session.write_lines("garble", rows)
