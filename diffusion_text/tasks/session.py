"""A trained model and what a user wants of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from diffusion_text.data.base import TextDataModule, pad
from diffusion_text.diffusion.samplers import Generator, ReverseStep, Sampler
from diffusion_text.models.quality import Judge
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.models.writing import Given, Sampled
from diffusion_text.progress import counted, counting
from diffusion_text.runs import Run
from diffusion_text.shapes import Latents, Mask, Tokens


@dataclass
class Session:
    """A model with its averaged weights, at training step `step`, and the run it came from."""

    model: TextDiffusion
    sampler: Sampler
    run: Run
    step: int
    seed: int = 0
    num_samples: int = 5
    length: int | None = None
    text: str | None = None
    temperature: float = 0.0
    batch_size: int = 64
    data: Callable[[], TextDataModule] | None = field(default=None, repr=False)
    made: dict[str, Any] = field(default_factory=dict, repr=False)  # what sessions made from this one share

    def texts(self, split: str = "validation") -> tuple[Tokens, Mask]:
        """The user's text, or the first `num_samples` of a split, as tokens and mask."""
        space = self.model.text_space
        if self.text is not None:
            return self.tokenize([self.text])
        texts = self.corpus.tokens(space.tokenizer)[split]
        return self.padded(list(texts[: min(self.num_samples, len(texts))]["tokens"]))

    @cached_property
    def corpus(self) -> TextDataModule:
        """The corpus that the model was trained on."""
        assert self.data is not None
        return self.data()

    @property
    def judge(self) -> Judge:
        """The judge of texts in the model's corpus."""
        if "judge" not in self.made:
            tokenizer = self.model.text_space.tokenizer
            self.made["judge"] = Judge(self.corpus.tokens(tokenizer), tokenizer)
        return self.made["judge"]

    def sample(self, given: Given | None = None) -> Sampled:
        """Texts, unconditional or around what is given."""
        batches = math.ceil(self.num_samples / self.batch_size)
        with counting("Sampling", batches * self.sampler.num_steps) as done:
            return self.model.sample(
                self.sampler, self.num_samples, self.seed, self.length, given, self.temperature, self.batch_size, done
            )

    def reverse(
        self, x_t: Latents, mask: Mask, generator: Generator, start: float = 1.0
    ) -> Iterator[ReverseStep]:
        """The model's reverse run, counted where someone watches."""
        with counting("Denoising", self.sampler.num_steps) as done:
            yield from counted(self.model.reverse(self.sampler, x_t, mask, generator, start), done)

    def read(self, sampled: Sampled) -> list[str]:
        """What was sampled, as text."""
        return self.model.text_space.to_text(sampled.tokens)

    def tokenize(self, texts: list[str]) -> tuple[Tokens, Mask]:
        """Texts as tokens and mask."""
        return self.wrap(self.model.text_space.tokenizer(texts, add_special_tokens=False, verbose=False).input_ids)

    def wrap(self, texts: list[list[int]]) -> tuple[Tokens, Mask]:
        """Token ids as the model's corpus has them, cut at its length, and their mask."""
        tokenizer = self.model.text_space.tokenizer
        return self.padded([torch.tensor(self.corpus.wrap(text, tokenizer)) for text in texts])

    def padded(self, texts: list[torch.Tensor]) -> tuple[Tokens, Mask]:
        """Token ids of texts as one tensor and its mask, where the model is."""
        tokens, mask = pad(texts, self.model.text_space.tokenizer.pad_token_id)
        return tokens.to(self.model.device), mask.to(self.model.device)

    def write_lines(self, name: str, rows: Iterable[dict[str, Any]]) -> Path:
        """Rows as a new .jsonl of the run's samples."""
        path = self.file(name, ".jsonl")
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    def file(self, name: str, suffix: str) -> Path:
        """A path in the run's samples that is not taken: `name`, or the first of `name-2`, `name-3`, …"""
        self.run.samples.mkdir(exist_ok=True)
        path, number = self.run.samples / f"{name}{suffix}", 1
        while path.exists():
            number += 1
            path = self.run.samples / f"{name}-{number}{suffix}"
        return path
