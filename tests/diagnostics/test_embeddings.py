"""Health of tables made by hand, and the closed forms behind it."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.testing import assert_close

from diffusion_text.diagnostics.embeddings import AT_ONCE, DRAWS, NEIGHBOURS, embedding_health
from diffusion_text.diagnostics.references import SIGMA_FLOOR, LinearPredictor, moments, token_posterior
from diffusion_text.diffusion.gaussian import corrupt, per_text
from diffusion_text.diffusion.losses import MSELoss
from diffusion_text.diffusion.schedules import LinearSchedule, LogSNRLinearSchedule

EVEN = LogSNRLinearSchedule()  # sigma/alpha = 1 at t = 0.5
NAMES = {"rms", "norm_min", "norm_median", "norm_max", "norm_frequency", "margin", "effective_rank"}


def uniform(count):
    return torch.full((count,), 1 / count)


def health(table, shares=None, schedule=EVEN):
    found = embedding_health(table, uniform(len(table)) if shares is None else shares, schedule)
    assert set(found) == NAMES | {f"decodable/{i}" for i in range(10)}
    return {name: value.item() for name, value in found.items()}


def decodable(found):
    return [found[f"decodable/{i}"] for i in range(10)]


def test_orthogonal_rows():
    """Eight axes of length 6; their covariance has seven equal eigenvalues."""
    found = health(6 * torch.eye(8))
    for name in ("rms", "norm_min", "norm_median", "norm_max"):
        assert found[name] == pytest.approx(6 / 8**0.5)
    assert found["margin"] == pytest.approx(6 * 2**0.5 / 2)
    assert found["effective_rank"] == pytest.approx(7)
    assert found["norm_frequency"] == 0


def test_norms_are_weighed_by_frequency_and_compared_with_it():
    shares = torch.tensor([0.1, 0.2, 0.7])
    lengths = 5 - shares.log()
    found = health(lengths.diag(), shares)
    assert found["rms"] == pytest.approx((shares @ lengths**2 / 3).sqrt().item())
    norms = [found[name] for name in ("norm_min", "norm_median", "norm_max")]
    assert norms == pytest.approx((lengths.sort().values / 3**0.5).tolist())
    assert found["norm_frequency"] == pytest.approx(-1)
    normalised = torch.nn.functional.rms_norm(torch.randn(3, 50), (50,))
    assert health(normalised, shares)["norm_frequency"] == 0


def test_the_margin_is_that_of_each_row_to_its_nearest_in_units_of_the_noise():
    table = torch.tensor([[0.0, 0.0], [0.0, 2.0], [6.0, 0.0]])  # nearest others at 2, 2 and 6
    shares = torch.tensor([0.5, 0.3, 0.2])
    assert health(table, shares)["margin"] == pytest.approx(1.4)
    log_snr = LogSNRLinearSchedule(4.0, 0.0)
    assert health(table, shares, log_snr)["margin"] == pytest.approx(1.4 * math.e)


def test_the_margin_of_many_rows_is_that_of_the_most_frequent():
    side = int(NEIGHBOURS**0.5)
    frequent = 2.0 * torch.cartesian_prod(torch.arange(side), torch.arange(side))
    table = torch.cat([frequent[:100] + 1, frequent])
    shares = torch.cat([torch.full((100,), 1.0), torch.full((NEIGHBOURS,), 2.0)])
    assert health(table, shares / shares.sum())["margin"] == pytest.approx(1, rel=1e-5)


def test_equal_rows():
    shares = torch.tensor([0.1, 0.6, 0.1, 0.2])
    found = health(torch.randn(8).expand(4, 8), shares)
    assert found["margin"] == 0
    assert found["effective_rank"] == pytest.approx(1)
    error = 4 * (0.6 * 0.4 / DRAWS) ** 0.5
    assert decodable(found) == pytest.approx([0.6] * 10, abs=error), "nothing but the most frequent token can be named"


def test_effective_rank_counts_dimensions_by_their_variance():
    table = torch.cat([torch.eye(2), -torch.eye(2)]) * torch.tensor([3.0, 1.0])  # variances 9 : 1
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))  # Roy & Vetterli 2007, eq. 3
    assert health(table)["effective_rank"] == pytest.approx(math.exp(entropy))


def test_tokens_can_be_read_until_the_noise_drowns_them():
    shares = torch.tensor([0.4, 0.2, 0.2, 0.1, 0.1])
    shares_read = decodable(health(20 * torch.eye(5), shares, LogSNRLinearSchedule(10.0, -40.0)))
    assert shares_read[0] == 1
    assert shares_read[-1] == pytest.approx(0.4, abs=4 * (0.4 * 0.6 / DRAWS) ** 0.5)
    assert shares_read[0] > shares_read[3] > shares_read[-1]


def test_two_tokens_are_read_as_often_as_the_normal_distribution_has_it():
    """P(right) = Φ(half their distance · alpha / sigma)."""
    found = decodable(health(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])))
    ratios = (EVEN.log_snr((torch.arange(10) + 0.5) / 10) / 2).exp()
    right = Normal(0.0, 1.0).cdf(ratios)
    assert_close(torch.tensor(found), right, rtol=0, atol=4 * (0.25 / DRAWS) ** 0.5)


def test_health_repeats_and_leaves_the_global_generator_alone():
    table, state = torch.randn(3 * AT_ONCE, 4), torch.get_rng_state()
    assert health(table) == health(table)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("angle", [0.05, 0.7, 1.5])
def test_token_posterior_is_bayes_rule(angle):
    table, shares = torch.randn(7, 4, dtype=torch.float64), torch.rand(7, dtype=torch.float64)
    shares = shares / shares.sum()
    alpha, sigma = math.cos(angle), math.sin(angle)
    tokens = Independent(Normal(alpha * table, sigma), 1)
    x_t = MixtureSameFamily(Categorical(shares), tokens).sample((2, 5))
    joint = tokens.log_prob(x_t.unsqueeze(2)) + shares.log()
    levels = (per_text(torch.tensor(level, dtype=torch.float64)) for level in (alpha, sigma))
    assert_close(token_posterior(x_t, table, shares, *levels).softmax(-1), joint.softmax(-1))


def test_token_posterior_without_noise_is_that_of_a_little():
    table, shares = torch.randn(7, 4), uniform(7)
    x_t, one = table[None], torch.ones(1, 1, 1)
    at_zero = token_posterior(x_t, table, shares, one, 0 * one)
    assert_close(at_zero, token_posterior(x_t, table, shares, one, SIGMA_FLOOR * one))
    assert torch.equal(at_zero.argmax(-1), torch.arange(7)[None])


@pytest.mark.parametrize(("std", "golden"), [(0.02, 0.0064), (0.1, 0.041), (1.0, 0.276)])
def test_a_linear_denoiser_without_context_scores_the_losses_that_looked_excellent(std, golden):
    """ε-MSE on the linear schedule of 1,000 steps: shared/ORIGIN.md, Line B, "What we know about that collapse"."""
    table = std * torch.randn(8192, 256)
    linear = LinearPredictor(256)
    linear.set_moments(*moments(table, uniform(len(table))))
    t = torch.arange(1, 1001) / 1000
    alpha, sigma = map(per_text, LinearSchedule().alpha_sigma(t))
    x_0 = table[torch.randint(len(table), (1000, 8))]
    noise = torch.randn_like(x_0)
    estimate = linear(corrupt(x_0, noise, alpha, sigma), alpha, sigma).noise
    loss = MSELoss()(estimate, noise, torch.ones(1000, 8, dtype=torch.bool)).mean().item()
    assert loss == pytest.approx(golden, rel=0.02)
