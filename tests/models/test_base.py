import csv
from functools import partial

import pytest
import torch
from lightning import Trainer

from diffusion_text.models.base import Trained
from diffusion_text.tracking.loggers import RunCSVLogger


class Slope(Trained):
    """Two weights, and a loss that always falls by 3 and 4 along them."""

    def __init__(self, **optimisation):
        super().__init__(**optimisation)
        self.weights = torch.nn.Parameter(torch.zeros(2))

    def training_step(self, batch, batch_idx):
        return self.weights @ torch.tensor([3.0, 4.0])

    def preflight(self, batch, sampler):
        return []

    def describe(self):
        return "a slope"

    def evaluate(self, stage, batch, batch_idx):
        pass


def test_learning_rate_and_norm_of_the_gradient_before_clipping_are_logged_with_their_steps(tmp_path):
    halve = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    model = Slope(
        optimizer=partial(torch.optim.SGD, lr=0.5),
        lr_schedule=lambda optimizer, num_training_steps: halve(optimizer),
    )
    trainer = Trainer(
        max_steps=4, log_every_n_steps=2, gradient_clip_val=1.0, logger=RunCSVLogger(str(tmp_path)), accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = torch.utils.data.DataLoader(range(8))
    trainer.fit(model, data, data)
    with (tmp_path / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == [1, 3]
    assert [float(row["train/learning_rate"]) for row in rows] == [0.25, 0.0625]
    assert [float(row["train/gradient_norm"]) for row in rows] == [5, 5]
    assert model.weights.tolist() == pytest.approx([-0.6 * 0.9375, -0.8 * 0.9375]), "clipped to a norm of 1"
