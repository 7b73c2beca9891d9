"""The garbled-text test: can the model repair a text that was spoilt?"""

from __future__ import annotations

import json
import random

import torch
from rich.table import Table

from diffusion_text.diffusion.gaussian import corrupt, per_text
from diffusion_text.diffusion.samplers import draw_like
from diffusion_text.tasks.comparison import chrf, word_error_rate
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.summary import console


class Garble:
    """Spoil each text by `how` at `rate`, encode it, add noise up to time `t`, denoise, decode.

    `how`: shuffle words within `window` words, or drop, repeat or replace (by another word of the texts) words.
    Beside the restored texts stands the do-nothing baseline: the garbled latent, decoded as it is.
    """

    def __init__(self, how: str = "shuffle", rate: float = 0.3, window: int = 3, t: float = 0.3):
        if how not in ("shuffle", "drop", "repeat", "replace"):
            raise ValueError(f"task.how must be shuffle, drop, repeat or replace, not {how}")
        if not 0 <= rate <= 1 or not 0 < t <= 1 or window < 2:
            raise ValueError(
                f"task.rate lies in [0, 1], task.t in (0, 1], task.window is at least 2: {rate}, {t}, {window}"
            )
        self.how, self.rate, self.window, self.t = how, rate, window, t

    def __call__(self, session: Session) -> None:
        space = session.model.text_space
        tokens, _ = session.texts()
        fits = int(tokens.shape[1] / (1 + self.rate))  # repeated words make a text longer, and the model takes no more
        originals = space.to_text(tokens[:, :fits])
        chance = random.Random(session.seed)
        vocabulary = [word for text in originals for word in text.split()]
        garbled = [" ".join(self.spoil(text.split(), vocabulary, chance)) for text in originals]
        spoilt, mask = session.tokenize(garbled)
        x_0, mask = space.encode(spoilt, mask), space.latent_mask(mask)
        untouched = space.to_text(space.decode(x_0, mask))
        restored = space.to_text(space.decode(self.denoise(session, x_0, mask), mask))
        texts = {"garbled": garbled, "do nothing": untouched, "restored": restored}
        scores = {
            name: {"word_error_rate": word_error_rate(them, originals), "chrf": chrf(them, originals)}
            for name, them in texts.items()
        }
        self.report(session, originals, texts, scores)

    @torch.no_grad()
    def denoise(self, session: Session, x_0: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Forward to time t, and back."""
        generator = torch.Generator().manual_seed(session.seed)
        alpha, sigma = (per_text(level).to(x_0) for level in session.model.schedule.alpha_sigma(torch.tensor(self.t)))
        x_t = corrupt(x_0, draw_like(x_0, generator), alpha, sigma)
        for state in session.model.reverse(session.sampler, x_t, mask, generator, start=self.t):
            x_t = state.x_s
        return x_t

    def spoil(self, words: list[str], vocabulary: list[str], chance: random.Random) -> list[str]:
        """The words, garbled."""
        if self.how == "shuffle":
            keys = [
                i + (chance.uniform(0, self.window) if chance.random() < self.rate else 0) for i in range(len(words))
            ]
            return [word for _, word in sorted(zip(keys, words, strict=True), key=lambda pair: pair[0])]
        spoilt = []
        for word in words:
            hit = chance.random() < self.rate
            if self.how == "drop":
                spoilt += [] if hit else [word]
            elif self.how == "repeat":
                spoilt += [word, word] if hit else [word]
            else:
                spoilt += [chance.choice(vocabulary)] if hit else [word]
        return spoilt

    def report(self, session: Session, originals: list[str], texts: dict[str, list[str]], scores: dict) -> None:
        """Print texts side by side and the scores; write both as .jsonl."""
        table = Table(
            title=f"{self.how}, rate {self.rate:g}, denoised from t = {self.t:g}", show_lines=True, title_justify="left"
        )
        for column in ("original", "garbled", "restored"):
            table.add_column(column)
        for row in list(zip(originals, texts["garbled"], texts["restored"], strict=True))[:3]:
            table.add_row(*(" ".join(text.split()) for text in row))
        console().print(table)
        summary = Table(title=f"Against the original, over {len(originals)} texts", title_justify="left")
        for column in ("", "word error rate", "chrF"):
            summary.add_column(column)
        for name, score in scores.items():
            summary.add_row(name, f"{score['word_error_rate']:.3f}", f"{score['chrf']:.3f}")
        console().print(summary)
        path = session.file("garble", ".jsonl")
        settings = {"how": self.how, "rate": self.rate, "window": self.window, "t": self.t, "seed": session.seed}
        rows = [{"scores": scores, **settings, "nfe": session.sampler.nfe}]
        rows += [{"original": original, **{n: t[i] for n, t in texts.items()}} for i, original in enumerate(originals)]
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
        print(path)
