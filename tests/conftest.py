"""Settings every test shares: one thread, array shapes checked at every call, and seeded examples."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"

import hypothesis
import jaxtyping
import pytest

jaxtyping.install_import_hook(
    [
        "diffusion_text.diffusion",
        "diffusion_text.denoisers",
        "diffusion_text.diagnostics",
        "diffusion_text.metrics",
    ],
    "beartype.beartype",
)

import torch

torch.set_num_threads(1)

hypothesis.settings.register_profile("repeatable", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _same_draws_every_run():
    torch.manual_seed(0)
