"""Each check tells a sound case from the fault that it is there to find."""

import pytest
import torch

from diffusion_text.denoisers.textunet import TextUNet1D
from diffusion_text.denoisers.transformer import Transformer
from diffusion_text.diagnostics import preflight
from diffusion_text.diffusion.schedules import SqrtSchedule

DIM = 48
MASK = torch.arange(12) < torch.tensor([[12], [7], [9]])


@pytest.fixture
def x():
    return torch.randn(3, 12, DIM)


@pytest.mark.parametrize(("width", "rank", "verdict"), [("narrow", 16, "warn"), ("full", 48, "ok")])
def test_rank(width, rank, verdict):
    check = preflight.output_rank(TextUNet1D(DIM, width=width), DIM, True, torch.device("cpu"))
    assert check.measured.startswith(f"{rank} of {DIM}")
    assert check.verdict == verdict


def test_rank_does_not_matter_where_x_t_has_a_path():
    assert preflight.output_rank(TextUNet1D(DIM), DIM, False, torch.device("cpu")).verdict == "ok"


@pytest.mark.parametrize(("positions", "verdict"), [("rotary", "ok"), ("none", "fail")])
def test_positions(x, positions, verdict):
    assert preflight.position_sensitivity(Transformer(DIM, positions=positions), x, MASK).verdict == verdict


def test_time(x):
    assert preflight.time_sensitivity(TextUNet1D(DIM), x, MASK).verdict == "ok"
    assert preflight.time_sensitivity(lambda x_t, t, mask: x_t, x, MASK).verdict == "fail"


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


def test_snap(x):
    assert preflight.snap_space(x, x, MASK).verdict == "ok"
    assert preflight.snap_space(torch.randn_like(x), x, MASK).verdict == "fail"


def test_gradients():
    reached = {"a": torch.ones(2), "b": torch.ones(1)}
    assert preflight.gradient_reach(reached).verdict == "ok"
    assert preflight.gradient_reach(reached | {"c": None}).measured == "2 of 3"
    assert "c" in preflight.gradient_reach(reached | {"c": torch.zeros(1)}).advice


@pytest.mark.parametrize(("decoded", "share"), [([[1, 2, 3, 9]], 1.0), ([[1, 9, 3]], 2 / 3), ([[1]], 1 / 3)])
def test_token_accuracy(decoded, share):
    mask = torch.tensor([[True, True, True, False]])
    accuracy = preflight.token_accuracy(torch.tensor(decoded), torch.tensor([[1, 2, 3, 0]]), mask)
    assert accuracy == pytest.approx(share)
