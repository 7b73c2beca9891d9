"""Each check tells a sound case from the fault that it is there to find."""

import pytest
import torch

from diffusion_text.denoisers.textunet import TextUNet1D
from diffusion_text.denoisers.transformer import Transformer
from diffusion_text.diagnostics import preflight
from diffusion_text.diffusion.schedules import SqrtSchedule
from diffusion_text.shapes import Context

DIM = 48
CPU = torch.device("cpu")
MASK = torch.arange(12) < torch.tensor([[12], [7], [9]])


@pytest.fixture
def x():
    return torch.randn(3, 12, DIM)


@pytest.mark.parametrize(("width", "rank", "verdict"), [("narrow", 16, "warn"), ("full", 48, "ok")])
def test_rank(width, rank, verdict):
    check = preflight.output_rank(TextUNet1D(DIM, width=width), rank, DIM, True, CPU)
    assert check.measured.startswith(f"{rank} of {DIM}")
    assert check.verdict == verdict


def test_rank_does_not_matter_where_x_t_has_a_path():
    assert preflight.output_rank(TextUNet1D(DIM), 16, DIM, False, CPU).verdict == "ok"


def test_rank_is_measured_whatever_the_network_declares():
    assert preflight.output_rank(TextUNet1D(DIM, width="narrow"), DIM, DIM, True, CPU).measured.startswith("16 of 48")


def test_a_large_network_without_a_gpu_is_believed(monkeypatch):
    monkeypatch.setattr(preflight, "AFFORDABLE", 0)
    check = preflight.output_rank(TextUNet1D(DIM, width="full"), 16, DIM, True, CPU)
    assert check.measured.startswith("16 of 48 as declared, cosine ≤ 0.577")


@pytest.mark.parametrize(("positions", "verdict"), [("rotary", "ok"), ("none", "fail")])
def test_positions(x, positions, verdict):
    assert preflight.position_sensitivity(Transformer(DIM, positions=positions), x, MASK).verdict == verdict


def test_time(x):
    assert preflight.time_sensitivity(TextUNet1D(DIM), x, MASK).verdict == "ok"
    assert preflight.time_sensitivity(lambda x_t, t, mask: x_t, x, MASK).verdict == "fail"


def test_condition(x):
    where = torch.tensor([[True, True], [True, False], [False, False]])
    context = Context(torch.randn(3, 2, 6), where, torch.arange(-2.0, 0))
    network = Transformer(DIM, told=6)
    assert preflight.condition_sensitivity(network, x, MASK, context).verdict == "ok"
    deaf = preflight.condition_sensitivity(lambda x_t, t, mask, context: x_t, x, MASK, context)
    assert (deaf.verdict, deaf.measured) == ("fail", "changes by 0.0%")
    untold = preflight.condition_sensitivity(network, x, MASK, context._replace(where=torch.zeros_like(where)))
    assert untold.verdict == "warn"
    assert "none of these texts is told anything" in untold.advice


@pytest.mark.parametrize(
    ("counts", "verdict", "measured"),
    [
        ({"food": [5, 9, 6], "area": [15, 2, 3]}, "ok", "2 told in 25% of texts and more, 0 of 4 values in one alone"),
        ({"food": [0, 19, 1]}, "warn", "1 told in 100% of texts and more, 1 of 2 values in one alone"),
        ({"food": [20, 0, 0]}, "fail", "1 told in 0% of texts and more, 0 of 2 values in one alone"),
    ],
)
def test_condition_in_the_data(counts, verdict, measured):
    check = preflight.condition_in_the_data({name: torch.tensor(each) for name, each in counts.items()})
    assert (check.verdict, check.measured) == (verdict, measured)


@pytest.mark.parametrize(
    ("shares", "verdict"), [([1.0, 0.9, 0.3], "ok"), ([1.0, 0.9, 0.8], "warn"), ([1.0, 1.0, 0.9], "fail")]
)
def test_need_of_the_condition(shares, verdict):
    check = preflight.condition_needed(shares, moving=False)
    assert (check.verdict, check.measured) == (verdict, f"x_t alone reads {sum(shares) / 3:.0%}")
    moving = preflight.condition_needed(shares, moving=True)
    assert moving.verdict == {"warn": "ok"}.get(verdict, verdict), "they leave what costs nothing"


def test_padding_leak(x):
    assert preflight.padding_leak(TextUNet1D(DIM), x, MASK).verdict == "ok"
    assert preflight.padding_leak(lambda x_t, t, mask: x_t + x_t.mean(1, keepdim=True), x, MASK).verdict == "fail"


@pytest.mark.parametrize(("scale", "verdict"), [(1.0, "ok"), (0.3, "warn"), (0.02, "fail"), (20.0, "fail")])
def test_scale(x, scale, verdict):
    assert preflight.latent_scale(scale * x, MASK).verdict == verdict


@pytest.mark.parametrize(("scale", "shift", "verdict"), [(1.0, 0.0, "ok"), (2.0, 0.0, "fail"), (1.0, 0.6, "warn")])
def test_standardisation(scale, shift, verdict):
    texts = scale * torch.randn(64, 12, DIM) + shift
    assert preflight.standardisation(texts, torch.ones(64, 12, dtype=torch.bool)).verdict == verdict


def test_readable_share(x):
    tokens = torch.arange(36).reshape(3, 12)
    assert preflight.readable_share(x, tokens, MASK, SqrtSchedule()).verdict == "ok"
    assert preflight.readable_share(0.01 * x, tokens, MASK, SqrtSchedule()).verdict == "fail"


def test_a_latent_of_several_tokens_is_read_when_all_of_them_are(x):
    pairs = torch.zeros(3, 24, dtype=torch.long)
    pairs[:, 1::2] = torch.arange(36).reshape(3, 12)  # the first token of each pair tells nothing
    check = preflight.readable_share(0.01 * x, pairs, MASK, SqrtSchedule())
    assert check.verdict == "fail"
    assert preflight.readable_share(x, pairs, MASK, SqrtSchedule()).measured.startswith("100%")


def test_padding_in_the_loss(x):
    def counted(output):
        return (output - x).square().mean()

    def masked(output):
        return (output - x)[MASK].square().mean()

    output = torch.zeros_like(x)
    assert preflight.padding_in_loss(masked, output, MASK).measured == "0.0% of its gradient"
    check = preflight.padding_in_loss(counted, output, MASK)
    share = float(x[~MASK].abs().sum() / x.abs().sum())  # the gradient of a squared error is in proportion to the error
    assert (check.verdict, check.measured) == ("fail", f"{share:.1%} of its gradient")


def test_statistics_that_a_checkpoint_does_not_keep():
    assert preflight.kept_statistics({"mean", "std"}, {"mean", "std", "more"}).verdict == "ok"
    check = preflight.kept_statistics({"mean", "std"}, {"mean"})
    assert (check.verdict, check.measured) == ("fail", "1 of 2 statistics")
    assert check.advice.startswith("std ")


@pytest.mark.parametrize(
    ("amplification", "clip", "verdict"), [(1e6, None, "fail"), (1e6, 8.0, "ok"), (1.0, None, "ok")]
)
def test_what_the_first_step_magnifies(amplification, clip, verdict):
    assert preflight.first_step(amplification, clip).verdict == verdict


@pytest.mark.parametrize(("share", "verdict"), [(0.97, "ok"), (0.6, "warn"), (0.1, "fail")])
def test_round_trip(share, verdict):
    assert preflight.round_trip(share, untrained=False).verdict == verdict


def test_snap(x):
    assert preflight.snap_space(x, x, MASK).verdict == "ok"
    assert preflight.snap_space(torch.randn_like(x), x, MASK).verdict == "fail"


@pytest.mark.parametrize(
    ("loss", "of_rows", "verdict"), [(0.0064, True, "warn"), (0.276, True, "ok"), (0.0064, False, "ok")]
)
def test_a_loss_that_needs_no_learning(loss, of_rows, verdict):
    check = preflight.loss_without_context(loss, of_rows)
    assert (check.measured, check.verdict) == (str(loss), verdict)


def test_gradients():
    reached = {"a": torch.ones(2), "b": torch.ones(1)}
    assert preflight.gradient_reach(reached).verdict == "ok"
    assert preflight.gradient_reach(reached | {"c": None}).measured == "2 of 3"
    assert "c" in preflight.gradient_reach(reached | {"c": torch.zeros(1)}).advice
