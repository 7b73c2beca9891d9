"""How t is drawn: the range, the distribution, and the same times from the same seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffusion_text.diffusion.time_sampling import LogitNormalTimes, StratifiedTimes, UniformTimes

each_sampling = pytest.mark.parametrize(
    "sampling", [UniformTimes(), StratifiedTimes(), LogitNormalTimes()], ids=lambda s: type(s).__name__
)


@each_sampling
@pytest.mark.parametrize("num_texts", [1, 7, 10_000])
def test_one_time_a_text_between_data_and_noise(sampling, num_texts):
    t = sampling(num_texts)
    assert t.shape == (num_texts,)
    assert t.dtype == torch.float32
    assert t.min() >= 0
    assert t.max() <= 1
    assert len(t.unique()) > 0.99 * num_texts


@each_sampling
def test_a_seed_fixes_the_times(sampling):
    def draw(seed):
        torch.manual_seed(seed)
        return sampling(16)

    assert_close(draw(1), draw(1), rtol=0, atol=0)
    assert not draw(1).equal(draw(2))


@given(num_texts=st.integers(1, 600), seed=st.integers(0, 2**32 - 1))
def test_stratified_covers_every_stratum_once(num_texts, seed):
    torch.manual_seed(seed)
    t = StratifiedTimes()(num_texts).double().sort().values
    assert (t * num_texts).floor().tolist() == list(range(num_texts))
    assert_close(t.diff(), torch.full((num_texts - 1,), 1 / num_texts, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampling", [UniformTimes(), StratifiedTimes()])
def test_each_place_in_the_batch_sees_all_times_evenly(sampling):
    t = torch.stack([sampling(4) for _ in range(4000)]).double()
    # Mean 1/2, standard deviation √(1/12); bounds of four standard errors.
    assert_close(t.mean(0), torch.full((4,), 0.5, dtype=torch.float64), rtol=0, atol=4 * 12**-0.5 / 4000**0.5)
    assert_close(t.std(0), torch.full((4,), 12**-0.5, dtype=torch.float64), rtol=0, atol=0.01)


def test_stratified_means_vary_less_than_uniform_ones():
    spread = {
        name: torch.stack([sampling(32).mean() for _ in range(200)]).std()
        for name, sampling in {"stratified": StratifiedTimes(), "uniform": UniformTimes()}.items()
    }
    assert spread["stratified"] < 0.3 * spread["uniform"]


@pytest.mark.parametrize(("mean", "std"), [(1.5, 0.8), (0.0, 1.0), (-2.0, 0.3)])
def test_logit_of_logit_normal_is_normal(mean, std):
    count = 100_000
    logits = torch.logit(LogitNormalTimes(mean, std)(count).double())
    assert logits.mean().item() == pytest.approx(mean, abs=4 * std / count**0.5)
    assert logits.std().item() == pytest.approx(std, abs=4 * std / (2 * count) ** 0.5)
    assert ((logits - mean).abs() < std).double().mean().item() == pytest.approx(0.6827, abs=0.006)


def test_logit_normal_prefers_noise_by_default():
    assert LogitNormalTimes()(10_000).median().item() == pytest.approx(0.8176, abs=0.006)  # sigmoid(1.5)


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_a_spread_that_is_none_is_refused(std):
    with pytest.raises(ValueError, match="std"):
        LogitNormalTimes(std=std)
