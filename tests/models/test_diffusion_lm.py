import json
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal
from torch.testing import assert_close

from diffusion_text.data.sampling import Shares
from diffusion_text.denoisers.base import Denoiser
from diffusion_text.denoisers.transformer import Transformer
from diffusion_text.diffusion.losses import CrossEntropyLoss, MinSNRWeighting, MSELoss, UniformWeighting
from diffusion_text.diffusion.predictions import EpsilonPrediction, LogitsPrediction, VPrediction, X0Prediction
from diffusion_text.diffusion.samplers import DDIMSampler, DDPMSampler
from diffusion_text.diffusion.schedules import LinearSchedule, SqrtSchedule
from diffusion_text.diffusion.time_sampling import AdaptiveTimes, UniformTimes
from diffusion_text.models.diffusion_lm import DiffusionLM
from diffusion_text.text_spaces.embedding import EmbeddingSpace, LearnedEmbedding

VOCABULARY, DIM, LONGEST = 40, 8, 12
SQRT_GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "schedules.json").read_text())["sqrt"][0]
T_0 = SQRT_GOLDEN["step"] / SQRT_GOLDEN["num_steps"]
TIMES = torch.tensor([0.2, 0.5, 0.9])
LATENT = [EpsilonPrediction, X0Prediction, VPrediction]
of_latents = pytest.mark.parametrize("prediction", LATENT)
of_any_kind = pytest.mark.parametrize("prediction", [*LATENT, LogitsPrediction])


class Silent(Denoiser):
    """Puts out zeros."""

    output_width = DIM

    def forward(self, x_t, t, mask, x_0_previous=None):
        return torch.zeros_like(x_t)


@pytest.fixture
def make_model(tokenizer):
    """A function that builds a Diffusion-LM over forty embeddings of width 8, with any part replaced."""

    def make(prediction=X0Prediction, rounding="learned", normalise=False, **changes):
        torch.manual_seed(0)
        parts = {
            "denoiser": Transformer(DIM, width=16, depth=1, heads=2),
            "text_space": EmbeddingSpace(tokenizer, LearnedEmbedding(VOCABULARY, DIM, normalise=normalise), rounding),
            "schedule": SqrtSchedule(),
            "prediction": prediction(),
            "loss": CrossEntropyLoss() if prediction is LogitsPrediction else MSELoss(),
            "weighting": UniformWeighting(),
            "time_sampling": UniformTimes(),
            "max_length": LONGEST,
        }
        model = DiffusionLM(**parts | changes)
        lengths = torch.zeros(LONGEST + 1, dtype=torch.long)
        lengths[[5, 9]] = torch.tensor([300, 100])
        model.set_statistics(torch.arange(VOCABULARY) ** 2, lengths)
        return model.eval()

    return make


@pytest.fixture
def batch(tokenizer):
    """Three texts of 8, 5 and 2 tokens."""
    mask = torch.arange(8) < torch.tensor([8, 5, 2])[:, None]
    tokens = torch.randint(5, VOCABULARY, (3, 8), generator=torch.Generator().manual_seed(1))
    return {"tokens": tokens.masked_fill(~mask, tokenizer.pad_token_id), "mask": mask}


@pytest.fixture
def alone(monkeypatch):
    """Lets a model's steps run without a Trainer, at a step of 200; returns what they log."""
    logged = {}
    monkeypatch.setattr(DiffusionLM, "log", lambda self, name, value, **how: logged.update({name: value}))
    monkeypatch.setattr(DiffusionLM, "log_dict", lambda self, values, **how: logged.update(values))
    monkeypatch.setattr(DiffusionLM, "is_logged", True)
    split = SimpleNamespace(batch_sampler=Shares(3, batch_size=3))
    trainer = SimpleNamespace(max_steps=200, accumulate_grad_batches=1, world_size=1, val_dataloaders=split)
    monkeypatch.setattr(DiffusionLM, "trainer", trainer)
    monkeypatch.setattr(DiffusionLM, "global_rank", 0)
    monkeypatch.setattr(DiffusionLM, "all_gather", lambda self, values: values)

    def at(step):
        monkeypatch.setattr(DiffusionLM, "global_step", step, raising=False)
        return logged

    return at


def noised(model, batch, t=TIMES):
    """The batch at these times, with fixed noise."""
    x_0, mask = model.encode_batch(batch, torch.Generator().manual_seed(2))
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(3))
    return model.noised(x_0, noise, t, mask)


def answered(model, batch, t=TIMES):
    """The losses of the model's own output."""
    noisy = noised(model, batch, t)
    return model.losses(batch, noisy, model.output(noisy.x_t, noisy.t, noisy.mask))


def each_text(batch, *tensors):
    """The real positions of each text, in turn."""
    for text, length in enumerate(batch["mask"].sum(1)):
        yield [tensor[text, :length] for tensor in tensors]


# ---- what is minimised


@of_latents
@pytest.mark.parametrize("rounding_of", ["clean", "predicted"])
def test_the_loss_is_squared_error_rounding_and_prior(make_model, batch, prediction, rounding_of):
    model = make_model(
        prediction, rounding_of=rounding_of, rounding_weight=0.7, prior_weight=0.3, weighting=MinSNRWeighting()
    )
    noisy = noised(model, batch)
    output = torch.randn_like(noisy.x_0)
    losses = model.losses(batch, noisy, output)

    levels = (noisy.alpha, noisy.sigma)
    target = model.prediction.target(noisy.x_0, noisy.noise, *levels)
    rounded = noisy.x_0 if rounding_of == "clean" else model.prediction.to_x0(output, noisy.x_t, *levels)
    logits = rounded @ model.text_space.embedding.rows.T
    texts = list(each_text(batch, output, target, logits, batch["tokens"]))
    errors = torch.stack([F.mse_loss(ours, right) for ours, right, _, _ in texts])
    assert_close(losses["diffusion"], MinSNRWeighting()(*levels, model.prediction) * errors)
    assert_close(losses["rounding"], torch.stack([F.cross_entropy(said, words) for _, _, said, words in texts]))
    assert_close(losses["loss"], losses["diffusion"] + 0.7 * losses["rounding"] + 0.3 * losses["prior"])


def test_the_prior_term_is_the_mean_square_of_what_is_left_at_the_end(make_model, batch):
    model = make_model(schedule=LinearSchedule())
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[-1]  # Ho et al. 2020, §4
    expected = torch.stack([x_0.square().mean() for (x_0,) in each_text(batch, noised(model, batch).x_0)])
    assert_close(answered(model, batch)["prior"], alpha_bar.float() * expected)


def test_logits_are_held_against_the_tokens(make_model, batch):
    output = torch.randn(3, 8, VOCABULARY)
    model = make_model(LogitsPrediction)
    losses = model.losses(batch, noised(model, batch), output)
    expected = [F.cross_entropy(said, words) for said, words in each_text(batch, output, batch["tokens"])]
    assert_close(losses, {"loss": torch.stack(expected)})


@of_any_kind
@pytest.mark.parametrize("rounding_of", ["clean", "predicted"])
def test_gradients_reach_embedding_rounding_and_network(make_model, batch, prediction, rounding_of):
    model = make_model(prediction, rounding_of=rounding_of, x_0_time=T_0)
    losses = answered(model, batch)
    losses["loss"].mean().backward()
    assert all(value.isfinite().all() for value in losses.values())
    assert not [name for name, weight in model.named_parameters() if not weight.grad.abs().sum() > 0]
    assert all(weight.grad.isfinite().all() for weight in model.parameters())
    assert (model.text_space.embedding.rows.grad[batch["tokens"][batch["mask"]]].norm(dim=1) > 0).all()


@of_any_kind
def test_padding_does_not_reach_the_losses(make_model, batch, prediction):
    model = make_model(prediction, rounding_of="predicted", prior_weight=1.0)
    clean, mask = answered(model, batch), batch["mask"]
    garbage = batch | {"tokens": batch["tokens"].where(mask, 7)}
    noisy = noised(model, garbage)
    x_t = noisy.x_t.where(mask.unsqueeze(-1), 30.0)
    spoilt = noisy._replace(x_t=x_t, noise=noisy.noise.where(mask.unsqueeze(-1), -30.0))
    assert_close(model.losses(garbage, spoilt, model.output(x_t, noisy.t, mask)), clean)


@of_any_kind
def test_a_few_steps_on_one_batch_lower_the_loss(make_model, batch, prediction):
    model = make_model(prediction, rounding_of="predicted")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    found = []
    for _ in range(24):
        loss = answered(model, batch)["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.8 * found[0]


# ---- x_0 with noise


def test_x_0_is_the_embedding_with_noise_of_the_first_step(make_model):
    model = make_model(x_0_time=T_0)
    batch = {"tokens": torch.full((50, 40), 7), "mask": torch.ones(50, 40, dtype=torch.bool)}
    batch["mask"][:, 30:] = False
    x_0, mask = model.encode_batch(batch)
    added = x_0[mask] - model.text_space.embedding.table[7]
    golden = (1 - SQRT_GOLDEN["alpha_bar"]) ** 0.5
    assert added.std().item() == pytest.approx(golden, rel=4 / (2 * added.numel()) ** 0.5)
    assert added.mean().item() == pytest.approx(0, abs=4 * golden / added.numel() ** 0.5)
    assert not x_0[~mask].any()


@of_latents
def test_up_to_the_first_step_the_target_is_the_embedding_and_then_x_0(make_model, batch, prediction):
    model = make_model(prediction, x_0_time=T_0)
    noisy = noised(model, batch, torch.tensor([0.0, T_0, 0.5]))
    clean = model.text_space.encode(batch["tokens"], batch["mask"])

    def loss_of_naming(x_0):
        levels = (noisy.alpha, noisy.sigma)
        output = model.prediction.target(x_0, (noisy.x_t - noisy.alpha * x_0) / noisy.sigma, *levels)
        return model.losses(batch, noisy, output)["diffusion"]

    assert_close(loss_of_naming(clean)[:2], torch.zeros(2))
    assert_close(loss_of_naming(noisy.x_0)[2:], torch.zeros(1))
    assert loss_of_naming(clean)[2] > 1e-4
    assert (loss_of_naming(noisy.x_0)[:2] > 1e-4).all()


# ---- the rounding's weight


def test_the_roundings_weight_goes_in_a_straight_line(make_model, alone):
    model = make_model(rounding_weight=1.0, rounding_weight_end=0.2).train()
    weights = []
    for step in (0, 50, 100, 200):
        alone(step)
        weights.append(model.current_rounding_weight)
    assert weights == pytest.approx([1.0, 0.8, 0.6, 0.2])


def test_validation_counts_the_rounding_in_full_at_any_step(make_model, batch, alone):
    model = make_model(rounding_weight=1.0, rounding_weight_end=0.2)
    alone(200)
    losses = answered(model, batch)
    assert_close(losses["loss"], losses["diffusion"] + losses["rounding"])


# ---- logits


@pytest.mark.parametrize("t", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("normalise", [False, True])
def test_without_context_a_token_is_as_likely_as_bayes_rule_has_it(make_model, batch, t, normalise):
    model = make_model(LogitsPrediction, denoiser=Silent(), normalise=normalise)
    noisy = noised(model, batch, torch.full((3,), t))
    means = noisy.alpha.unsqueeze(-1) * model.text_space.embedding.table
    likelihood = Normal(means, noisy.sigma.unsqueeze(-1)).log_prob(noisy.x_t.unsqueeze(2)).sum(-1)
    prior = (torch.arange(VOCABULARY) ** 2 + 1.0).log()
    posterior = (likelihood + prior).log_softmax(-1)
    assert_close(model.bayes(noisy.x_t, noisy.alpha, noisy.sigma).log_softmax(-1), posterior, atol=1e-3, rtol=1e-4)

    estimate = model.predict_x0(noisy.x_t, noisy.t, noisy.mask)
    assert_close(estimate, posterior.exp() @ model.text_space.embedding.table, atol=1e-3, rtol=1e-3)


def test_at_no_noise_at_all_bayes_rule_stays_finite(make_model, batch):
    model = make_model(LogitsPrediction)
    noisy = noised(model, batch, torch.zeros(3))
    assert model.bayes(noisy.x_t, noisy.alpha, noisy.sigma).isfinite().all()


def test_the_linear_path_can_be_left_out(make_model, batch):
    model = make_model(LogitsPrediction, denoiser=Silent(), linear_path=False)
    noisy = noised(model, batch)
    assert not model.output(noisy.x_t, noisy.t, noisy.mask).any()


@of_any_kind
def test_a_copy_of_the_model_stands_on_its_own_table(make_model, batch, prediction):
    """Averaged weights are such a copy."""
    model = make_model(prediction, rounding_of="predicted")
    copied = deepcopy(model)
    before = answered(copied, batch)["loss"]
    with torch.no_grad():
        model.text_space.embedding.rows.zero_()
    assert_close(answered(copied, batch)["loss"], before)
    with torch.no_grad():
        copied.text_space.embedding.rows.zero_()
    noisy = noised(copied, batch)
    assert prediction is not LogitsPrediction or not copied.predict_x0(noisy.x_t, noisy.t, noisy.mask).any()


# ---- statistics


def test_the_linear_reference_is_that_of_the_table_weighted_by_frequency(make_model, alone):
    model, logged = make_model(), alone(0)
    counts = torch.arange(VOCABULARY) ** 2 + 1

    def check():
        table = model.text_space.embedding.table.detach()
        linear = model.linear
        assert_close(linear.mean, (counts.unsqueeze(1) * table).sum(0) / counts.sum(), atol=1e-5, rtol=1e-5)
        covariance = linear.eigenvectors @ linear.eigenvalues.diag() @ linear.eigenvectors.T
        assert_close(covariance, torch.cov(table.T, correction=0, fweights=counts), atol=1e-5, rtol=1e-5)

    check()
    with torch.no_grad():
        model.text_space.embedding.rows.mul_(torch.arange(1, DIM + 1))
    model.on_validation_epoch_start()
    check()
    rms = (counts.float() @ model.text_space.embedding.table.square().mean(1) / counts.sum()).sqrt()
    assert logged["embedding/rms"].item() == pytest.approx(rms.item())


def test_what_the_data_counted_travels_in_the_checkpoint(make_model):
    model, other = make_model(), make_model()
    other.set_statistics(torch.zeros(VOCABULARY, dtype=torch.long), torch.zeros(LONGEST + 1, dtype=torch.long))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.token_counts, torch.arange(VOCABULARY) ** 2)
    assert torch.equal(other.length_counts, model.length_counts)
    assert torch.equal(other.linear.mean, model.linear.mean)


# ---- steps


@of_any_kind
def test_a_step_tells_the_time_sampling_its_losses(make_model, batch, alone, prediction):
    model = make_model(
        prediction,
        denoiser=Transformer(DIM, width=16, depth=1, heads=2, estimates=1),
        self_conditioning=0.5,
        time_sampling=AdaptiveTimes(num_bins=4),
    ).train()
    loss = model.training_step(batch, 0)
    loss.backward()
    assert alone(0)["train/loss"].item() == pytest.approx(loss.item())
    assert model.time_sampling.losses.nansum() > 0
    assert not model.time_sampling.losses.requires_grad


@of_any_kind
def test_evaluation_repeats_and_logs_what_is_known_without_context(make_model, batch, alone, prediction):
    model = make_model(prediction, x_0_time=T_0)
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        model.validation_step(batch, 0)
        found.append(dict(alone(0)))
    assert_close(*found, rtol=0, atol=0)
    parts = {"loss"} if prediction is LogitsPrediction else {"loss", "diffusion", "rounding", "prior"}
    assert set(found[0]) == {f"val/{prefix}{part}" for prefix in ("", "without_context/") for part in parts}


# ---- generation


@pytest.mark.parametrize("rounding", ["learned", "cosine", "nearest"])
@pytest.mark.parametrize("sampler", [DDIMSampler(3), DDPMSampler(3)])
def test_texts_are_generated_of_lengths_that_training_had(make_model, rounding, sampler, tokenizer):
    tokens = make_model(VPrediction, rounding).generate(sampler, 20, seed=0)
    assert tokens.shape == (20, 9)
    assert tokens.min() >= 0
    assert tokens.max() < VOCABULARY
    assert {int((text != tokenizer.pad_token_id).sum()) for text in tokens} >= {5, 9}
    assert len(tokens.unique(dim=0)) > 10


@pytest.mark.parametrize(("snap", "snapped"), [(0.0, 0), (0.5, 2), (1.0, 5)])
def test_snapping_makes_x_0_a_row_of_the_table_from_its_time_on(make_model, snap, snapped):
    model = make_model()
    sampler = DDIMSampler(5, clip=None, spacing="time", snap=snap)
    run = model.reverse(sampler, torch.randn(4, 6, DIM), torch.ones(4, 6, dtype=torch.bool), torch.Generator())
    with torch.no_grad():
        distances = [torch.cdist(step.x_0, model.text_space.embedding.table).amin(-1).max() for step in run]
    assert [bool(distance < 1e-3) for distance in distances] == [False] * (5 - snapped) + [True] * snapped


# ---- what makes no sense


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"rounding_of": "noisy"}, r"route\.rounding_of=noisy "),
        ({"x_0_time": 1.0}, r"route\.x_0_time=1\.0 "),
        ({"x_0_time": -0.1}, r"route\.x_0_time=-0\.1 "),
        ({"prediction": LogitsPrediction, "rounding": "nearest"}, r"prediction=logits .*text_space\.rounding=learned"),
        ({"linear_path": True}, r"route\.linear_path=true .*prediction=logits"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(make_model, arguments, says):
    with pytest.raises(ValueError, match=says):
        make_model(**arguments)
