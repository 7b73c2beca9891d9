"""Quality against variety: a curve of samples at several settings, read off at real text's entropy.

Sharper samples please any judge, and say less. So a judge's figure is compared where the texts have one entropy:

(1) quality(H) = judge NLL on the line between the two settings whose entropies of each text enclose H
(2) standard error over texts: of (1) with texts drawn anew with replacement, the same ones at every setting  Efron 1979
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from diffusion_text.diffusion.bound import Mean

REPETITIONS = 200


class TextScores(NamedTuple):
    """What a judge and a count make of each text: its nats, its tokens, its entropy in nats."""

    nats: Float[np.ndarray, "texts"]
    tokens: Int[np.ndarray, "texts"]
    entropies: Float[np.ndarray, "texts"]

    def of(self, chosen: Int[np.ndarray, "drawn"]) -> "TextScores":
        """The same of some of the texts, or of some several times."""
        return TextScores(*(each[chosen % len(each)] for each in self))

    @property
    def judge_nll(self) -> float:
        """Nats a token; NaN where there are none."""
        tokens = int(self.tokens.sum())
        return float(self.nats.sum()) / tokens if tokens else math.nan

    @property
    def entropy(self) -> float:
        """Mean over the texts that have tokens; NaN where none has."""
        found = self.entropies[~np.isnan(self.entropies)]
        return float(found.mean()) if len(found) else math.nan


def at_entropy(curve: Sequence[TextScores], entropy: float) -> Mean | None:
    """Equations (1) and (2); None where the curve does not reach this entropy."""
    value = interpolated(curve, entropy, [scores.judge_nll for scores in curve])
    if np.isnan(value):
        return None
    chance = np.random.default_rng(0)
    size = len(curve[0].nats)
    drawn = [chance.integers(size, size=size) for _ in range(REPETITIONS)]
    again = [[scores.of(chosen) for scores in curve] for chosen in drawn]
    judged = [interpolated(some, entropy, [scores.judge_nll for scores in some]) for some in again]
    return Mean(value, float(np.nanstd(judged)))


def interpolated(curve: Sequence[TextScores], entropy: float, values: Sequence[float]) -> float:
    """Equation (1), of any figure's `values` at the settings; NaN outside the curve, of which settings without a token
    are no part.
    """
    points = sorted((scores.entropy, value) for scores, value in zip(curve, values, strict=True) if scores.tokens.sum())
    if not points:
        return math.nan
    entropies, found = zip(*points, strict=True)
    return float(np.interp(entropy, entropies, found, left=np.nan, right=np.nan))
