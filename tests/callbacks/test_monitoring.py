from types import SimpleNamespace

import pytest
import torch

from diffusion_text.callbacks.checkpoints import BestCheckpoint
from diffusion_text.callbacks.monitoring import EarlyStopping, check_monitor, check_writes
from diffusion_text.errors import UserError
from diffusion_text.models.text_autoencoder import TextAutoencoder

LOGGED = ["val/loss", "val/noise_cosine", "train/loss"]


@pytest.mark.parametrize("name", ["val/loss", "val/noise_cosine/3"])
def test_what_is_logged_can_be_followed_and_its_bins(name):
    check_monitor(name, "callbacks.best.monitor", LOGGED)


@pytest.mark.parametrize(
    ("name", "near"), [("val/los", ", did you mean val/loss?"), ("val/loss/x", ", did you mean val/loss?"), ("zzz", "")]
)
def test_what_is_not_is_told_with_the_nearest_that_is(name, near):
    with pytest.raises(UserError) as told:
        check_monitor(name, "callbacks.best.monitor", LOGGED)
    assert str(told.value) == f"callbacks.best.monitor={name}: no figure of that name is logged{near}"


@pytest.mark.parametrize(
    ("callback", "setting"),
    [
        (lambda place: BestCheckpoint(place, "best", "quality/rms"), "callbacks.best.monitor"),
        (lambda place: EarlyStopping("quality/rms"), "callbacks.early_stopping.monitor"),
    ],
)
def test_what_could_be_logged_and_was_not_by_the_first_validation_is_one_line(tmp_path, callback, setting):
    trainer = SimpleNamespace(callback_metrics={"val/loss": torch.tensor(1.0)}, global_step=7)
    with pytest.raises(UserError, match=rf"^{setting}=quality/rms: no figure of that name was logged by step 7$"):
        callback(str(tmp_path)).on_validation_end(trainer, None)


@pytest.mark.parametrize(
    "wrong", [{"monitor": None}, {"patience": 0}, {"patience": 2.5}, {"min_delta": -1}, {"stopping_threshold": "high"}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    [name] = wrong
    with pytest.raises(ValueError, match=rf"^callbacks\.early_stopping\.{name}="):
        EarlyStopping(**{"monitor": "val/loss"} | wrong)


def test_a_model_that_writes_no_text_is_told_so():
    autoencoder = TextAutoencoder.__new__(TextAutoencoder)
    with pytest.raises(UserError, match=r"^callbacks\.samples looks at sampled texts and TextAutoencoder writes none"):
        check_writes(autoencoder, "callbacks.samples")
