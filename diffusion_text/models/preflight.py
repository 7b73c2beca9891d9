"""Preflight: the built model, on one real batch, held against every check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_text.diagnostics.preflight import (
    ACROSS,
    Check,
    condition_in_the_data,
    condition_needed,
    condition_sensitivity,
    decoder_tolerance,
    first_step,
    gradient_reach,
    kept_statistics,
    latent_scale,
    loss_without_context,
    output_rank,
    padding_in_loss,
    padding_leak,
    position_sensitivity,
    read_at,
    readable_share,
    round_trip,
    snap_space,
    standardisation,
    time_sensitivity,
)
from diffusion_text.diffusion.predictions import LogitsPrediction
from diffusion_text.diffusion.samplers import GaussianSampler
from diffusion_text.metrics.reconstruction import token_accuracy
from diffusion_text.models.base import leaving_no_trace
from diffusion_text.models.step_draws import StepDraws
from diffusion_text.shapes import Context, Latents, Mask, Tokens

if TYPE_CHECKING:
    from diffusion_text.diffusion.gaussian import Noisy
    from diffusion_text.diffusion.schedules import NoiseSchedule
    from diffusion_text.models.text_diffusion import TextDiffusion

    Readable = tuple[Latents, Tokens, Mask, NoiseSchedule]

TEXTS = 8
DECODED = 16  # tokens a text that are decoded, one by one
ERRORS = (0.2, 0.4, 0.6, 0.8)  # of x_0, in its standard deviations
SEEN = 4  # texts on which the network's sensitivity and the loss without context are measured


def preflight(model: TextDiffusion, batch: dict[str, Tensor], sampler: GaussianSampler) -> list[Check]:
    """Check `model` as it would be trained on `batch` and sampled with `sampler`; leaves no trace in it."""
    with leaving_no_trace(model):
        return measure(model, {name: value[:TEXTS].to(model.device) for name, value in batch.items()}, sampler)


def measure(model: TextDiffusion, batch: dict[str, Tensor], sampler: GaussianSampler) -> list[Check]:
    """Every check, in the order in which a text travels: space, network, loss, sampling."""
    space, denoiser, tokens, token_mask = model.text_space, model.denoiser, batch["tokens"], batch["mask"]
    ahead = space.encodes_ahead
    with torch.no_grad():
        x_0, mask = model.encode_batch(batch)
        decoded = space.decode(x_0, mask, limit=DECODED)
        clean = x_0 if ahead else space.encode(tokens, token_mask)
        snapped = space.snap(clean)
    real = space.latent_mask(token_mask)
    real = F.pad(real, (0, mask.shape[1] - real.shape[1]))
    half, last = (torch.full((len(x_0),), t, device=x_0.device) for t in (0.5, 1.0))
    noisy = model.noised(x_0, torch.randn_like(x_0), half, mask)
    output = model.output(noisy.x_t, half, mask)
    draws = StepDraws(model.seed, 0, model.max_length, len(token_mask))
    model.trained_on(batch, draws)[2]["loss"].mean().backward()
    few = {name: value[:SEEN] for name, value in batch.items()}
    of_rows = not (ahead or isinstance(model.prediction, LogitsPrediction))
    context = model.context(few, torch.Generator().manual_seed(model.seed), mask[:SEEN])
    gradients = {n: parameter.grad for n, parameter in model.named_parameters() if parameter.requires_grad}
    readable = x_0, tokens.masked_fill(~token_mask, -1), real, model.schedule
    return [
        round_trip(token_accuracy(decoded, tokens[:, :DECODED], token_mask[:, :DECODED]), not ahead),
        snap_space(snapped, clean, real),
        latent_scale(x_0, real),
        *([standardisation(x_0, real), decoder_tolerance(tolerated(model, batch, x_0, mask))] if ahead else []),
        kept_statistics({name for name, _ in space.named_buffers()}, set(space.state_dict())),
        readable_share(*readable),
        output_rank(denoiser, denoiser.output_width, space.dim, model.is_bare_epsilon, x_0.device),
        position_sensitivity(denoiser, noisy.x_t[:SEEN], mask[:SEEN]),
        time_sensitivity(denoiser, noisy.x_t[:SEEN], mask[:SEEN]),
        *(about_condition(model, context, noisy, readable) if context else []),
        padding_leak(denoiser, noisy.x_t[:SEEN], mask[:SEEN]),
        padding_in_loss(lambda changed: model.losses(batch, noisy, changed)["loss"].mean(), output, real),
        gradient_reach(gradients),
        loss_without_context(context_free_loss(model, few, x_0[:SEEN], mask[:SEEN]), of_rows),
        first_step(float(model.prediction.x0_per_output(*model.levels(last))[0]), sampler.clip),
    ]


def about_condition(model: TextDiffusion, context: Context, noisy: Noisy, readable: Readable) -> list[Check]:
    """The checks of what a model is told."""
    drawn = model.time_sampling.quantile(torch.tensor(ACROSS)).tolist()
    return [
        *([condition_in_the_data(model.told_counts)] if model.told_counts else []),
        condition_needed(read_at(drawn, *readable), model.time_sampling.learns),
        condition_sensitivity(model.denoiser, noisy.x_t[:SEEN], noisy.mask[:SEEN], context),
    ]


@torch.no_grad()
def tolerated(model: TextDiffusion, batch: dict[str, Tensor], x_0: Latents, mask: Mask) -> dict[float, float]:
    """The share of the tokens that is read, by the size of the error in x_0."""
    tokens, token_mask = batch["tokens"][:, :DECODED], batch["mask"][:, :DECODED]
    noise = torch.randn_like(x_0)
    noisy, masks = torch.cat([x_0 + size * noise for size in ERRORS]), mask.repeat(len(ERRORS), 1)
    decoded = model.text_space.decode(noisy, masks, limit=DECODED).chunk(len(ERRORS))
    return {size: token_accuracy(read, tokens, token_mask) for size, read in zip(ERRORS, decoded, strict=True)}


@torch.no_grad()
def context_free_loss(model: TextDiffusion, batch: dict[str, Tensor], x_0: Latents, mask: Mask) -> float:
    """The diffusion loss of what each position of x_t says by itself, averaged over texts and times."""
    losses = []
    for t in ACROSS:
        noisy = model.noised(x_0, torch.randn_like(x_0), x_0.new_full((len(x_0),), t), mask)
        parts = model.losses(batch, noisy, model.without_context(noisy.x_t, noisy.alpha, noisy.sigma))
        losses.append(parts.get("diffusion", parts["loss"]).mean())
    return float(torch.stack(losses).mean())
