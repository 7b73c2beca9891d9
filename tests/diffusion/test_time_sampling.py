"""How t is drawn: the range, the distribution, and the same times from the same seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffusion_text.diffusion.time_sampling import AdaptiveTimes, LogitNormalTimes, StratifiedTimes, UniformTimes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def adapted(loss, num_bins=32, uniform=0.1):
    """Times for a loss that is a known function of t."""
    sampling = AdaptiveTimes(num_bins, uniform=uniform)
    centres = (torch.arange(num_bins) + 0.5) / num_bins
    sampling.observe(centres, loss(centres))
    return sampling


each_sampling = pytest.mark.parametrize(
    "sampling",
    [UniformTimes(), StratifiedTimes(), LogitNormalTimes(), AdaptiveTimes(), adapted(torch.square)],
    ids=["uniform", "stratified", "logit_normal", "adaptive", "adapted"],
)


@each_sampling
@pytest.mark.parametrize("num_texts", [1, 7, 10_000])
def test_one_time_a_text_between_data_and_noise(sampling, num_texts):
    t = sampling(num_texts, seeded())
    assert t.shape == (num_texts,)
    assert t.dtype == torch.float32
    assert t.min() >= 0
    assert t.max() <= 1
    assert len(t.unique()) > 0.99 * num_texts


@each_sampling
def test_a_seed_fixes_the_times(sampling):
    def draw(seed):
        return sampling(16, seeded(seed))

    assert_close(draw(1), draw(1), rtol=0, atol=0)
    assert not draw(1).equal(draw(2))


@each_sampling
def test_a_quantile_is_the_time_below_which_that_share_is_drawn(sampling):
    t, shares = sampling(20_000, seeded()), torch.tensor([0.0, 0.01, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)
    below = (t <= sampling.quantile(shares).unsqueeze(1)).double().mean(1)
    assert_close(below, shares, rtol=0, atol=2 / 20_000**0.5)  # four standard errors


@given(num_texts=st.integers(1, 600), seed=st.integers(0, 2**32 - 1))
def test_stratified_covers_every_stratum_once(num_texts, seed):
    t = StratifiedTimes()(num_texts, seeded(seed)).double().sort().values
    assert (t * num_texts).floor().tolist() == list(range(num_texts))
    assert_close(t.diff(), torch.full((num_texts - 1,), 1 / num_texts, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampling", [UniformTimes(), StratifiedTimes()])
def test_each_place_in_the_batch_sees_all_times_evenly(sampling):
    t = torch.stack([sampling(4, seeded(seed)) for seed in range(4000)]).double()
    # Mean 1/2, standard deviation √(1/12); bounds of four standard errors.
    assert_close(t.mean(0), torch.full((4,), 0.5, dtype=torch.float64), rtol=0, atol=4 * 12**-0.5 / 4000**0.5)
    assert_close(t.std(0), torch.full((4,), 12**-0.5, dtype=torch.float64), rtol=0, atol=0.01)


def test_stratified_means_vary_less_than_uniform_ones():
    spread = {
        name: torch.stack([sampling(32, seeded(seed)).mean() for seed in range(200)]).std()
        for name, sampling in {"stratified": StratifiedTimes(), "uniform": UniformTimes()}.items()
    }
    assert spread["stratified"] < 0.3 * spread["uniform"]


@pytest.mark.parametrize(("mean", "std"), [(1.5, 0.8), (0.0, 1.0), (-2.0, 0.3)])
def test_logit_of_logit_normal_is_normal(mean, std):
    count = 100_000
    logits = torch.logit(LogitNormalTimes(mean, std)(count, seeded()).double())
    assert logits.mean().item() == pytest.approx(mean, abs=4 * std / count**0.5)
    assert logits.std().item() == pytest.approx(std, abs=4 * std / (2 * count) ** 0.5)
    assert ((logits - mean).abs() < std).double().mean().item() == pytest.approx(0.6827, abs=0.006)


def test_logit_normal_prefers_noise_by_default():
    assert LogitNormalTimes()(10_000, seeded()).median().item() == pytest.approx(0.8176, abs=0.006)  # sigmoid(1.5)


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_a_spread_that_is_none_is_refused(std):
    with pytest.raises(ValueError, match="std"):
        LogitNormalTimes(std=std)


# ---- adapted to the loss


@pytest.mark.parametrize(
    ("loss", "slope"),
    [
        (lambda t: 5 - 3 * t, lambda t: torch.ones_like(t)),
        (lambda t: 0.1 * t**2, lambda t: 2 * t),
        (lambda t: torch.sigmoid(12 * t - 6), lambda t: 12 * torch.sigmoid(12 * t - 6) * torch.sigmoid(6 - 12 * t)),
    ],
    ids=["line", "square", "sigmoid"],
)
def test_times_are_drawn_where_the_loss_changes(loss, slope):
    centres = (torch.arange(64) + 0.5) / 64
    density = 64 * adapted(loss, 64, uniform=0.25).density()
    assert_close(density, 0.75 * slope(centres) + 0.25, rtol=0, atol=0.03)  # the slopes integrate to 1


def test_the_draws_have_the_density():
    sampling = adapted(torch.square)
    counts = torch.histc(sampling(10_000, seeded()), len(sampling.losses), 0, 1)
    assert_close(counts, 10_000 * sampling.density(), rtol=0, atol=1.01)  # stratified: each bin's to within one


@given(losses=st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=40), uniform=st.floats(0.01, 1))
def test_whatever_the_losses_no_time_is_forgotten_or_left_behind(losses, uniform):
    sampling = adapted(lambda t: torch.tensor(losses), len(losses), uniform)
    density = sampling.density()
    assert density.min() >= 0.999 * uniform / len(losses)
    assert density.sum().item() == pytest.approx(1, abs=1e-5)
    t = sampling.quantile(torch.linspace(0, 1, 200))
    assert t[0] == 0
    assert t[-1] == pytest.approx(1, abs=1e-4)
    assert (t.diff() >= 0).all()


@pytest.mark.parametrize("seen", [[], [0.1, 0.2], [0.1, 0.4, 0.6]])
def test_until_every_time_was_seen_all_are_alike(seen):
    sampling = AdaptiveTimes(num_bins=4)
    sampling.observe(torch.tensor(seen), torch.arange(float(len(seen))))
    assert_close(sampling.density(), torch.full((4,), 0.25))


def test_losses_of_a_time_are_averaged():
    sampling = AdaptiveTimes(num_bins=2, decay=0.75)
    sampling.observe(torch.tensor([0.0, 0.2, 1.0]), torch.tensor([2.0, 4.0, 9.0]))
    assert_close(sampling.losses, torch.tensor([3.0, 9.0]))  # the first time as they are
    sampling.observe(torch.tensor([0.1]), torch.tensor([7.0]))
    assert_close(sampling.losses, torch.tensor([4.0, 9.0]))


def test_what_was_learned_is_kept():
    sampling, other = adapted(torch.square), AdaptiveTimes()
    other.load_state_dict(sampling.state_dict())
    assert_close(other.density(), sampling.density())


@pytest.mark.parametrize("arguments", [{"num_bins": 1}, {"decay": 1.0}, {"decay": -0.1}, {"uniform": 0.0}], ids=str)
def test_adaptive_settings_that_cannot_be_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        AdaptiveTimes(**arguments)
