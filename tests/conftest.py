"""What every test shares: one thread, array shapes checked at each call, draws that repeat, one of each part."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"

import hypothesis
import jaxtyping
import pytest
import torch

torch.set_num_threads(1)

# Before anything imports these packages: from here on a wrong shape in a call to them is an error.
jaxtyping.install_import_hook(
    [
        "diffusion_text.denoisers",
        "diffusion_text.diagnostics",
        "diffusion_text.diffusion",
        "diffusion_text.metrics",
    ],
    "beartype.beartype",
)

hypothesis.settings.register_profile("repeatable", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _same_draws_every_run():
    torch.manual_seed(0)


@pytest.fixture(scope="session", params=["linear", "cosine", "sqrt", "log_snr_linear"])
def schedule(request):
    """Each noise schedule, as published."""
    from diffusion_text.diffusion import schedules

    return {
        "linear": schedules.LinearSchedule,
        "cosine": schedules.CosineSchedule,
        "sqrt": schedules.SqrtSchedule,
        "log_snr_linear": schedules.LogSNRLinearSchedule,
    }[request.param]()


@pytest.fixture(scope="session", params=["epsilon", "x0", "v"])
def prediction(request):
    """Each meaning of a network's output."""
    from diffusion_text.diffusion import predictions

    return {
        "epsilon": predictions.EpsilonPrediction,
        "x0": predictions.X0Prediction,
        "v": predictions.VPrediction,
    }[request.param]()
