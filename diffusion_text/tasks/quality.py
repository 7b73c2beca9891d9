"""Text quality: samples beside as much real text, and beside tokens drawn one by one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

from rich.table import Table

from diffusion_text.data.base import SPLITS
from diffusion_text.figures import SAMPLES, Figure
from diffusion_text.metrics.language_model import LanguageModel, mauve
from diffusion_text.storage import write_json
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.summary import Columns, quality_rows
from diffusion_text.tracking.terminal import console
from diffusion_text.values import flag, one_of, or_null, words


class SampleQuality:
    """TextQuality of `num_samples` texts, of as much real text of `split`, and of as much nonsense.

    Where the corpus's source is known, its own −log p stands beside the judge's. A `language_model` adds generative
    perplexity, and with `mauve` MAUVE against the real text.
    """

    FIGURES: ClassVar = {"source_nll": Figure("exact", "nats a token", SAMPLES, "lower")}

    def __init__(self, split: str = "test", language_model: str | None = None, mauve: bool = False):
        self.split = one_of(split, "task.split", SPLITS)
        self.language_model = or_null(words, language_model, "task.language_model")
        self.mauve = flag(mauve, "task.mauve")
        if mauve and language_model is None:
            raise ValueError("task.mauve=true needs task.language_model, whose features it compares")

    def __call__(self, session: Session) -> None:
        columns = self.measure(session)
        self.show(session, columns)
        print(self.write(session, columns))

    def measure(self, session: Session) -> Columns:
        """Sample, and judge the samples beside the others."""
        space = session.model.text_space
        model = None if self.language_model is None else LanguageModel(self.language_model)
        judge = session.judge
        samples = session.sample().tokens
        tokens = {
            "samples": samples,
            "real text": judge.real(self.split, session.num_samples),
            **judge.nonsense(samples, session.seed),
        }
        columns = {name: judge(them).figures for name, them in tokens.items()}
        if source := session.corpus.source:
            for name, them in tokens.items():
                nats = sum(source.nats(text) for text in space.to_text(them))
                many = int(judge.scores(them).tokens.sum())
                columns[name]["source_nll"] = nats / many if many else math.nan
        if model is not None:
            self.judge_by(model, {name: space.to_text(them) for name, them in tokens.items()}, columns)
        return columns

    def judge_by(self, model: LanguageModel, texts: dict[str, list[str]], columns: Columns) -> None:
        """Add what a language model makes of the texts."""
        judged = {name: model.judge(them) for name, them in texts.items()}
        for name, (perplexity, features) in judged.items():
            columns[name]["perplexity"] = perplexity
            if self.mauve and name != "real text":
                columns[name]["mauve"] = mauve(features, judged["real text"][1])

    def show(self, session: Session, columns: Columns) -> None:
        """Print the table."""
        table = Table(title=f"{session.num_samples} texts, NFE {session.sampler.nfe}", title_justify="left")
        table.add_column("figure")
        for name in columns:
            table.add_column(name, justify="right")
        for title, *cells in quality_rows(columns):
            table.add_row(title, *cells)
        console().print(table)

    def write(self, session: Session, columns: Columns) -> Path:
        """The figures as .json."""
        facts = {"seed": session.seed, "nfe": session.sampler.nfe, "num_samples": session.num_samples}
        path = session.file("quality", ".json")
        write_json(path, columns | facts)
        return path
