"""A trained model and what a user wants of it."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_text.data.base import TextDataModule
from diffusion_text.data.tokens import NOTHING, pad, token_ids
from diffusion_text.diffusion.samplers import GaussianSampler, Generator, ReverseStep, Sampler
from diffusion_text.errors import UserError
from diffusion_text.models.classifier import Steering
from diffusion_text.models.quality import Judge
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.models.writing import Given, Sampled, Writer, check_sampler
from diffusion_text.progress import counted, counting
from diffusion_text.runs import Run
from diffusion_text.shapes import Latents, Mask, Tokens
from diffusion_text.storage import write_json_lines
from diffusion_text.tasks.targets import Target, read_targets
from diffusion_text.values import number, or_null, seed_number, whole, words

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)


class Wish(NamedTuple):
    """What a text is to be, or each of several: as its model is `told`, and as a classifier that it is `led` by."""

    told: Tensor | None = None
    led: Tensor | None = None

    def repeated(self, many: int) -> Wish:
        """That of so many texts."""
        return Wish(*(None if each is None else each.expand(many, -1) for each in self))


def stacked(wishes: Iterable[Wish]) -> Wish:
    """That of several texts, which are all told something, or none of them, and all led or none."""

    def together(each: Sequence[Tensor | None]) -> Tensor | None:
        given = [one for one in each if one is not None]
        if 0 < len(given) < len(each):
            raise UserError("conditions: of some lines the model, or the classifier, knows nothing")
        return torch.stack(given) if given else None

    told, led = zip(*wishes, strict=True) if (wishes := [*wishes]) else ((), ())
    return Wish(together(told), together(led))


@dataclass
class Session:
    """A model with its averaged weights, at training step `step`, and the run it came from. What is written goes to the
    run's samples, or to `out`.
    """

    model: Writer
    sampler: Sampler
    run: Run
    step: int
    seed: int = 0
    num_samples: int = 5
    length: int | None = None
    text: str | None = None
    temperature: float = 0.0
    condition: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 64
    out: Path | None = None
    data: Callable[[], TextDataModule] | None = field(default=None, repr=False)
    judged_by: Writer | None = field(default=None, repr=False)  # in place of n-grams
    conditions: str | None = None
    guide: Steering | None = None
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)  # that the model was made from
    made: dict[str, Any] = field(default_factory=dict, repr=False)  # what sessions made from this one share

    def __post_init__(self) -> None:
        self.seed = seed_number(self.seed, "seed")
        self.num_samples = whole(self.num_samples, "num_samples")
        self.text = or_null(words, self.text, "text")
        self.temperature = number(self.temperature, "temperature", least=0)
        self.batch_size = whole(self.batch_size, "batch_size", 1)
        self.conditions = or_null(words, self.conditions, "conditions")
        check_sampler(type(self.model), type(self.sampler))
        if (self.condition or self.conditions) and self.model.condition is None and self.guide is None:
            raise UserError(
                "condition= is of a run that was trained with one: python train.py experiment=e2e_control; or of one "
                "that is led there by sampler.classifier=RUN"
            )
        if self.guide is not None and not isinstance(self.model, TextDiffusion):
            raise UserError(f"sampler.classifier= is for models that diffuse, not for {type(self.model).__name__}")
        if self.length is not None:
            self.length = whole(self.length, "length", 1, self.model.max_length)

    def texts(self, split: str = "validation") -> tuple[Tokens, Mask]:
        """The user's text, or the first `num_samples` of a split, as tokens and mask."""
        if self.text is not None:
            return self.tokenize([self.text])
        texts = self.splits[split]
        return self.padded(list(texts[: min(self.num_samples, len(texts))]["tokens"]))

    @property
    def diffusion(self) -> TextDiffusion:
        """The model, where it has an x_0; raises UserError where it has none."""
        if not isinstance(self.model, TextDiffusion):
            raise UserError(f"{type(self.model).__name__} has no x_0 to add noise to: this task needs one that has")
        return self.model

    @cached_property
    def corpus(self) -> TextDataModule:
        """The corpus that the model was trained on."""
        assert self.data is not None
        return self.data()

    @property
    def splits(self) -> dict[str, Dataset]:
        """The texts of each split as token ids; says so where they are not those of the training."""
        if "splits" not in self.made:
            if self.corpus.digest != self.config.get("corpus", self.corpus.digest):
                log.warning("These are not the texts of the training: what is measured on them is of another ruler")
            self.made["splits"] = self.corpus.tokens(self.model.text_space.tokenizer)
        return self.made["splits"]

    @property
    def judge(self) -> Judge:
        """The judge of texts in the model's corpus."""
        if "judge" not in self.made:
            self.made["judge"] = Judge(self.splits, self.model.text_space.tokenizer, self.judged_by)
        return self.made["judge"]

    def sample(self, given: Given | None = None) -> Sampled:
        """Texts, of anything or of what is asked for, all of them or around what is given."""
        wish = stacked(map(self.wish, self.asked))
        if self.guide is not None and wish.led is None:
            raise UserError("sampler.classifier= leads to what is asked for: condition.NAME=VALUE")
        return self.drawn(self.sampler, len(self.asked), wish, given)

    @cached_property
    def asked(self) -> list[Target]:
        """What each text is to be: what `condition` says, and with `conditions` a line of that file as well."""
        lines: list[Target] = [{}] if self.conditions is None else read_targets(self.conditions, "conditions")
        return [{**self.condition, **line} for line in lines for _ in range(self.num_samples)]

    def drawn(self, sampler: Sampler, many: int, wish: Wish, given: Given | None = None) -> Sampled:
        """So many texts, by any sampler, each what is wished for."""
        with counting("Sampling", math.ceil(many / self.batch_size) * sampler.num_steps) as done:
            return self.model.sample(
                sampler, many, self.seed, self.length, given, self.temperature, self.batch_size, done, wish.told,
                self.steering(wish),
            )  # fmt: skip

    def steering(self, wish: Wish) -> Steering | None:
        """The classifier on its way there."""
        return None if self.guide is None or wish.led is None else replace(self.guide, told=wish.led)

    def wish(self, condition: Mapping[str, Any]) -> Wish:
        """What a text is to be: the model is told what it can be told, and led by the classifier to what that reads."""
        own, guide = self.model.condition, self.guide
        read = {name for name in condition if guide is not None and (own is None or guide.classifier.named.has(name))}
        told = {name: value for name, value in condition.items() if name not in read or (own and own.has(name))}
        led = {name: condition[name] for name in condition if name in read}
        return Wish(
            None if own is None or not told else own.asked(told, self.told_text),
            None if guide is None or not led else guide.classifier.named.asked(led),
        )

    def told_text(self, text: str, setting: str) -> torch.Tensor:
        """Tokens of a text that the model is told, as the corpus has them; refuses one that is too long."""
        tokenizer = self.model.text_space.tokenizer
        [ids] = token_ids(tokenizer, [text], f"{setting}=")
        self.check_room(ids, setting, self.room(self.corpus.length))
        told = torch.tensor(self.corpus.wrap(ids, tokenizer))
        return F.pad(told, (0, self.corpus.length - len(told)), value=NOTHING)  # the same beside any other

    def room(self, longest: int) -> int:
        """The most tokens that a text may have, without those that the corpus puts around it."""
        return longest - len(self.corpus.enclosed([], self.model.text_space.tokenizer))

    def check_room(self, ids: list[int], setting: str, room: int) -> None:
        """Refuse a text that is empty, or that has more tokens than there is room for."""
        if not 0 < len(ids) <= room:
            raise UserError(f"{setting}= has {len(ids)} tokens: this run takes from 1 to {room}")

    def reverse(self, x_t: Latents, mask: Mask, generator: Generator, start: float = 1.0) -> Iterator[ReverseStep]:
        """The model's reverse run to what is asked for, counted where someone watches."""
        wish, model = self.wish(self.condition).repeated(len(mask)), self.diffusion
        context = model.context_of(wish.told, mask)
        with counting("Denoising", self.sampler.num_steps) as done:
            assert isinstance(self.sampler, GaussianSampler)
            steps = model.reverse(self.sampler, x_t, mask, generator, start, None, context, self.steering(wish))
            yield from counted(steps, done)

    def read(self, sampled: Sampled) -> list[str]:
        """What was sampled, as text."""
        return self.model.text_space.to_text(sampled.tokens)

    def tokenize(self, texts: list[str]) -> tuple[Tokens, Mask]:
        """Texts as tokens and mask."""
        return self.wrap(token_ids(self.model.text_space.tokenizer, texts, "text="))

    def wrap(self, texts: list[list[int]]) -> tuple[Tokens, Mask]:
        """Token ids as the model's corpus has them, cut at its length, and their mask."""
        tokenizer = self.model.text_space.tokenizer
        return self.padded([torch.tensor(self.corpus.wrap(text, tokenizer)) for text in texts])

    def padded(self, texts: list[torch.Tensor]) -> tuple[Tokens, Mask]:
        """Token ids of texts as one tensor and its mask, where the model is."""
        tokens, mask = pad(texts, self.model.text_space.tokenizer.pad_token_id)
        return tokens.to(self.model.device), mask.to(self.model.device)

    def write_lines(self, name: str, rows: Iterable[dict[str, Any]]) -> Path:
        """Rows as a new .jsonl."""
        path = self.file(name, ".jsonl")
        write_json_lines(path, rows)
        return path

    def file(self, name: str, suffix: str) -> Path:
        """A path that is not taken: `name`, or the first of `name-2`, `name-3`, …"""
        place = self.run.samples if self.out is None else self.out
        try:
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
        except OSError as error:
            raise UserError(f"cannot write to {place}: {error.strerror}; out=DIR writes elsewhere") from error
        path, number = place / f"{name}{suffix}", 1
        while path.exists():
            number += 1
            path = place / f"{name}-{number}{suffix}"
        return path
