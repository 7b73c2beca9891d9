"""Checks of a built model on one real batch, in seconds: what would otherwise show after days, if at all.

Each check measures one number and judges it: ok, warn (the run goes on), or fail (it does not).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from diffusion_text.diagnostics.references import rank_bound
from diffusion_text.diffusion.gaussian import per_text
from diffusion_text.diffusion.schedules import NoiseSchedule
from diffusion_text.shapes import Latents, Mask, Times, Tokens

Denoise = Callable[[Latents, Times, Mask], Latents]
Decoded = Int[Tensor, "batch decoded"]
INSENSITIVE = 1e-4  # relative change of the output below which the network does not see what was changed


class Check(NamedTuple):
    """One measurement and what it means."""

    name: str
    measured: str
    verdict: str
    advice: str = ""


def judge(name: str, measured: str, fail: bool, warn: bool, advice: str) -> Check:
    """The advice goes with anything that is not ok."""
    verdict = "fail" if fail else "warn" if warn else "ok"
    return Check(name, measured, verdict, "" if verdict == "ok" else advice)


@torch.no_grad()
def output_rank(denoiser: Denoise, dim: int, bare_epsilon: bool, device: torch.device) -> Check:
    """Rank of the output a position, over random texts of two positions, against the latent's width."""
    texts = 4 * dim
    mask = torch.ones(texts, 2, dtype=torch.bool, device=device)
    output = denoiser(torch.randn(texts, 2, dim, device=device), torch.rand(texts, device=device), mask).flatten(1)
    centred = (output - output.mean(0)).double()
    variances = torch.linalg.eigvalsh(centred.T @ centred)
    rank = math.ceil(int((variances > 1e-9 * variances[-1]).sum()) / 2)
    bound = rank_bound(rank, dim)
    narrow = rank < dim
    measured = f"{rank} of {dim}" + (f", cosine ≤ {bound:.3f}" if narrow and bare_epsilon else "")
    advice = "noise fills all channels and the output cannot: use prediction=v, or model.width=full"
    return judge("rank of the output", measured, False, narrow and bare_epsilon, advice)


@torch.no_grad()
def position_sensitivity(denoiser: Denoise, x_t: Latents, mask: Mask) -> Check:
    """Relative difference between the output of permuted positions and the permuted output."""
    length = int(mask.sum(1).min())
    x, real = x_t[:, :length], mask[:, :length]
    order = torch.randperm(length, device=x.device)
    t = torch.full((len(x),), 0.5, device=x.device)
    straight = denoiser(x, t, real)
    change = relative_change(denoiser(x[:, order], t, real), straight[:, order])
    advice = "permuting the text permutes the output: word order cannot be learned; choose positions=rotary"
    return judge("sees positions", f"changes by {change:.1%}", change < INSENSITIVE, False, advice)


@torch.no_grad()
def time_sensitivity(denoiser: Denoise, x_t: Latents, mask: Mask) -> Check:
    """Relative change of the output between t = 0.2 and t = 0.8 on the same noisy latent."""
    early, late = (denoiser(x_t, torch.full((len(x_t),), t, device=x_t.device), mask) for t in (0.2, 0.8))
    change = relative_change(late, early)
    advice = "the output does not depend on t: the time embedding does not reach it"
    return judge("sees the time", f"changes by {change:.1%}", change < INSENSITIVE, False, advice)


def latent_scale(x_0: Latents, mask: Mask) -> Check:
    """Root mean square of x_0 on real tokens, against noise of 1."""
    rms = float(x_0[mask].square().mean().sqrt())
    advice = "x_0 and unit noise are of different scale: the schedule spends its time where there is nothing to learn"
    return judge("scale of x_0", f"RMS {rms:.3f}", rms < 0.1 or rms > 10, rms < 0.5 or rms > 2, advice)


def readable_share(x_0: Latents, tokens: Tokens, mask: Mask, schedule: NoiseSchedule) -> Check:
    """Share of the tokens whose nearest clean latent in the batch is of the same token, at t = 0.1, 0.3, …, 0.9."""
    clean, ids = x_0[mask][:512], tokens[mask][:512]
    shares = []
    for t in (0.1, 0.3, 0.5, 0.7, 0.9):
        alpha, sigma = (per_text(x).squeeze(-1).to(clean) for x in schedule.alpha_sigma(torch.tensor(t)))
        noisy = clean * alpha + sigma * torch.randn_like(clean)
        nearest = torch.cdist(noisy / alpha, clean).argmin(1)
        shares.append(float((ids[nearest] == ids).float().mean()))
    measured = " ".join(f"{share:.0%}" for share in shares)
    advice = "hardly a token can be read at t = 0.1: the noise drowns the latents; lower it, or scale x_0 up"
    return judge("readable at t = .1 .3 … .9", measured, shares[0] < 0.1, shares[0] < 0.5, advice)


def standardisation(x_0: Latents, mask: Mask) -> Check:
    """Mean and standard deviation over channels of the batch's real tokens."""
    real = x_0[mask]
    offset, spread = float(real.mean(0).square().mean().sqrt()), float(real.std(0).mean())
    measured = f"mean {offset:.2f}, std {spread:.2f}"
    wrong = max(offset, abs(spread - 1))
    advice = "the statistics are not this corpus's: take them from the training split's real tokens"
    return judge("standardisation", measured, wrong > 0.75, wrong > 0.4, advice)


@torch.no_grad()
def padding_leak(denoiser: Denoise, x_t: Latents, mask: Mask) -> Check:
    """How much the output on real tokens changes with more padding of other content; and how much padding there is."""
    t = torch.full((len(x_t),), 0.5, device=x_t.device)
    extra = 10 * torch.randn(len(x_t), 8, x_t.shape[-1], device=x_t.device)
    longer = torch.cat([torch.where(mask.unsqueeze(-1), x_t, 10 * torch.randn_like(x_t)), extra], dim=1)
    longer_mask = torch.nn.functional.pad(mask, (0, 8))
    change = relative_change(denoiser(longer, t, longer_mask)[longer_mask], denoiser(x_t, t, mask)[mask])
    measured = f"{1 - mask.float().mean():.0%} padding, leaks {change:.1%}"
    advice = "padding changes the output on real tokens: the denoiser ignores its mask"
    return judge("padding", measured, change > 0.1, change > 1e-3, advice)


def gradient_reach(parameters: dict[str, Tensor | None]) -> Check:
    """How many parameters the loss's gradient does not reach; `parameters` maps names to gradients."""
    dead = [name for name, gradient in parameters.items() if gradient is None or not bool(gradient.any())]
    measured = f"{len(parameters) - len(dead)} of {len(parameters)}"
    return judge("gradient reaches", measured, bool(dead), False, f"nothing trains {', '.join(dead[:3])}")


def round_trip(decoded: Decoded, tokens: Tokens, mask: Mask) -> Check:
    """Share of the tokens that survive encoding and decoding without noise."""
    share = token_accuracy(decoded, tokens, mask)
    advice = "the text space does not give its own texts back: pretrain it longer, or check tokenizer and statistics"
    return judge("encode → decode", f"{share:.1%} of tokens", share < 0.3, share < 0.8, advice)


def snap_space(snapped: Latents, x_0: Latents, mask: Mask) -> Check:
    """Relative distance between x_0 and what snapping makes of it."""
    change = relative_change(snapped[mask], x_0[mask])
    advice = "snapping returns points of another space than the loss targets: switch it off, or change the target"
    return judge("snap returns the target's space", f"moves by {change:.1%}", change > 0.5, change > 0.1, advice)


def token_accuracy(decoded: Decoded, tokens: Tokens, mask: Mask) -> float:
    """Share of the real tokens that are the same at the same position."""
    length = tokens.shape[1]
    aligned = torch.full_like(tokens, -1)
    aligned[:, : decoded.shape[1]] = decoded[:, :length]
    return float((aligned == tokens)[mask].float().mean())


def relative_change(after: Tensor, before: Tensor) -> float:
    return float((after - before).norm() / before.norm().clamp(min=1e-12))
