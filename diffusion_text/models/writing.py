"""What every model that writes text has in common: lengths as in training, batches, and a seed that decides all."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from diffusion_text.conditions.base import Condition
from diffusion_text.diffusion.samplers import Sampler, generators_of
from diffusion_text.errors import UserError
from diffusion_text.models.base import Trained
from diffusion_text.models.step_draws import StepDraws, draws_of, evaluation_draws
from diffusion_text.shapes import Context, Counts, Latents, Mask, PerText, Tokens, Told
from diffusion_text.text_spaces.base import Reader, TextSpace

if TYPE_CHECKING:
    from diffusion_text.models.classifier import Steering


class Given(NamedTuple):
    """A text of which only the tokens `where` it is True are given, `(length,)` both."""

    tokens: Int[Tensor, length]
    where: Bool[Tensor, length]


class Sampled(NamedTuple):
    """Texts; where there is an x_0 that they were decoded from its root mean square, and the largest on the way."""

    tokens: Tokens
    rms: float = math.nan
    peak_rms: float = math.nan


class Writer(Trained):
    """A model in a `text_space` that draws texts of the training split's lengths. Subclasses `write` a batch with a
    sampler of a kind that they take, of which each of the `knobs` trades quality for variety; where `likelihood` is not
    None they tell how likely a text is.
    """

    takes: ClassVar[type[Sampler]]
    likelihood: str | None = None  # exact or bound
    reference: str  # what information is counted from
    text_space: TextSpace
    length_counts: Tensor

    def __init__(self, max_length: int, condition: Condition | None = None, **optimisation):
        super().__init__(**optimisation)
        self.condition = condition
        self.told_counts: dict[str, Counts] = {}  # texts of the training split that are told nothing, and each value
        self.register_buffer("length_counts", torch.zeros(max_length + 1, dtype=torch.long))

    def told(self, batch: dict[str, Tensor], random: torch.Generator | StepDraws) -> Told | None:
        """All that there is to tell of a batch's texts; what is random in it comes from `random`."""
        if self.condition is None:
            return None
        many = self.condition.draws
        if isinstance(random, StepDraws):
            chances = random.uniform(many, torch.device("cpu") if self.condition.on_host else self.device)
        else:
            chances = torch.rand(len(batch["mask"]), many, generator=random)
        return self.condition.known(batch, self.text_space, chances)

    def context(self, batch: dict[str, Tensor], random: torch.Generator | StepDraws, mask: Mask) -> Context | None:
        """What the network reads of all that is known of a batch's texts, whose positions `mask` has."""
        return self.context_of(self.told(batch, random), mask)

    def context_in_training(self, batch: dict[str, Tensor], draws: StepDraws, mask: Mask) -> Context | None:
        """What it reads of what is left of that in training."""
        told = self.told(batch, draws)
        if self.condition is None or told is None:
            return None
        return self.context_of(self.condition.hidden(told, draws.uniform(self.condition.draws, mask.device)), mask)

    def context_of(self, told: Told | None, mask: Mask) -> Context | None:
        """What the network reads of what texts of these positions are told."""
        if told is None:
            return None
        assert self.condition is not None
        return self.condition(told.to(self.device), self.text_space).along(mask)

    def condition_losses(self, context: Context | None, mask: Mask) -> dict[str, PerText]:
        """What is minimised of the condition itself."""
        if self.condition is None or context is None:
            return {}
        return self.condition.losses(context, mask.sum(1))

    def as_told(self, batch: dict[str, Tensor]) -> tuple[Told | None, list[dict[str, str]]]:
        """What a user could tell of a batch's texts, and how; nothing where nothing is told."""
        told = self.told(batch, torch.Generator().manual_seed(self.seed))
        if self.condition is None or told is None:
            return None, []
        told = self.condition.sayable(told)
        return told, self.condition.worded(told, self.text_space)

    @property
    def reader(self) -> Reader:
        """What turns x_0 into tokens."""
        return self.text_space

    @property
    @abstractmethod
    def knobs(self) -> tuple[str, ...]:
        """Of `score temperature`, `rounding temperature`, `temperature` and `churn`."""

    def nats(
        self, tokens: Tokens, mask: Mask, draws: int, t_0: float | None, generator: torch.Generator
    ) -> dict[str, PerText]:
        """−log p of each text in nats, or a bound on it from so many `draws`, in parts."""
        raise UserError(f"{type(self).__name__} does not tell how likely a text is: use model=diffusion_lm")

    def step_draws(self, texts: int, batch_idx: int) -> StepDraws:
        """What is drawn for a batch of the step that is being made."""
        return draws_of(self, self.max_length, texts, batch_idx)

    def evaluation_draws(self, stage: str, batch_idx: int) -> StepDraws:
        """What is drawn for a batch of a split."""
        return evaluation_draws(self, self.max_length, stage, batch_idx)

    @property
    def max_length(self) -> int:
        """The most positions that a text of the training split has."""
        return len(self.length_counts) - 1

    @abstractmethod
    def write(
        self,
        sampler: Sampler,
        mask: Mask,
        generators: list[torch.Generator],
        given: Given | None,
        temperature: float,
        done: Callable[[int], None],
        told: Told | None = None,
        steering: Steering | None = None,
    ) -> Sampled:
        """Texts of this mask that are what they are `told` to be, or led to be, what is random in each from its own
        generator.
        """

    def draw_mask(self, generators: list[torch.Generator], length: int | None, told: Told | None = None) -> Mask:
        """x_0's mask for lengths from the training split's distribution, of such texts as are `told`, or for `length`
        tokens each; as wide as the longest that there may be.
        """
        if length is not None:
            return torch.ones(len(generators), self.text_space.latent_length(length), dtype=torch.bool)
        shares = self.length_counts.cpu().float()
        if told is None:
            lengths = torch.cat([torch.multinomial(shares, 1, generator=generator) for generator in generators])
        else:
            assert self.condition is not None
            lengths = self.condition.lengths(told.to(self.device), self.text_space, generators)
        return torch.arange(int(shares.nonzero().max())) < lengths[:, None]

    @torch.no_grad()
    def sample(
        self,
        sampler: Sampler,
        num_samples: int,
        seed: int,
        length: int | None = None,
        given: Given | None = None,
        temperature: float = 0.0,
        batch_size: int = 64,
        done: Callable[[int], None] = lambda steps: None,
        told: Told | None = None,
        steering: Steering | None = None,
    ) -> Sampled:
        """Texts, unconditional or around the tokens `given`, each what it is `told` or led to be, `batch_size` at a
        time. Text i of a seed is the same whatever is drawn beside it, and whoever draws it.

        A `temperature` above 0 draws the tokens from their distribution instead of taking the likeliest. `done` is told
        of every step of a batch.
        """
        how = (sampler, seed, length, temperature, batch_size, told)
        if self.shares is not None and given is None and steering is None:
            return self.joined(self.shares(num_samples, done, *how))
        return self.draw(range(num_samples), done, *how, given, steering)

    @torch.no_grad()
    def draw(
        self,
        texts: range,
        done: Callable[[int], None],
        sampler: Sampler,
        seed: int,
        length: int | None,
        temperature: float,
        batch_size: int,
        told: Told | None,
        given: Given | None = None,
        steering: Steering | None = None,
    ) -> Sampled:
        """These texts of those that `sample` draws."""
        batches = []
        for first in range(texts.start, texts.stop, batch_size):
            last = min(first + batch_size, texts.stop)
            generators = generators_of(seed, range(first, last))
            asked = None if told is None else told[first:last]
            led = None if steering is None else steering.of(first, last)
            mask = self.draw_mask(generators, length if given is None else len(given.tokens), asked)
            batches.append(self.write(sampler, mask, generators, given, temperature, done, asked, led))
        return self.joined(batches)

    def joined(self, parts: Sequence[Sampled]) -> Sampled:
        """Texts that were drawn in parts."""
        longest, many = max(part.tokens.shape[1] for part in parts), sum(len(part.tokens) for part in parts)
        pad_token_id = self.text_space.tokenizer.pad_token_id
        tokens = [
            F.pad(part.tokens.to(self.device), (0, longest - part.tokens.shape[1]), value=pad_token_id)
            for part in parts
        ]
        rms = sum(part.rms * len(part.tokens) for part in parts) / many
        return Sampled(torch.cat(tokens), rms, max(part.peak_rms for part in parts))

    def generate(self, sampler: Sampler, num_samples: int, seed: int, length: int | None = None) -> Tokens:
        """Unconditional samples as token ids `(num_samples, tokens)`."""
        return self.sample(sampler, num_samples, seed, length).tokens


def check_sampler(model: type[Trained], sampler: type[Sampler]) -> None:
    """Refuse a sampler that is of another kind of model."""
    if issubclass(model, Writer) and not issubclass(sampler, model.takes):
        raise UserError(f"{model.__name__} is not sampled by {sampler.__name__}: leave out sampler=")


def root_mean_square(x: Latents, mask: Mask) -> float:
    """Over the elements of real positions."""
    return float(x[mask].square().mean().sqrt())
