"""Corpora whose entropy is known: texts drawn from a source that can tell how probable any text is.

A source is a stationary Markov chain of hidden states, each of which writes one character.

(1) π = π·P                                            the share of the time that it spends in each state
(2) p(text) = Σ over ways through the states           by the forward algorithm, started from π: any stretch of a corpus
(3) entropy rate = Σ_s π(s)·H(P(s, ·)) nats a character, where the characters tell the states apart (Shannon 1948, §7)

No model's bound on −log p can lie below −log p(text) on average, and its mean over texts goes to (3) with their length.
"""

from __future__ import annotations

import itertools
import string
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from diffusion_text import values
from diffusion_text.data.base import TextDataModule

Shares = Float[np.ndarray, "states"]
Transitions = Float[np.ndarray, "states states"]
SPLIT_SHARES = {"train": 0.9, "validation": 0.05, "test": 0.05}
SENTENCE = (  # each part's words, with their probabilities
    {"the ": 0.6, "a ": 0.4},
    {"": 0.5, "small ": 0.2, "old ": 0.2, "red ": 0.1},
    {"cat ": 0.4, "dog ": 0.35, "bird ": 0.25},
    {"sees ": 0.5, "finds ": 0.3, "wants ": 0.2},
    {"it.\n": 0.3, "bread.\n": 0.2, "a fish.\n": 0.4, "nothing.\n": 0.1},
)


class Source:
    """States that write `characters[s]` and follow each other with probabilities `transitions[s, next]`."""

    def __init__(self, characters: Sequence[str], transitions: Transitions):
        self.characters, self.transitions = np.array(list(characters)), transitions
        assert np.allclose(transitions.sum(1), 1)

    @cached_property
    def stationary(self) -> Shares:
        """Equation (1)."""
        states = len(self.transitions)
        equations = np.vstack([self.transitions.T - np.eye(states), np.ones(states)])
        return np.linalg.lstsq(equations, np.append(np.zeros(states), 1), rcond=None)[0].clip(min=0)

    @cached_property
    def entropy_rate(self) -> float:
        """Equation (3)."""
        logs = np.log(np.where(self.transitions > 0, self.transitions, 1))
        return float(-(self.stationary @ (self.transitions * logs).sum(1)))

    def text(self, size: int, chance: np.random.Generator) -> str:
        """`size` characters."""
        cumulative = self.transitions.cumsum(1)
        state = int(chance.choice(len(self.stationary), p=self.stationary / self.stationary.sum()))
        path = [state]
        for draw in chance.random(size - 1):
            state = min(int(np.searchsorted(cumulative[state], draw, side="right")), len(cumulative) - 1)
            path.append(state)
        return "".join(self.characters[path])

    def nats(self, text: str) -> float:
        """−ln p(text): equation (2); infinite where it cannot write such a text."""
        total, shares = 0.0, self.stationary
        for place, character in enumerate(text):
            shares = (shares @ self.transitions if place else shares) * (self.characters == character)
            scale = shares.sum()
            if scale == 0:
                return float("inf")
            total -= np.log(scale)
            shares = shares / scale
        return float(total)


class SourceCorpus(TextDataModule):
    """`size` characters of a `source` that subclasses have, 90 / 5 / 5 %, each split drawn by itself.

    `source_seed` makes the source.
    """

    licence = "generated, nobody's"
    telling: ClassVar[tuple[str, ...]] = ("size", "source_seed")

    def __init__(self, size: int = 1_000_000, source_seed: int = 0, **settings):
        super().__init__(**settings)
        self.size = values.whole(size, "data.size", 10_000, 100_000_000)
        self.source_seed = values.seed_number(source_seed, "data.source_seed")

    @cached_property
    @abstractmethod
    def source(self) -> Source:
        """What writes it."""

    @property
    def read_from(self):
        return []  # settings tell all

    def lines(self, split: str) -> Iterator[str]:
        chance = np.random.default_rng([self.source_seed, list(SPLIT_SHARES).index(split) + 1])
        yield self.source.text(int(self.size * SPLIT_SHARES[split]), chance)

    def paragraphs_of(self, split, stretch):
        """All of a split at once: what parts paragraphs elsewhere is no part of the source."""
        return iter(self.lines(split))


class Markov(SourceCorpus):
    """A random n-gram source: each of `symbols` characters (a space and letters) follows the `order` before it with
    probabilities from a symmetric Dirichlet distribution of this `concentration`; the smaller, the less entropy.
    """

    telling: ClassVar[tuple[str, ...]] = (*SourceCorpus.telling, "symbols", "order", "concentration")

    def __init__(self, symbols: int = 20, order: int = 2, concentration: float = 0.1, **settings):
        super().__init__(**settings)
        self.symbols = values.whole(symbols, "data.symbols", 2, 27)
        self.order = values.whole(order, "data.order", 1, 3)
        self.concentration = values.number(concentration, "data.concentration", above=0)

    @cached_property
    def source(self) -> Source:
        chance = np.random.default_rng(self.source_seed)
        written = (" " + string.ascii_lowercase)[: self.symbols]
        histories = ["".join(history) for history in itertools.product(written, repeat=self.order)]
        places = {history: place for place, history in enumerate(histories)}
        transitions = np.zeros((len(histories), len(histories)))
        for place, history in enumerate(histories):
            following = [places[(history + symbol)[1:]] for symbol in written]
            transitions[place, following] = chance.dirichlet(np.full(self.symbols, self.concentration))
        return Source([history[-1] for history in histories], transitions)


class Grammar(SourceCorpus):
    """A small probabilistic grammar: sentences of SENTENCE, one after another, each readable in one way only."""

    @cached_property
    def source(self) -> Source:
        return sentences(SENTENCE)


def sentences(parts: Sequence[dict[str, float]]) -> Source:
    """Sentences made of one word of each part, drawn independently: a state for each character of each word."""
    starts: list[list[tuple[int, float]]] = [[] for _ in parts]
    characters: list[str] = []
    inner: dict[int, int] = {}
    ends: list[list[int]] = [[] for _ in parts]
    for number, words in enumerate(parts):
        for word, probability in words.items():
            first = len(characters) if word else -1
            starts[number].append((first, probability))
            characters.extend(word)
            inner |= {state: state + 1 for state in range(first, len(characters) - 1)} if word else {}
            ends[number] += [len(characters) - 1] if word else []
    transitions = np.zeros((len(characters), len(characters)))
    for state, following in inner.items():
        transitions[state, following] = 1
    for number, states in enumerate(ends):
        for state in states:
            follow(transitions[state], starts, (number + 1) % len(parts), 1.0)
    return Source(characters, transitions)


def follow(row: Shares, starts: Sequence[Sequence[tuple[int, float]]], number: int, probability: float) -> None:
    """Spread a probability over the first characters of a part's words, and past those that are empty."""
    for state, share in starts[number]:
        if state >= 0:
            row[state] += probability * share
        else:
            follow(row, starts, (number + 1) % len(starts), probability * share)
