"""The bound of a variational encoder's latents, in closed form."""

from types import SimpleNamespace

import pytest
import torch

from diffusion_text.diffusion.gaussian import per_text
from diffusion_text.models.likelihood import latent_bound_terms
from diffusion_text.text_spaces.bart_autoencoder import Posterior


class Space:
    """An encoder whose posterior is `mean` and `log_variance`, and a decoder that takes 2 nats a text."""

    def __init__(self, mean, log_variance):
        self.posterior = lambda tokens, mask: Posterior(mean, log_variance)
        self.latent_mask = lambda mask: mask
        self.nats = lambda x_0, tokens, mask: torch.full((len(x_0),), 2.0)


@pytest.mark.parametrize("t_0", [1e-4, 1e-2])
def test_with_the_true_prior_the_bound_is_the_kl_divergence_and_what_the_decoder_takes(schedule, t_0):
    """Latents that are standard normal on the whole: the best estimate of x_0 is alpha·x_t, and the bound that of a
    variational autoencoder (Kingma & Welling 2014, appendix B).
    """
    texts, length, dim = 4000, 3, 2
    log_variance = torch.tensor([-1.0, -4.0]).expand(texts, length, dim)
    mean = torch.randn(texts, length, dim) * (1 - log_variance.exp()).sqrt()
    mask = torch.tensor([[True, True, True], [True, True, False]]).repeat(texts // 2, 1)
    model = SimpleNamespace(
        text_space=Space(mean, log_variance), schedule=schedule, first_estimate=lambda x_t, t, mask: None,
        predict_x0=lambda x_t, t, mask, previous: per_text(schedule.alpha_sigma(t)[0]) * x_t,
    )  # fmt: skip
    tokens = torch.zeros(texts, length, dtype=torch.long)
    terms = latent_bound_terms(model, tokens, mask, 8, t_0, torch.Generator().manual_seed(1))
    assert set(terms) == {"prior", "diffusion", "encoder", "reconstruction"}
    kl = (mean**2 + log_variance.exp() - 1 - log_variance)[mask].sum() / 2 / texts
    total = torch.stack(list(terms.values())).sum(0)
    error = float(total.std()) / texts**0.5
    sigma = float(schedule.alpha_sigma(torch.tensor(t_0, dtype=torch.float64))[1])
    slack = mask.sum() / texts * dim * sigma**2  # what the normal distribution at t_0 costs where the prior is known
    assert float(total.mean()) - 2 - float(kl) == pytest.approx(0, abs=4 * error + float(slack))
