import json
import math

import pytest
import torch

from diffusion_text.composition import compose_training
from diffusion_text.denoisers.base import Denoiser
from diffusion_text.diffusion.bound import mean_per
from diffusion_text.diffusion.losses import CrossEntropyLoss, MSELoss, UniformWeighting
from diffusion_text.diffusion.predictions import LogitsPrediction, X0Prediction
from diffusion_text.diffusion.schedules import SqrtSchedule
from diffusion_text.diffusion.time_sampling import UniformTimes
from diffusion_text.errors import UserError
from diffusion_text.models.diffusion_lm import DiffusionLM
from diffusion_text.models.likelihood import bound_terms
from diffusion_text.models.step_draws import StepDraws
from diffusion_text.tasks.nll import NLL, check_bound
from diffusion_text.text_spaces.embedding import EmbeddingSpace, LearnedEmbedding

VOCABULARY, DIM = 40, 8


# ---- the task, on a checkpoint


@pytest.fixture
def embedded(composed, settings, saved, sampled):
    """A function from overrides of train.py to the session of an untrained Diffusion-LM over characters."""
    from diffusion_text.composition import compose_training

    small = ["model=diffusion_lm", "tokenizer=characters", "text_space.dim=16", "model.depth=1", "model.heads=2"]
    local = settings[2:]
    cache = next(setting for setting in local if setting.startswith("cache_dir"))

    def start(*overrides, num_samples=3):
        checkpoint = saved(compose_training(composed(*small, *overrides, *local)))
        return sampled(checkpoint, cache, "task=nll", f"num_samples={num_samples}")

    return start


def figures(session, name="nll"):
    return json.loads((session.run.samples / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v", "logits"])
def test_the_bound_is_the_sum_of_its_terms(embedded, capsys, prediction):
    task, session = embedded(f"prediction={prediction}", "route.self_conditioning=0.5")
    task(session)
    written = figures(session)
    nats = {name: mean["value"] for name, mean in written["nats_per_token"].items()}
    total = nats.pop("total")
    assert set(nats) == {"prior", "diffusion", "reconstruction"}
    assert total == pytest.approx(sum(nats.values()))
    assert 0 < total < math.inf
    assert all(0 <= mean["standard_error"] < math.inf for mean in written["nats_per_token"].values())
    bits = total / math.log(2) * written["tokens"] / written["characters"]
    assert written["bits_per_character"]["value"] == pytest.approx(bits)
    assert f"{total:.4f}" in capsys.readouterr().out


def test_it_is_the_test_splits_texts_that_are_bounded(embedded):
    task, session = embedded(num_samples=5)
    tokenizer = session.model.text_space.tokenizer
    task(session)
    texts = session.corpus.tokens(tokenizer)["test"][:5]["tokens"]
    written = figures(session)
    assert (written["texts"], written["tokens"]) == (5, sum(map(len, texts)))
    assert written["characters"] == sum(len(tokenizer.decode(text, skip_special_tokens=True)) for text in texts)


def test_the_seed_decides(embedded):
    task, session = embedded()
    for seed in (0, 0, 1):
        session.seed = seed
        task(session)
    first, again, other = (figures(session, name)["nats_per_token"] for name in ("nll", "nll-2", "nll-3"))
    assert first == again
    assert first["diffusion"] != other["diffusion"]
    assert first["prior"] == other["prior"]


def test_the_latent_route_is_refused(session):
    with pytest.raises(UserError, match="model=diffusion_lm, a baseline, or text_space=bart_vae") as refusal:
        NLL()(session())
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("change", [{"num_samples": 1}, {"num_samples": 0}, {"text": "river stone"}])
def test_what_has_no_standard_error_is_refused(embedded, change):
    task, session = embedded()
    vars(session).update(change)
    with pytest.raises(UserError, match="num_samples=2"):
        task(session)


@pytest.mark.parametrize("settings", [{"draws": 0}, {"t_0": 0.0}, {"t_0": 1.0}])
def test_nonsense_is_refused(settings):
    with pytest.raises(ValueError, match=r"task\."):
        NLL(**settings)


# ---- the figures, where tokens are i.i.d.: then Bayes' rule, each position by itself, is exact


class Network(Denoiser):
    """Answers with a function of x_t and t, and keeps which earlier estimates it was shown."""

    output_width = DIM

    def __init__(self, answer=lambda x_t, t: torch.zeros_like(x_t)):
        super().__init__()
        self.answer, self.shown = answer, []

    def forward(self, x_t, t, mask, x_0_previous=None):
        self.shown.append(x_0_previous)
        return self.answer(x_t, t)


@pytest.fixture
def make_model(tokenizer):
    """A function that builds a Diffusion-LM over forty embeddings of width 8, of unequal frequency."""

    def make(prediction, network, **changes):
        torch.manual_seed(0)
        reads_tokens = prediction is LogitsPrediction
        model = DiffusionLM(
            denoiser=network,
            text_space=EmbeddingSpace(tokenizer, LearnedEmbedding(VOCABULARY, DIM)),
            schedule=SqrtSchedule(),
            prediction=prediction(),
            loss=CrossEntropyLoss() if reads_tokens else MSELoss(),
            weighting=UniformWeighting(),
            time_sampling=UniformTimes(),
            **changes,
        )
        model.token_counts.copy_(torch.arange(VOCABULARY) ** 2)
        return model.eval()

    return make


def bound(model, texts=64, draws=8, t_0=1e-3):
    """The terms, in nats a token, of texts of 8 to 32 tokens drawn one by one."""
    mask = torch.arange(32) < torch.randint(8, 33, (texts, 1))
    tokens = torch.multinomial(model.token_shares, mask.numel(), True).view(mask.shape)
    terms = bound_terms(model, tokens, mask, draws, t_0, torch.Generator().manual_seed(0))
    return {name: mean_per(nats, mask.sum(1)) for name, nats in (terms | {"total": sum(terms.values())}).items()}


def entropy(model):
    return float(-(model.token_shares * model.token_shares.log()).sum())


def test_with_the_exact_posterior_it_is_the_entropy(make_model):
    model = make_model(LogitsPrediction, Network())
    total = bound(model)["total"]
    assert abs(total.value - entropy(model)) < 4 * total.standard_error
    assert total.standard_error < 0.05 * entropy(model)


def test_it_does_not_depend_on_what_the_network_puts_out(make_model):
    """The posterior's mean, as x0-prediction has it."""
    reads_tokens = make_model(LogitsPrediction, Network())

    def posterior_mean(x_t, t):
        table = reads_tokens.text_space.embedding.table
        return reads_tokens.bayes(x_t, *reads_tokens.levels(t)).softmax(-1) @ table

    estimates_x0 = make_model(X0Prediction, Network(posterior_mean))
    torch.manual_seed(1)
    expected = bound(reads_tokens)
    torch.manual_seed(1)
    assert bound(estimates_x0) == {name: pytest.approx(mean, rel=1e-4) for name, mean in expected.items()}


def test_a_network_that_knows_less_has_a_larger_bound(make_model):
    model = make_model(X0Prediction, Network())
    total = bound(model)["total"]
    assert total.value > entropy(model) + 4 * total.standard_error


def test_the_bound_hardly_depends_on_t_0_where_the_posterior_is_exact(make_model):
    """What is lost to the reconstruction is gained in the diffusion term."""
    model = make_model(LogitsPrediction, Network())
    early, late = bound(model, t_0=1e-3), bound(model, t_0=0.2)
    assert late["reconstruction"].value > early["reconstruction"].value + 0.3
    assert abs(late["total"].value - entropy(model)) < 4 * late["total"].standard_error


def test_self_conditioning_reads_the_estimate_without_it(make_model):
    network = Network()
    bound(make_model(LogitsPrediction, network, self_conditioning=0.5), draws=3)
    assert [bool(estimate.any()) for estimate in network.shown] == [False, True] * 4
    bound(make_model(LogitsPrediction, once := Network()), draws=3)
    assert once.shown == [None] * 4


# ---- against a source of known entropy


def test_a_bound_below_the_sources_entropy_is_found_out():
    tokens = torch.full((400,), 10)
    exact = (20 + torch.randn(400, dtype=torch.float64)).tolist()
    true = torch.tensor(exact, dtype=torch.float64)
    assert check_bound(true + 0.5 + torch.randn(400), exact, tokens).value == pytest.approx(2, abs=0.1)
    with pytest.raises(UserError, match=r"the bound lies 0\.0\d\d ± 0\.0\d\d nats a token below the entropy of the"):
        check_bound(true - 0.5 + torch.randn(400), exact, tokens)


# ---- against information


@pytest.mark.parametrize("std", [0.0, 0.3])
def test_the_bound_is_unigram_entropy_less_information(composed, small_lm, saved, sampled, tmp_path, std):
    """Whatever the network says: nothing beyond the posterior, or something wrong, which loses information."""
    checkpoint = saved(compose_training(composed(*small_lm, "prediction=logits", f"run_dir={tmp_path}")))
    cache = next(setting for setting in small_lm if setting.startswith("cache_dir"))
    _, session = sampled(checkpoint, cache, "task=nll", "num_samples=24", "seed=1")
    model = session.model
    assert isinstance(model, DiffusionLM)
    with torch.no_grad():
        model.denoiser.leave.weight.normal_(std=std)
    tokens, mask = session.texts("test")
    figures = []
    for seed in range(8):  # one draw in each bin is little
        generator = torch.Generator().manual_seed(seed)
        model.inform("test", {"tokens": tokens, "mask": mask}, StepDraws(seed, 0, model.max_length, len(tokens)))
        terms = bound_terms(model, tokens, mask, 8, 1e-3, generator)
        figures.append(sum(terms.values()))
    information = model.evaluation.information("test").compute()
    bound = mean_per(torch.stack(figures).mean(0), mask.sum(1))
    unigram = mean_per((-model.token_shares.log()[tokens] * mask).sum(1), mask.sum(1))
    error = (information["information_error"] ** 2 + bound.standard_error**2 + unigram.standard_error**2) ** 0.5
    assert abs(unigram.value - bound.value - information["information"]) < 4 * error
    assert (information["information"] < -0.05) == (std > 0)


# ---- latents


@pytest.fixture
def latent(composed, settings, saved, sampled):
    """A function from overrides of train.py to the session of an untrained model of latents."""
    cache = next(setting for setting in settings if setting.startswith("cache_dir"))
    return lambda *overrides: sampled(
        saved(compose_training(composed(*overrides, *settings[2:]))), cache, "task=nll", "num_samples=3", "task.draws=2"
    )


def test_latents_of_a_variational_encoder_have_a_bound(latent, bart_directory):
    backbone = ["text_space@text_space.backbone=bart_base", f"text_space.backbone.pretrained={bart_directory}"]
    small = ["text_space.dim=6", "text_space.compression=2", "text_space.max_steps=2"]
    task, session = latent("text_space=bart_vae", *backbone, *small)
    task(session)
    written = figures(session)
    assert set(written["nats_per_token"]) == {"prior", "diffusion", "encoder", "reconstruction", "total"}
    assert (written["kind"], written["texts"]) == ("bound", 3)
