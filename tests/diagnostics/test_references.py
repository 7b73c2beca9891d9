"""Reference predictors against brute force: least squares on samples, and projections drawn at random."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffusion_text.diagnostics.references import LinearPredictor, do_nothing, rank_bound
from diffusion_text.diffusion.gaussian import corrupt, per_text

DIM = 5
ANGLES = [0.1, 0.7, 1.2, 1.5]  # arctan(sigma / alpha)


def levels_at(*angles, dtype=torch.float32):
    angles = torch.tensor(angles, dtype=torch.float64)
    return per_text(angles.cos()).to(dtype), per_text(angles.sin()).to(dtype)


def correlated(dim=DIM, seed=0):
    """A covariance whose eigenvalues spread over two orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    return axes @ torch.diag(torch.logspace(-1.5, 0.5, dim, dtype=torch.float64)) @ axes.T


def predictor_for(covariance):
    predictor = LinearPredictor(len(covariance))
    predictor.set_moments(torch.zeros(len(covariance)), covariance)
    return predictor


def as_matrices(predictor, alpha, sigma):
    """What multiplies x_t from the right in the predicted noise and in the predicted x_0."""
    estimate = predictor(torch.eye(predictor.eigenvalues.shape[0])[None], alpha, sigma)
    return estimate.noise[0].numpy(), estimate.x_0[0].numpy()


@pytest.mark.parametrize("angle", ANGLES)
def test_linear_is_least_squares_on_samples(angle):
    """On samples made to have exactly these covariances, so that nothing is left to chance."""
    count, covariance = 5000, correlated().numpy()
    white = np.linalg.qr(np.random.default_rng(0).normal(size=(count, 2 * DIM)))[0] * np.sqrt(count)
    x_0, noise = white[:, :DIM] @ np.linalg.cholesky(covariance).T, white[:, DIM:]
    x_t = math.cos(angle) * x_0 + math.sin(angle) * noise

    of_noise, of_x_0 = as_matrices(predictor_for(torch.from_numpy(covariance)), *levels_at(angle))
    np.testing.assert_allclose(of_noise, np.linalg.lstsq(x_t, noise)[0], atol=1e-5)
    np.testing.assert_allclose(of_x_0, np.linalg.lstsq(x_t, x_0)[0], atol=1e-5)


def test_nothing_linear_beats_linear_on_fresh_samples():
    covariance, (alpha, sigma) = correlated(), levels_at(0.8)
    x_0 = torch.randn(2000, 4, DIM) @ torch.linalg.cholesky(covariance).T.float()
    noise = torch.randn_like(x_0)
    x_t = corrupt(x_0, noise, alpha, sigma)
    best = predictor_for(covariance)(x_t, alpha, sigma)
    others = [do_nothing(x_t, alpha, sigma), LinearPredictor(DIM)(x_t, alpha, sigma)]
    for other in others:
        assert (best.noise - noise).square().mean() < 0.99 * (other.noise - noise).square().mean()
        assert (best.x_0 - x_0).square().mean() < 0.99 * (other.x_0 - x_0).square().mean()


def test_linear_is_the_wiener_filter_for_each_text_at_its_own_level():
    covariance = correlated()
    alpha, sigma = levels_at(*ANGLES, dtype=torch.float64)
    x_t = torch.randn(len(ANGLES), 7, DIM, dtype=torch.float64)
    of_x_t = alpha**2 * covariance + sigma**2 * torch.eye(DIM, dtype=torch.float64)
    whitened = torch.linalg.solve(of_x_t, x_t.mT)

    estimate = predictor_for(covariance)(x_t.float(), alpha.float(), sigma.float())
    assert_close(estimate.noise, (sigma * whitened).mT.float(), rtol=1e-4, atol=1e-5)
    assert_close(estimate.x_0, (alpha * covariance @ whitened).mT.float(), rtol=1e-4, atol=1e-5)


@given(angle=st.floats(0.01, 1.56), seed=st.integers(0, 2**32 - 1))
def test_noise_and_x_0_make_up_x_t(angle, seed):
    x_t = torch.randn(2, 3, DIM, generator=torch.Generator().manual_seed(seed))
    alpha, sigma = levels_at(angle)
    for estimate in (do_nothing(x_t, alpha, sigma), predictor_for(correlated())(x_t, alpha, sigma)):
        assert_close(corrupt(estimate.x_0, estimate.noise, alpha, sigma), x_t, rtol=0, atol=1e-5)


def test_do_nothing_takes_x_t_for_noise():
    x_t = torch.randn(2, 3, DIM)
    assert do_nothing(x_t, *levels_at(0.5)).noise is x_t


def test_do_nothing_by_hand():
    alpha, sigma = per_text(torch.tensor([0.6])), per_text(torch.tensor([0.8]))
    estimate = do_nothing(torch.tensor([[[3.0, -6.0]]]), alpha, sigma)
    assert_close(estimate.x_0, torch.tensor([[[1.0, -2.0]]]))


def test_white_latents_are_assumed_until_told_otherwise():
    alpha, sigma = levels_at(0.7)
    x_t = torch.randn(2, 3, DIM)
    estimate = LinearPredictor(DIM)(x_t, alpha, sigma)
    assert_close(estimate.noise, sigma * x_t)  # alpha² + sigma² = 1
    assert_close(estimate.x_0, alpha * x_t)


def test_a_checkpoint_brings_the_covariance():
    told, restored = predictor_for(correlated()), LinearPredictor(DIM)
    restored.load_state_dict(told.state_dict())
    x_t, levels = torch.randn(2, 3, DIM), levels_at(0.7)
    assert_close(restored(x_t, *levels).x_0, told(x_t, *levels).x_0, rtol=0, atol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-4, math.pi / 2])
def test_latents_without_full_rank_give_finite_answers(angle):
    """Rounding may even leave such a covariance with eigenvalues below 0."""
    axis = torch.ones(DIM, 1, dtype=torch.float64)
    covariance = axis @ axis.T - 1e-9 * torch.eye(DIM, dtype=torch.float64)
    x_t = torch.randn(2, 3, 1).expand(2, 3, DIM)
    estimate = predictor_for(covariance)(x_t, *levels_at(angle))
    assert estimate.noise.isfinite().all()
    assert estimate.x_0.isfinite().all()
    if angle < 0.01:
        assert_close(estimate.x_0, x_t, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rank", "dim"), [(128, 384), (32, 384), (380, 384)])
def test_rank_bound_is_what_a_projection_of_noise_achieves(rank, dim):
    noise = torch.randn(2000, dim)
    axes = torch.linalg.qr(torch.randn(dim, rank)).Q
    projected = noise @ axes @ axes.T
    cosine = torch.cosine_similarity(projected, noise, dim=1).mean().item()
    ratio = (projected.norm(dim=1) / noise.norm(dim=1)).mean().item()
    assert cosine == pytest.approx(rank_bound(rank, dim), abs=0.004)
    assert ratio == pytest.approx(rank_bound(rank, dim), abs=0.004)


def test_rank_bound_is_not_beaten_by_other_maps_of_that_rank():
    noise = torch.randn(2000, 96)
    for _ in range(20):
        answers = noise @ torch.randn(96, 32) @ torch.randn(32, 96)
        assert torch.cosine_similarity(answers, noise, dim=1).abs().mean() < rank_bound(32, 96)


def test_rank_bound_by_hand():
    assert rank_bound(256, 768) == pytest.approx(0.577, abs=5e-4)
    assert rank_bound(1, 4) == 0.5
    assert rank_bound(768, 768) == 1
    assert rank_bound(1024, 768) == 1
