"""Text quality: samples beside as much real text, and beside tokens drawn one by one."""

from __future__ import annotations

import json

from rich.table import Table

from diffusion_text.data.base import SPLITS
from diffusion_text.models.quality import Judge
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.summary import console

TITLES = {
    "judge_nll": "5-gram judge, nats a token",
    "entropy": "token entropy, nats",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "distinct_3": "distinct-3",
    "unigram_kl": "unigram KL, nats",
    "self_bleu": "self-BLEU",
    "top_share": "share of the most frequent token",
    "punctuation_share": "share of punctuation",
    "memorised": "8-grams of the training split",
}


class SampleQuality:
    """TextQuality of `num_samples` texts, of as much real text of `split`, and of the training split's unigrams."""

    def __init__(self, split: str = "test"):
        if split not in SPLITS:
            raise ValueError(f"task.split must be one of {', '.join(SPLITS)}, not {split}")
        self.split = split

    def __call__(self, session: Session) -> None:
        tokenizer = session.model.text_space.tokenizer
        judge = Judge(session.corpus.tokens(tokenizer), tokenizer)
        tokens = session.sample().tokens
        figures = {
            "samples": judge(tokens).figures,
            "real text": judge.real(self.split, session.num_samples).figures,
            "unigrams": judge(judge.unigrams(tokens, session.seed)).figures,
        }
        table = Table(title=f"{session.num_samples} texts, NFE {session.sampler.nfe}", title_justify="left")
        table.add_column("figure")
        for name in figures:
            table.add_column(name, justify="right")
        for name, title in TITLES.items():
            table.add_row(title, *(f"{column[name]:.3f}" for column in figures.values()))
        console().print(table)
        path = session.file("quality", ".json")
        facts = {"seed": session.seed, "nfe": session.sampler.nfe, "num_samples": session.num_samples}
        path.write_text(json.dumps(figures | facts, indent=2) + "\n", encoding="utf-8")
        print(path)
