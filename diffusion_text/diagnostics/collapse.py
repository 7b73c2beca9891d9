"""Collapse of generated text, by name: what it looks like in numbers, and what usually causes it."""

from __future__ import annotations

import math
from typing import NamedTuple

OFTEN = 2.5  # times real text's share of the most frequent token
FAR = 0.7  # nats that the token distribution is further from the training split's than real text's is
REPETITIVE = 0.5  # of real text's distinct-3
SMALL, LARGE = 0.3, 3.0  # root mean square of x_0, where noise has 1


class Alarm(NamedTuple):
    """A named collapse, the numbers that show it, and its likely cause."""

    name: str
    measured: str
    cause: str


def collapse_alarms(quality: dict[str, float], real: dict[str, float], most_frequent: str, rms: float) -> list[Alarm]:
    """What is wrong with texts of these figures, beside those of as much `real` text.

    `most_frequent` is their most frequent token, `rms` the root mean square of clean x_0.
    """
    alarms = []
    off_scale = not SMALL <= rms <= LARGE
    if off_scale:
        cause = "embeddings of this size meet the loss without being learned: text_space.normalise=true"
        alarms.append(Alarm("collapse/scale", f"x_0 has RMS {rms:.3g} where noise has 1", cause))
    share, kl = quality["top_share"], quality["unigram_kl"]
    if math.isnan(share):
        cause = "the network outputs what no text has: prediction=logits text_space.normalise=true"
        alarms.append(Alarm("collapse/special", "every token is a special one", cause))
    if share > OFTEN * real["top_share"] or kl > real["unigram_kl"] + FAR:
        measured = (
            f"{most_frequent!r} is {share:.0%} of the tokens (real text's most frequent: {real['top_share']:.0%}), "
            f"unigram KL {kl:.2f} nats (real: {real['unigram_kl']:.2f})"
        )
        cause = "the noise drowns x_0" if off_scale else "the network outputs an average, which few tokens are near"
        alarms.append(Alarm("collapse/unigram", measured, f"{cause}: prediction=logits text_space.normalise=true"))
    if quality["distinct_3"] < REPETITIVE * real["distinct_3"]:
        measured = f"distinct-3 {quality['distinct_3']:.2f} (real: {real['distinct_3']:.2f})"
        cause = "the same few words at every position: model.positions=rotary, and sampler.snap=0"
        alarms.append(Alarm("collapse/repetition", measured, cause))
    return alarms
