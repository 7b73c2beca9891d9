import math

import pytest

from diffusion_text.diagnostics.collapse import collapse_alarms

REAL = {"top_share": 0.1, "unigram_kl": 0.2, "distinct_3": 0.8, "entropy": 4.0}


def alarms(rms=1.0, **figures):
    return {alarm.name: alarm for alarm in collapse_alarms(REAL | figures, REAL, ",", rms)}


def test_real_text_raises_no_alarm():
    assert alarms() == {}


@pytest.mark.parametrize(
    "figures",
    [{"rms": 0.5}, {"rms": 2.0}, {"top_share": 0.2}, {"unigram_kl": 0.6}, {"distinct_3": 0.5}, {"distinct_3": 1.0}],
    ids=str,
)
def test_a_little_worse_or_better_is_no_alarm(figures):
    assert alarms(**figures) == {}


@pytest.mark.parametrize(
    ("figures", "name", "shown"),
    [
        ({"rms": 0.02}, "collapse/scale", "RMS 0.02 where noise has 1"),
        ({"rms": 40.0}, "collapse/scale", "RMS 40 where noise has 1"),
        ({"top_share": 0.6}, "collapse/unigram", "',' is 60% of the tokens (real text's most frequent: 10%)"),
        ({"unigram_kl": 1.5}, "collapse/unigram", "unigram KL 1.50 nats (real: 0.20)"),
        ({"distinct_3": 0.1}, "collapse/repetition", "distinct-3 0.10 (real: 0.80)"),
        (dict.fromkeys(REAL, math.nan), "collapse/special", "every token is a special one"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_each_collapse_is_named_alone_with_its_figures(figures, name, shown):
    raised = alarms(**figures)
    assert set(raised) == {name}
    assert shown in raised[name].measured


def test_a_collapse_of_embeddings_that_noise_drowns_says_so():
    drowned, average = alarms(rms=0.02, top_share=0.6), alarms(top_share=0.6)
    assert set(drowned) == {"collapse/scale", "collapse/unigram"}
    assert "noise drowns" in drowned["collapse/unigram"].cause
    assert "an average" in average["collapse/unigram"].cause
