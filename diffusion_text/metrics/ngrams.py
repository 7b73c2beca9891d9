"""N-grams of training texts: how probable they make other texts, and how much of those they contain.

An n-gram's id is the place of its key among the sorted keys of the training texts' n-grams. The id −1 stands for an
n-gram that they do not have, or that would reach over the beginning of its text.

(1) key         id(h)·V + w       of the n-gram h w: a token w of V after a context h of n − 1 tokens
(2) c_n(h w)    n = order: how often h w occurs
                n < order: how many distinct tokens precede it; the beginning of a text counts as one more
(3) D_n         n_1 / (n_1 + 2·n_2), n_k of the n-grams having c_n = k; 1/2 where n_1 or n_2 is 0    Ney et al. 1994
(4) P_n(w | h)  max(c_n(h w) − D_n, 0) / Σ_v c_n(h v) + B_n(h)·P_{n−1}(w | h without its first token)
(5) B_n(h)      D_n·|{v : c_n(h v) > 0}| / Σ_v c_n(h v); 1 where nothing follows h
(6) P_0(w)      1 / V

(2) to (6) are interpolated Kneser–Ney smoothing: Kneser & Ney 1995; Chen & Goodman 1999.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

Text = Int[np.ndarray, "_"]
Ids = Int[np.ndarray, "tokens"]
PerKey = Int[np.ndarray, "keys"]


class NGrams:
    """The distinct n-grams of texts: `keys[n − 1]` has the sorted keys of those of n tokens, for n = 1 to `order`.

    A token outside the vocabulary raises `ValueError`, here and in whatever takes texts.
    """

    def __init__(self, texts: Iterable[Text], vocab_size: int, order: int):
        if order < 1:
            raise ValueError(f"order must be at least 1, not {order}")
        self.vocab_size = vocab_size
        self.keys: list[np.ndarray] = []
        tokens, begins = end_to_end(texts, vocab_size)
        contexts = np.zeros_like(tokens)
        for _ in range(order):
            keys = contexts * vocab_size + tokens
            self.keys.append(distinct(keys[contexts >= 0]))
            contexts = np.where(begins, -1, np.roll(places(keys, self.keys[-1]), 1))

    def ids(self, texts: Iterable[Text]) -> Iterator[tuple[Ids, Ids]]:
        """For n = 1 to `order`, the ids of each token's context and of the n-gram that ends with it."""
        tokens, begins = end_to_end(texts, self.vocab_size)
        contexts = np.zeros_like(tokens)
        for keys in self.keys:
            ids = places(contexts * self.vocab_size + tokens, keys)
            yield contexts, ids
            contexts = np.where(begins, -1, np.roll(ids, 1))

    def num_known(self, texts: Iterable[Text]) -> int:
        """How many of the texts' n-grams of `order` tokens are among these."""
        *_, (_, ids) = self.ids(texts)
        return int(np.count_nonzero(ids >= 0))


class KneserNey:
    """The language model of equation (4), where n is `order`, or less for a token with fewer before it in its text."""

    def __init__(self, texts: Iterable[Text], vocab_size: int, order: int = 5):
        texts = list(texts)
        self.ngrams = NGrams(texts, vocab_size, order)
        ids = [ids for _, ids in self.ngrams.ids(texts)]
        longer = [*ids[1:], np.arange(len(ids[0]))]  # at the highest order every occurrence is its own
        self.levels = []
        num_contexts = 1
        for keys, ids_n, longer_n in zip(self.ngrams.keys, ids, longer, strict=True):
            counts = distinct_partners(ids_n, longer_n, len(keys))
            self.levels.append(discounted(counts, keys // vocab_size, num_contexts))
            num_contexts = len(keys)

    def log_probabilities(self, texts: Iterable[Text]) -> Float[np.ndarray, "tokens"]:
        """The texts' ln P in nats, one per token, end to end."""
        probabilities = np.array(1 / self.ngrams.vocab_size)
        for (kept, backoff), (contexts, ids) in zip(self.levels, self.ngrams.ids(texts), strict=True):
            probabilities = kept[ids] + backoff[contexts] * probabilities
        return np.log(probabilities)


def per_text(values: Float[np.ndarray, "tokens"], texts: Sequence[Text]) -> Float[np.ndarray, "texts"]:
    """The sum over each of the texts of what is given of their tokens, end to end."""
    sums = np.concatenate([[0.0], values.cumsum()])
    ends = np.cumsum([0, *map(len, texts)])
    return sums[ends[1:]] - sums[ends[:-1]]


def end_to_end(texts: Iterable[Text], vocab_size: int) -> tuple[Ids, Bool[np.ndarray, "tokens"]]:
    """The tokens of all texts, and which of them begin a text."""
    texts = [np.array([], np.int64), *texts]
    tokens = np.concatenate(texts)
    if np.any((tokens < 0) | (tokens >= vocab_size)):
        raise ValueError(f"tokens must be from 0 to {vocab_size - 1}, not {tokens.min()} to {tokens.max()}")
    numbers = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    return tokens, np.diff(numbers, prepend=0) > 0


def places(wanted: Ids, keys: PerKey) -> Ids:
    """Where each wanted key is among the sorted keys, −1 where it is not."""
    found = np.searchsorted(keys, wanted)
    return np.where(np.append(keys, np.iinfo(keys.dtype).max)[found] == wanted, found, -1)


def distinct(values: Int[np.ndarray, "_"]) -> Int[np.ndarray, "_"]:
    """The distinct values, none negative, in order; several times as fast as `np.unique`, which hashes."""
    values = np.sort(values)
    return values[np.diff(values, prepend=-1) > 0]


def distinct_partners(ids: Ids, longer: Ids, num_keys: int) -> PerKey:
    """Equation (2) by id: with how many distinct ids of the longer n-gram that ends there, −1 included, it occurs."""
    spacing = longer.max(initial=0) + 2
    pairs = distinct(ids[ids >= 0] * spacing + longer[ids >= 0] + 1)
    return np.bincount(pairs // spacing, minlength=num_keys)


def discounted(counts: PerKey, contexts: PerKey, num_contexts: int) -> tuple[np.ndarray, np.ndarray]:
    """The first term of equation (4) by id, and B_n by the context's id, with id −1 as the last entry of either."""
    once, twice = (np.count_nonzero(counts == k) for k in (1, 2))
    discount = once / (once + 2 * twice) if once and twice else 0.5
    totals = np.bincount(contexts, counts, minlength=num_contexts + 1)
    followers = np.bincount(contexts, minlength=num_contexts + 1)
    backoff = np.where(totals > 0, discount * followers / np.maximum(totals, 1), 1)
    return np.append((counts - discount) / totals[contexts], 0), backoff
