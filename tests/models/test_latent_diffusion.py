from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from diffusion_text.data.sampling import Shares
from diffusion_text.denoisers.base import Denoiser
from diffusion_text.denoisers.textunet import TextUNet1D
from diffusion_text.diagnostics.references import LinearPredictor
from diffusion_text.diffusion.losses import MinSNRWeighting
from diffusion_text.diffusion.predictions import EpsilonPrediction, VPrediction, X0Prediction
from diffusion_text.diffusion.samplers import DDIMSampler, DDPMSampler
from diffusion_text.models.latent_diffusion import LatentDiffusion

QUIET = {"log", "log_dict"}


class Silent(Denoiser):
    """Puts out zeros, and keeps what it was given as the earlier estimate."""

    output_width = 16

    def __init__(self, estimates=0):
        super().__init__()
        self.estimates, self.previous = estimates, []

    def forward(self, x_t, t, mask, estimates=None):
        self.previous.append(estimates)
        return torch.zeros_like(x_t)


@pytest.fixture
def alone(monkeypatch):
    """Lets a model's steps run without a Trainer; returns a function that sets the global step."""
    for name in QUIET:
        monkeypatch.setattr(LatentDiffusion, name, lambda *args, **kwargs: None)
    monkeypatch.setattr(LatentDiffusion, "global_rank", 0)
    monkeypatch.setattr(LatentDiffusion, "is_logged", True)
    split = SimpleNamespace(batch_sampler=Shares(6, batch_size=3))
    trainer = SimpleNamespace(accumulate_grad_batches=1, world_size=1, val_dataloaders=split)
    monkeypatch.setattr(LatentDiffusion, "trainer", trainer)
    return lambda step: monkeypatch.setattr(LatentDiffusion, "global_step", step, raising=False)


def noised(model, batch, t=0.5):
    """The batch at one time, with fixed noise."""
    x_0, _ = model.encode_batch(batch)
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(2))
    return model.noised(x_0, noise, torch.full((len(x_0),), t), batch["mask"])


# ---- statistics


def test_latents_are_standardised_by_the_training_splits_statistics(make_model, batch):
    model = make_model()
    space = model.text_space
    torch.testing.assert_close(model.encode_batch(batch)[0], (batch["latents"] - space.mean) / space.std)


def test_statistics_travel_in_the_checkpoint(make_model, batch):
    model, other = make_model(), make_model()
    other.set_statistics(torch.zeros(16), torch.eye(16).double(), torch.zeros(13, dtype=torch.long))
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.encode_batch(batch)[0], model.encode_batch(batch)[0])
    assert torch.equal(other.length_counts, model.length_counts)
    assert torch.equal(other.linear.eigenvalues, model.linear.eigenvalues)
    assert not [name for name in model.state_dict() if "frozen" in name or "bart" in name]


def test_the_linear_predictor_is_that_of_the_standardised_latents(make_model):
    model = make_model()
    linear = model.linear
    rebuilt = linear.eigenvectors @ linear.eigenvalues.diag() @ linear.eigenvectors.T
    torch.testing.assert_close(rebuilt, model.text_space.correlation, atol=1e-5, rtol=0)
    torch.testing.assert_close(rebuilt.diagonal(), torch.ones(16), atol=1e-5, rtol=0)


# ---- prediction


@pytest.mark.parametrize(
    ("prediction", "setting", "on"),
    [
        (VPrediction(), None, True),
        (X0Prediction(), None, True),
        (EpsilonPrediction(), None, False),
        (VPrediction(), False, False),
        (EpsilonPrediction(), True, True),
    ],
)
def test_the_linear_path_is_on_except_for_epsilon(make_model, batch, prediction, setting, on):
    model = make_model(denoiser=Silent(), prediction=prediction, linear_path=setting)
    output = model.output(*noised(model, batch)[2:4], batch["mask"])
    assert (output.abs().max() > 0) == on


@pytest.mark.parametrize("prediction", [VPrediction(), X0Prediction(), EpsilonPrediction()])
@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_a_silent_network_with_linear_path_is_the_linear_predictor(make_model, batch, prediction, t):
    model = make_model(denoiser=Silent(), prediction=prediction, linear_path=True)
    noisy = noised(model, batch, t)
    reference = LinearPredictor(16)
    reference.set_moments(torch.zeros(16), model.text_space.correlation)
    expected = reference(noisy.x_t, noisy.alpha, noisy.sigma)
    torch.testing.assert_close(
        model.predict_x0(noisy.x_t, noisy.t, noisy.mask), expected.x_0, atol=1e-4, rtol=1e-4, msg=str
    )
    model.compare("val", noisy, model.output(noisy.x_t, noisy.t, noisy.mask))
    ours, linear = (model.evaluation.noise_prediction("val", name).compute() for name in ("model", "linear"))
    for quantity in ours:
        torch.testing.assert_close(ours[quantity], linear[quantity], atol=1e-4, rtol=1e-4, equal_nan=True)


def test_the_three_predictors_differ(make_model, batch):
    model = make_model()
    noisy = noised(model, batch)
    model.compare("val", noisy, model.output(noisy.x_t, noisy.t, noisy.mask))
    cosines = {
        model.evaluation.noise_prediction("val", name).compute()["noise_cosine"].item()
        for name in ("model", "do_nothing", "linear")
    }
    assert len(cosines) == 3


def test_a_perfect_network_has_cosine_and_magnitude_one(make_model, batch):
    model = make_model()
    noisy = noised(model, batch)
    model.compare("val", noisy, model.prediction.target(noisy.x_0, noisy.noise, noisy.alpha, noisy.sigma))
    for quantity in ("noise_cosine", "noise_magnitude", "x0_cosine", "x0_magnitude"):
        assert model.evaluation.noise_prediction("val", "model").compute()[quantity] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("prediction", [VPrediction(), X0Prediction(), EpsilonPrediction()])
def test_the_loss_of_a_perfect_network_is_zero_and_weights_scale_it(make_model, batch, prediction):
    model = make_model(prediction=prediction)
    noisy = noised(model, batch)
    target = prediction.target(noisy.x_0, noisy.noise, noisy.alpha, noisy.sigma)
    torch.testing.assert_close(model.losses(batch, noisy, target)["loss"], torch.zeros(3))
    torch.testing.assert_close(model.losses(batch, noisy, target + 1)["loss"], torch.ones(3))
    other = make_model(prediction=prediction, weighting=MinSNRWeighting(5.0))
    weights = MinSNRWeighting(5.0)(noisy.alpha, noisy.sigma, prediction)
    torch.testing.assert_close(other.losses(batch, noisy, target + 1)["loss"], weights)


# ---- training


def test_one_batch_can_be_overfitted(make_model, batch):
    model = make_model(denoiser=TextUNet1D(16, width="full", time_dim=16, blocks=2), linear_path=False)
    model.train()
    noisy = noised(model, batch)
    optimizer = torch.optim.Adam(model.denoiser.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):
        loss = model.losses(batch, noisy, model.output(noisy.x_t, noisy.t, noisy.mask))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]


def loss_of_step(model, batch, alone, step, seed=0, before=0):
    """The training loss at a global step, whatever was drawn before it."""
    alone(step)
    model.seed = seed
    torch.manual_seed(before)
    model.on_train_batch_start(batch, 0)
    return model.training_step(batch, 0).item()


def test_the_randomness_of_a_step_follows_from_seed_and_step_alone(make_model, batch, alone):
    model = make_model()
    first = loss_of_step(model, batch, alone, 3)
    assert loss_of_step(model, batch, alone, 3, before=1) == first
    assert loss_of_step(model, batch, alone, 4) != first
    assert loss_of_step(model, batch, alone, 3, seed=1) != first


@pytest.mark.parametrize(("batches", "ranks"), [(2, 1), (1, 2), (2, 2)])
def test_batches_and_processes_that_share_a_step_draw_what_one_would(
    make_model, batch, alone, batches, ranks, monkeypatch
):
    model = make_model(self_conditioning=0.5, denoiser=Silent(estimates=1))
    alone(3)
    batch = {name: torch.cat([tensor] * 4) for name, tensor in batch.items()}
    texts = len(batch["mask"])
    size = texts // (batches * ranks)
    whole = model.trained_on(batch, model.step_draws(texts, 0))[0]
    monkeypatch.setattr(model.trainer, "accumulate_grad_batches", batches)
    monkeypatch.setattr(model.trainer, "world_size", ranks)
    for place in range(batches * ranks):
        monkeypatch.setattr(LatentDiffusion, "global_rank", place % ranks)
        where = slice(place * size, (place + 1) * size)
        part = {name: tensor[where] for name, tensor in batch.items()}
        noisy = model.trained_on(part, model.step_draws(size, place // ranks))[0]
        for name in ("t", "x_0", "noise", "x_t"):
            assert torch.equal(getattr(noisy, name), getattr(whole, name)[where]), name


def test_a_step_trains_the_denoiser_and_nothing_else(make_model, batch, alone):
    model = make_model().train()
    alone(0)
    model.training_step(batch, 0).backward()
    assert {name for name, weight in model.named_parameters() if weight.grad is not None} == {
        f"denoiser.{name}" for name, _ in model.denoiser.named_parameters()
    }


def test_padding_does_not_reach_the_loss(make_model, batch, alone):
    model = make_model()
    clean = loss_of_step(model, batch, alone, 0)
    garbage = torch.where(batch["mask"][..., None], batch["latents"], 30.0)
    assert loss_of_step(model, batch | {"latents": garbage}, alone, 0) == pytest.approx(clean, rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_self_conditioning_gives_a_share_of_texts_their_earlier_estimate(make_model, alone, share):
    model = make_model(denoiser=Silent(estimates=1), self_conditioning=share)
    mask = torch.ones(400, 2, dtype=torch.bool)
    batch = {"mask": mask, "latent_mask": mask, "latents": torch.randn(400, 2, 16)}
    alone(0)
    model.training_step(batch, 0)
    previous = model.denoiser.previous[-1]
    if share == 0:
        assert previous is None
        return
    conditioned = (previous.abs().amax((1, 2)) > 0).float()
    assert conditioned.mean() == pytest.approx(share, abs=0.1)
    assert not model.denoiser.previous[0].any()


def test_the_reference_may_be_read_beside_the_earlier_estimate(make_model, alone):
    model = make_model(denoiser=Silent(estimates=2), self_conditioning=0.5, reads_reference=True, linear_path=False)
    mask = torch.ones(40, 2, dtype=torch.bool)
    alone(0)
    noisy, _, _ = model.trained_on(
        {"mask": mask, "latent_mask": mask, "latents": torch.randn(40, 2, 16)}, model.step_draws(40, 0)
    )
    first, second = (read.unflatten(-1, (2, -1)).unbind(-2) for read in model.denoiser.previous)
    reference = model.linear(noisy.x_t, noisy.alpha, noisy.sigma).x_0
    assert len(first[0]) == 20, "those that get the network's own estimate"
    assert not first[0].any()
    assert_close(second[1], reference)


@pytest.mark.parametrize(
    ("found", "lost", "searching", "warns"),
    [(0.0, 0.0, True, True), (0.0, 0.0, False, False), (0.4, 0.0, True, False), (0.0, 9.0, True, False)],
)
def test_the_plateau_is_named(make_model, alone, caplog, found, lost, searching, warns):
    model = make_model(denoiser=Silent())
    model.denoiser.finds_neighbours = searching
    alone(300)
    model.trainer.is_global_zero = True
    figures = {"information_found": found, "information_lost": lost, "information_error": 0.002}
    model.warn_of_plateau({f"val/{name}": torch.tensor(value) for name, value in figures.items()})
    assert ("After 300 steps the output is what each position says by itself" in caplog.text) == warns


# ---- evaluation


def test_evaluation_repeats_and_shows_every_text_in_all_ten_bins(make_model, batch, alone):
    model = make_model()
    alone(0)
    found = []
    for step in range(2):
        torch.manual_seed(step)
        model.validation_step(batch, 0)
        metric = model.evaluation.noise_prediction("val", "model")
        assert metric.counts.tolist() == [3] * 10
        found.append(metric.compute())
        metric.reset()
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_evaluation_draws_other_noise_for_other_batches(make_model, batch, alone):
    model = make_model()
    alone(0)
    found = []
    for index in range(2):
        model.validation_step(batch, index)
        found.append(model.evaluation.noise_prediction("val", "model").compute()["noise_cosine"])
        model.evaluation.noise_prediction("val", "model").reset()
    assert found[0] != found[1]


# ---- generation


@pytest.fixture
def finals(monkeypatch):
    """Every x_0 and mask that a space was asked to decode."""
    seen = []

    def decode(self, x_0, mask):
        seen.append((x_0, mask))
        return torch.zeros(mask.shape, dtype=torch.long)

    monkeypatch.setattr("diffusion_text.text_spaces.bart.BartSpace.decode", decode)
    return seen


@pytest.mark.parametrize("sampler", [DDIMSampler(3), DDPMSampler(3)])
def test_the_same_seed_gives_the_same_latents(make_model, finals, sampler):
    model = make_model()
    for seed in (1, 1, 2):
        torch.manual_seed(len(finals))
        model.generate(sampler, 4, seed)
    (first, mask), (again, mask_again), (other, _) = finals
    assert torch.equal(first, again)
    assert torch.equal(mask, mask_again)
    assert first.shape != other.shape or not torch.equal(first, other)
    assert first.isfinite().all()


def test_the_same_seed_gives_the_same_text(make_model):
    model = make_model()
    first = model.generate(DDIMSampler(3), 4, seed=1)
    torch.manual_seed(5)
    assert torch.equal(model.generate(DDIMSampler(3), 4, seed=1), first)
    texts = {tuple(text) for seed in range(3) for text in model.generate(DDIMSampler(3), 4, seed).tolist()}
    assert len(texts) > 1


def test_lengths_are_drawn_from_the_training_splits(make_model, finals):
    make_model().sample(DDIMSampler(1), 400, seed=0, batch_size=400)
    [(x_0, mask)] = finals
    lengths = mask.sum(1)
    assert set(lengths.tolist()) == {5, 9}
    assert (lengths == 5).float().mean() == pytest.approx(0.75, abs=0.08)
    assert x_0.shape == (400, 9, 16)
    assert (mask == (torch.arange(9) < lengths[:, None])).all()


def test_a_length_can_be_asked_for(make_model, finals):
    make_model().generate(DDIMSampler(1), 3, seed=0, length=7)
    [(x_0, mask)] = finals
    assert x_0.shape == (3, 7, 16)
    assert mask.all()


def test_a_text_does_not_depend_on_its_neighbours_padding(make_model, finals):
    model = make_model(denoiser=TextUNet1D(16, width="full", time_dim=16))
    mask = torch.arange(8) < torch.tensor([8, 5])[:, None]
    x_1 = torch.randn(2, 8, 16)
    garbage = torch.where(mask[..., None], x_1, 30.0)
    runs = [list(model.reverse(DDIMSampler(3), start, mask, torch.Generator()))[-1].x_s for start in (x_1, garbage)]
    torch.testing.assert_close(runs[0][mask], runs[1][mask])


@pytest.mark.parametrize("trained", [False, True])
def test_sampling_reads_the_earlier_estimate_only_if_trained_to(make_model, trained):
    model = make_model(denoiser=Silent(estimates=int(trained)), self_conditioning=float(trained))
    model.generate(DDIMSampler(3), 2, seed=0)
    read = [previous is not None and bool(previous.any()) for previous in model.denoiser.previous]
    assert read == [False, trained, trained]
