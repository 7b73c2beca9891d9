"""The terms of the bound on a text's likelihood: equation (1) of diffusion/bound.py for tokens that are embedded, and
for those that a variational encoder q turns into latents (Kingma & Welling 2014, eq. 3, with diffusion as the prior)

(1) −log p(w) ≤ E_q [−log p(x_0) + log q(x_0 | w) − log p(w | x_0)]
(2) −log p(x_0) ≤ prior + diffusion + E[−log N(x_0; x_t/alpha, (sigma/alpha)²)] at t = t_0        Kingma et al. 2021
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from diffusion_text.diffusion.bound import diffusion_loss, prior_kl, real_sum
from diffusion_text.diffusion.gaussian import corrupt
from diffusion_text.diffusion.samplers import draw_like
from diffusion_text.shapes import Latents, Mask, PerText, Times, Tokens

if TYPE_CHECKING:
    from diffusion_text.models.diffusion_lm import DiffusionLM
    from diffusion_text.models.latent_diffusion import LatentDiffusion
    from diffusion_text.models.text_diffusion import TextDiffusion


@torch.no_grad()
def bound_terms(
    model: DiffusionLM, tokens: Tokens, mask: Mask, draws: int, t_0: float, generator: torch.Generator
) -> dict[str, PerText]:
    """The bound's three terms in nats a text, from `draws` noise levels; tokens are read at time `t_0`."""
    x_0 = model.text_space.encode(tokens, mask)
    terms = diffused(model, x_0, mask, draws, t_0, generator)
    return terms | {"reconstruction": reconstruction(model, x_0, tokens, mask, t_0, generator)}


@torch.no_grad()
def latent_bound_terms(
    model: LatentDiffusion, tokens: Tokens, mask: Mask, draws: int, t_0: float, generator: torch.Generator
) -> dict[str, PerText]:
    """Equation (1)'s terms in nats a text, with (2) down to time `t_0`; x_0 is drawn once. `encoder` is log q less the
    logarithm of the normal distribution in (2), whose squares are alike in expectation.
    """
    space, real = model.text_space, model.text_space.latent_mask(mask)
    posterior = space.posterior(tokens, mask)
    assert posterior.log_variance is not None
    x_0 = posterior.mean + (posterior.log_variance / 2).exp() * draw_like(posterior.mean, generator)
    log_snr = float(model.schedule.log_snr(torch.tensor(t_0, dtype=torch.float64)))
    return diffused(model, x_0, real, draws, t_0, generator) | {
        "encoder": real_sum(-log_snr - posterior.log_variance, real) / 2,
        "reconstruction": space.nats(x_0, tokens, mask),
    }


def diffused(
    model: TextDiffusion, x_0: Latents, mask: Mask, draws: int, t_0: float, generator: torch.Generator
) -> dict[str, PerText]:
    """What noise tells of x_0, down to time `t_0`."""

    def predict_x0(x_t: Latents, t: Times) -> Latents:
        return model.predict_x0(x_t, t, mask, model.first_estimate(x_t, t, mask))

    return {
        "prior": prior_kl(x_0, mask, model.schedule),
        "diffusion": diffusion_loss(x_0, mask, predict_x0, model.schedule, t_0, draws, generator),
    }


def reconstruction(
    model: DiffusionLM, x_0: Latents, tokens: Tokens, mask: Mask, t_0: float, generator: torch.Generator
) -> PerText:
    """−log p(w | x_t) at t_0."""
    t = torch.full_like(x_0[:, 0, 0], t_0)
    alpha, sigma = model.levels(t)
    x_t = corrupt(x_0, draw_like(x_0, generator), alpha, sigma)
    if model.reads_tokens:
        logits = model.output(x_t, t, mask, model.first_estimate(x_t, t, mask))
    else:
        logits = model.bayes(x_t, alpha, sigma)
    each = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
    return each.masked_fill(~mask, 0).sum(1)
