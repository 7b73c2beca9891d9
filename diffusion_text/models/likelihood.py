"""The terms of the bound on the likelihood of learned embeddings' tokens: equation (1) of diffusion/bound.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from diffusion_text.diffusion.bound import diffusion_loss, prior_kl
from diffusion_text.diffusion.gaussian import corrupt
from diffusion_text.diffusion.samplers import draw_like
from diffusion_text.shapes import Latents, Mask, PerText, Times, Tokens

if TYPE_CHECKING:
    from diffusion_text.models.diffusion_lm import DiffusionLM


@torch.no_grad()
def bound_terms(
    model: DiffusionLM, tokens: Tokens, mask: Mask, draws: int, t_0: float, generator: torch.Generator
) -> dict[str, PerText]:
    """The bound's three terms in nats a text, from `draws` noise levels; tokens are read at time `t_0`."""
    x_0 = model.text_space.encode(tokens, mask)

    def predict_x0(x_t: Latents, t: Times) -> Latents:
        return model.predict_x0(x_t, t, mask, model.first_estimate(x_t, t, mask))

    return {
        "prior": prior_kl(x_0, mask, model.schedule),
        "diffusion": diffusion_loss(x_0, mask, predict_x0, model.schedule, t_0, draws, generator),
        "reconstruction": reconstruction(model, x_0, tokens, mask, t_0, generator),
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
