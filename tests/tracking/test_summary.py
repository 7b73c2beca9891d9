import math
from types import SimpleNamespace

import pytest
import torch

from diffusion_text.metrics.noise_prediction import QUANTITIES
from diffusion_text.tracking.summary import (
    diffusion_figures,
    information_verdict,
    loss_verdict,
    quality_verdict,
    sampling_verdict,
    startup_table,
    telling_verdict,
    verdict,
)


def model(width=128, bound=None):
    """As much of a model as a verdict looks at."""
    return SimpleNamespace(
        denoiser=SimpleNamespace(output_width=width),
        text_space=SimpleNamespace(dim=128),
        bound=bound,
        reference="the best linear predictor",
    )


def figures(ours, do_nothing=0.5, linear=0.6):
    """Validation figures with the same cosine in each bin, or our own ten."""
    bins = {"model": ours if isinstance(ours, list) else [ours] * 10, "do_nothing": [do_nothing] * 10}
    bins["linear"] = [linear] * 10
    return {"val": {name: {"noise_cosine": {"bins": values}} for name, values in bins.items()}}


def information(nats, error, found, lost, bins=(0.0,) * 10):
    """Validation figures with this information."""
    val = {"information": {"overall": nats, "bins": [*bins]}, "information_error": error}
    return {
        "val": val | {"information_found": found, "information_lost": lost},
        "reference": "the best linear predictor",
    }


def test_what_is_known_beyond_the_reference_comes_with_its_error_and_parts():
    said = information_verdict(information(3.3, 0.2, 15.3, 12.0, [0.0] * 8 + [-4.0, -8.0]))
    assert said == (
        "Knows 3.30 ± 0.20 nats a token beyond the best linear predictor (15.30 found, 12.00 lost, most around log SNR "
        "8.1)."
    )


@pytest.mark.parametrize("nats", [0.3, -5.0, math.nan])
def test_what_is_within_the_error_is_not_known(nats):
    said = information_verdict(information(nats, 0.2, 0.3, 0.0))
    assert said.startswith("Knows no more than the best linear predictor: ")


def test_a_model_above_both_references_is_said_to_be():
    assert (
        verdict(model(), figures(0.7))
        == "Under this schedule, above both reference predictors at all ten noise levels."
    )


def test_a_model_below_a_reference_is_told_which_and_where():
    found = verdict(model(), figures([0.7] * 7 + [0.55] * 3))
    assert found == "Under this schedule, below 'best linear predictor' at 3 of 10 noise levels."


def test_a_narrow_network_that_predicts_noise_bare_is_told_its_bound():
    found = verdict(model(width=40, bound=0.559017), figures(0.4))
    assert "'do nothing (ε̂ = x_t)' at 10 of 10" in found
    assert "√(40/128) = 0.559" in found
    assert "prediction=v" in found


def test_what_is_not_bounded_is_not_told_a_bound():
    assert "√" not in verdict(model(width=40), figures(0.4))


@pytest.mark.parametrize(("rms", "peak", "blew_up"), [(1.0, 1.2, False), (1.0, 900.0, True), (40.0, 40.0, True)])
def test_samples_of_the_wrong_size_are_called_so(rms, peak, blew_up):
    assert ("blew up" in sampling_verdict(rms, peak)) == blew_up


def test_a_model_that_diverged_is_not_above_anything():
    assert "above" not in verdict(model(), figures(math.nan))


@pytest.mark.parametrize(
    ("logged", "learned"),
    [
        ({"val/loss": 0.5, "val/without_context/loss": 1.0}, True),
        ({"val/loss": 1.0, "val/without_context/loss": 1.0}, False),
        ({"val/loss": math.nan, "val/without_context/loss": 1.0}, False),
        (  # the rounding, which the whole loss has in it, says nothing about context
            {
                "val/loss": 0.5,
                "val/without_context/loss": 1.5,
                "val/diffusion": 0.4,
                "val/without_context/diffusion": 0.4,
            },
            False,
        ),
    ],
    ids=["below", "the same", "diverged", "below by its rounding"],
)
def test_a_loss_that_needs_no_context_is_said_to_be_one(logged, learned):
    assert ("Nothing was learned" in loss_verdict(logged)) != learned


def test_the_final_figures_keep_every_predictors_bins_apart():
    logged, expected = {}, {}
    for stage in ("val", "test"):
        logged |= {f"{stage}/loss": torch.tensor(float(len(logged))), f"{stage}/without_context/loss": 1.0}
        logged |= {f"{stage}/information_{part}": 0.5 for part in ("error", "found", "lost")}
        for name in ("information", "skill"):
            logged |= {f"{stage}/{name}": 1.0} | {f"{stage}/{name}/{i}": float(i) for i in range(10)}
        for name in ("model", "do_nothing", "linear"):
            for quantity in QUANTITIES:
                prefix = f"{stage}/{quantity}" if name == "model" else f"{stage}/{name}/{quantity}"
                values = [float(len(logged) + i) for i in range(11)]
                logged |= {prefix: values[0]} | {f"{prefix}/{i}": value for i, value in enumerate(values[1:])}
                expected[stage, name, quantity] = {"overall": values[0], "bins": values[1:]}
    found = diffusion_figures(model(bound=0.5), logged)
    assert found["bound"] == 0.5
    assert found["val"]["skill"] == {"overall": 1.0, "bins": [float(i) for i in range(10)]}
    assert found["test"]["loss"] == float(logged["test/loss"])
    for (stage, name, quantity), values in expected.items():
        assert found[stage][name][quantity] == values


def columns(**samples):
    """Text quality of samples that are as good as real text, but for what is given."""
    real = {"judge_nll": 2.0, "entropy": 3.0, "distinct_3": 0.4, "top_share": 0.1, "unigram_kl": 0.02}
    real |= {"text_entropy": 2.5, "unique_texts": 1.0}
    return {"samples": real | samples, "real text": real, "unigrams": real | {"judge_nll": 5.0}}


def test_text_quality_is_never_told_by_the_judge_alone():
    sentence = quality_verdict(columns(judge_nll=2.5))
    assert sentence == (
        "Text quality: 5-gram judge 2.50 nats a token (real text 2.00), entropy of each text 2.50 (real text 2.50), "
        "of all together 3.00 (real text 3.00), unique texts 1.00 (real text 1.00)."
    )


@pytest.mark.parametrize(
    ("samples", "name"),
    [({"judge_nll": 0.1, "distinct_3": 0.05}, "collapse/repetition"), ({"top_share": 0.9}, "collapse/unigram")],
)
def test_a_collapse_is_named_however_well_it_is_judged(samples, name):
    assert f"; {name}." in quality_verdict(columns(**samples))


def test_empty_samples_are_said_to_be_empty_and_no_more():
    assert quality_verdict(columns(judge_nll=math.nan)).endswith("the samples are empty, there is nothing to judge.")


def test_a_figure_by_which_nonsense_is_better_is_said_to_say_nothing():
    said = quality_verdict(columns(judge_nll=6.0, unigram_kl=0.5))
    assert "By 5-gram judge, nats a token alone nonsense is better (unigrams): it says nothing here." in said
    assert "By unigram KL, nats alone nonsense is better (unigrams): it says nothing here." in said


def test_a_judge_that_prefers_what_the_source_does_not_is_found_out():
    def said(judge_nll, source_nll):
        known = columns(judge_nll=judge_nll, source_nll=source_nll)
        known["real text"] = known["real text"] | {"source_nll": 1.0}
        return quality_verdict(known)

    assert "it is fooled" in said(judge_nll=1.5, source_nll=1.2)
    assert "it is fooled" not in said(judge_nll=1.5, source_nll=0.9)
    assert "it is fooled" not in said(judge_nll=2.5, source_nll=1.2)


def test_a_start_up_summary_has_a_line_for_each_part_and_breaks_none():
    lines = startup_table({"data": "PythonDocs, 1,329 texts", "model": "[bold]UNet"}).splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [["data", "PythonDocs, 1,329 texts"], ["model", "[bold]UNet"]]


def test_what_telling_is_worth_is_said_and_where():
    bins = [0.0] * 10
    bins[3] = 0.4
    said = telling_verdict({"information": {"overall": 0.4, "bins": bins}, "information_error": 0.01})
    assert said == "What it is told is worth 0.40 ± 0.01 nats a token, most around log SNR -2.7."
    said = telling_verdict({"information": {"overall": 0.01, "bins": bins}, "information_error": 0.01})
    assert said.startswith("It ignores what it is told: that is worth 0.01 ± 0.01 nats a token")
