"""Checks of a built model on one real batch, in seconds: what would otherwise show after days, if at all.

Each check measures one number and judges it: ok, warn (the run goes on), or fail (it does not).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from diffusion_text.diagnostics.references import rank_bound
from diffusion_text.diffusion.gaussian import per_text
from diffusion_text.diffusion.schedules import NoiseSchedule
from diffusion_text.shapes import Context, Counts, Latents, Mask, Times

Denoise = Callable[[Latents, Times, Mask], Latents]
TokensOf = Int[Tensor, "batch tokens"]
INSENSITIVE = 1e-4  # relative change of the output below which the network does not see what was changed
AFFORDABLE = 2.5e10  # texts times parameters that a CPU takes through a network in seconds
NARROW = 0.99  # bound on the cosine similarity of noise below which an output is called narrow
ACROSS = (0.1, 0.3, 0.5, 0.7, 0.9)  # times at which x_t is looked at
AMPLIFIED = 100  # magnification of an error at t = 1 above which sampling needs a bound on x_0


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


def output_rank(denoiser: nn.Module, declared: int, dim: int, bare_epsilon: bool, device: torch.device) -> Check:
    """Rank of the output a position against the latent's width.

    Measured where that takes seconds; a large network without a GPU is believed its `declared` output width.
    """
    texts = 2 * declared + 32
    affordable = device.type != "cpu" or texts * sum(p.numel() for p in denoiser.parameters()) < AFFORDABLE
    rank = min(measured_rank(denoiser, texts, dim, device) if affordable else declared, dim)
    bound = rank_bound(rank, dim)
    narrow = bound < NARROW
    measured = f"{rank} of {dim}" + ("" if affordable else " as declared")
    measured += f", cosine ≤ {bound:.3f}" if narrow and bare_epsilon else ""
    advice = "noise fills all channels and the output cannot: use prediction=v, or model.width=full"
    return judge("rank of the output", measured, False, narrow and bare_epsilon, advice)


@torch.no_grad()
def measured_rank(denoiser: Denoise, texts: int, dim: int, device: torch.device) -> int:
    """Over random texts of two positions, so that what a convolution reads of its neighbours does not add to it."""
    mask = torch.ones(texts, 2, dtype=torch.bool, device=device)
    output = denoiser(torch.randn(texts, 2, dim, device=device), torch.rand(texts, device=device), mask).flatten(1)
    singular = torch.linalg.svdvals((output - output.mean(0)).double())
    return math.ceil(int((singular > 1e-4 * singular[0]).sum()) / 2)


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
def sees_ahead(denoiser: Denoise, x: Latents, mask: Mask, causal: bool) -> Check:
    """Relative change of the output on the first half of the texts when their second half is another text's."""
    half = int(mask.sum(1).min()) // 2
    t = torch.zeros(len(x), device=x.device)
    other = torch.cat([x[:, :half], x.roll(1, 0)[:, half:]], 1)
    change = relative_change(denoiser(other, t, mask)[:, :half], denoiser(x, t, mask)[:, :half])
    advice = (
        "the network reads the tokens that it is to predict: its attention must be causal"
        if causal
        else "the network does not see both ways: it cannot fill what lies before what it knows"
    )
    return judge("sees ahead", f"changes by {change:.1%}", (change > INSENSITIVE) == causal, False, advice)


@torch.no_grad()
def time_sensitivity(denoiser: Denoise, x_t: Latents, mask: Mask) -> Check:
    """Relative change of the output between t = 0.2 and t = 0.8 on the same noisy latent."""
    early, late = (denoiser(x_t, torch.full((len(x_t),), t, device=x_t.device), mask) for t in (0.2, 0.8))
    change = relative_change(late, early)
    advice = "the output does not depend on t: the time embedding does not reach it"
    return judge("sees the time", f"changes by {change:.1%}", change < INSENSITIVE, False, advice)


@torch.no_grad()
def condition_sensitivity(denoiser: Callable[..., Latents], x_t: Latents, mask: Mask, context: Context) -> Check:
    """Relative change of the output at t = 0.5 between being told the context and being told nothing."""
    half, told = torch.full((len(x_t),), 0.5, device=x_t.device), context.where.any(1)
    change = relative_change(*(denoiser(x_t, half, mask, context=given)[told] for given in (context, None)))
    insensitive, any_told = change < INSENSITIVE, bool(told.any())
    advice = "the output does not depend on what a text is told: no sample will"
    if not any_told:
        advice = "none of these texts is told anything: look at what the corpus says of its texts"
    return judge("sees the condition", f"changes by {change:.1%}", insensitive and any_told, insensitive, advice)


def condition_in_the_data(counts: dict[str, Counts]) -> Check:
    """How many of the training texts are told each attribute, and how many values stand in one text alone; `counts` has
    by attribute how many texts are told nothing of it, and each of its values.
    """
    told = {name: float(1 - each[0] / each.sum()) for name, each in counts.items()}
    values = sum(len(each) - 1 for each in counts.values())
    lonely = [name for name, each in counts.items() if bool((each[1:] == 1).any())]
    alone = sum(int((each[1:] == 1).sum()) for each in counts.values())
    rarest = min(told, key=told.__getitem__)
    measured = f"{len(told)} told in {told[rarest]:.0%} of texts and more, {alone} of {values} values in one alone"
    nothing = max(told.values()) == 0
    advice = (
        f"what stands in one text cannot be told from the rest of it: look at {', '.join(lonely[:3])} in the corpus"
    )
    if nothing:
        advice = "no text of the training split is told anything: look at the corpus"
    return judge("condition in the data", measured, nothing, alone > 0, advice)


def latent_scale(x_0: Latents, mask: Mask) -> Check:
    """Root mean square of x_0 on real tokens, against noise of 1."""
    rms = float(x_0[mask].square().mean().sqrt())
    advice = "x_0 and unit noise are of different scale: the schedule spends its time where there is nothing to learn"
    return judge("scale of x_0", f"RMS {rms:.3f}", rms < 0.1 or rms > 10, rms < 0.5 or rms > 2, advice)


def readable_share(x_0: Latents, tokens: TokensOf, real: Mask, schedule: NoiseSchedule) -> Check:
    """Share of the latents whose nearest clean one in the batch is of the same tokens, at t = 0.1, 0.3, …, 0.9.

    A position of x_0 may stand for several neighbouring tokens; padding is token −1 here.
    """
    shares = read_at(ACROSS, x_0, tokens, real, schedule)
    measured = " ".join(f"{share:.0%}" for share in shares)
    advice = "hardly a token can be read at t = 0.1: the noise drowns the latents; lower it, or scale x_0 up"
    return judge("readable at t = .1 .3 … .9", measured, shares[0] < 0.1, shares[0] < 0.5, advice)


def read_at(times: Iterable[float], x_0: Latents, tokens: TokensOf, real: Mask, schedule: NoiseSchedule) -> list[float]:
    """The share of the latents whose nearest clean one is of the same tokens, at each of these times."""
    positions = x_0.shape[1]
    per_latent = -(-tokens.shape[1] // positions)
    grouped = F.pad(tokens, (0, positions * per_latent - tokens.shape[1]), value=-1).unflatten(1, (positions, -1))
    ids = grouped[real].unique(dim=0, return_inverse=True)[1][:512]
    clean = x_0[real][:512]
    shares = []
    for t in times:
        alpha, sigma = (per_text(x).squeeze(-1).to(clean) for x in schedule.alpha_sigma(torch.tensor(t)))
        noisy = clean * alpha + sigma * torch.randn_like(clean)
        nearest = torch.cdist(noisy / alpha, clean).argmin(1)
        shares.append(float((ids[nearest] == ids).float().mean()))
    return shares


def condition_needed(shares: list[float], moving: bool) -> Check:
    """Shares of the latents that x_t alone tells, at times that training draws: what is left is for a condition to say
    (as Ye et al. 2023 found, little noise teaches a model to ignore it). Times that are `moving` leave what is read.
    """
    told = sum(shares) / len(shares)
    advice = (
        "the loss does not need what the model is told, x_t says it all: draw later times (time_sampling=stratified), "
        "or a schedule with more noise"
    )
    return judge("needs the condition", f"x_t alone reads {told:.0%}", told > 0.95, told > 0.85 and not moving, advice)


def standardisation(x_0: Latents, mask: Mask) -> Check:
    """Mean and standard deviation over channels of the batch's real tokens."""
    real = x_0[mask]
    offset, spread = float(real.mean(0).square().mean().sqrt()), float(real.std(0).mean())
    measured = f"mean {offset:.2f}, std {spread:.2f}"
    wrong = max(offset, abs(spread - 1))
    advice = "the statistics are not this corpus's: take them from the training split's real tokens"
    return judge("standardisation", measured, wrong > 0.75, wrong > 0.4, advice)


def kept_statistics(buffers: set[str], kept: set[str]) -> Check:
    """Whether the checkpoint keeps every buffer of the text space: what it lacks would be made up at sampling."""
    lost = sorted(buffers - kept)
    measured = f"{len(buffers) - len(lost)} of {len(buffers)} statistics"
    advice = f"{', '.join(lost)} would be recomputed at sampling: register persistent buffers"
    return judge("kept in the checkpoint", measured, bool(lost), False, advice)


def first_step(amplification: float, clip: float | None) -> Check:
    """By how much an error of the output is magnified in x_0 at t = 1, and whether the sampler bounds x_0."""
    measured = f"errors × {amplification:,.0f}, clip {'none' if clip is None else f'{clip:g}'}"
    advice = "x_0 = (x_t − sigma·ε̂) / alpha blows up at t = 1: set sampler.clip=8, or prediction=v"
    return judge("x_0 at the first step", measured, amplification > AMPLIFIED and clip is None, False, advice)


def padding_in_loss(loss: Callable[[Latents], Tensor], output: Latents, real: Mask) -> Check:
    """Share of the loss's gradient by the output that lies where there is no token; `real` is True on tokens."""
    output = output.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(output), output)
    share = float(gradient[~real].abs().sum() / gradient.abs().sum().clamp(min=1e-12))
    advice = "the loss counts padding: mask it, in the statistics too"
    return judge("padding in the loss", f"{share:.1%} of its gradient", share > 1e-3, share > 1e-6, advice)


@torch.no_grad()
def padding_leak(denoiser: Denoise, x_t: Latents, mask: Mask) -> Check:
    """How much the output on real tokens changes with more padding of other content; and how much padding there is."""
    t = torch.full((len(x_t),), 0.5, device=x_t.device)
    extra = 10 * torch.randn(len(x_t), 8, x_t.shape[-1], device=x_t.device)
    longer = torch.cat([torch.where(mask.unsqueeze(-1), x_t, 10 * torch.randn_like(x_t)), extra], dim=1)
    longer_mask = F.pad(mask, (0, 8))
    change = relative_change(denoiser(longer, t, longer_mask)[longer_mask], denoiser(x_t, t, mask)[mask])
    measured = f"{1 - mask.float().mean():.0%} padding, leaks {change:.1%}"
    advice = "padding changes the output on real tokens: the denoiser ignores its mask"
    return judge("padding", measured, change > 0.1, change > 1e-3, advice)


def loss_without_context(loss: float, of_rows: bool) -> Check:
    """The diffusion loss, averaged over t, of the best predictor that sees no other position.

    `of_rows`: it is an error in units of a learned table, which can be small without anything having been learned.
    """
    advice = (
        "such a loss is no learning: x_0 is too small against the noise (text_space.normalise=true or "
        "text_space.std=1), or fills few of its dimensions (a smaller text_space.dim)"
    )
    return judge("loss without context", f"{loss:.3g}", False, of_rows and loss < 0.1, advice)


def gradient_reach(parameters: dict[str, Tensor | None]) -> Check:
    """How many parameters the loss's gradient does not reach; `parameters` maps names to gradients."""
    dead = [name for name, gradient in parameters.items() if gradient is None or not bool(gradient.any())]
    measured = f"{len(parameters) - len(dead)} of {len(parameters)}"
    return judge("gradient reaches", measured, bool(dead), False, f"nothing trains {', '.join(dead[:3])}")


def round_trip(share: float, untrained: bool) -> Check:
    """Share of the tokens that survive encoding and decoding without noise; `untrained`: decoding is still to be
    learned.
    """
    advice = "the text space does not give its own texts back: pretrain it longer, or check tokenizer and statistics"
    measured = f"{share:.1%} of tokens" + (", untrained" if untrained else "")
    return judge("encode → decode", measured, share < 0.3 and not untrained, share < 0.8 and not untrained, advice)


def decoder_tolerance(shares: dict[float, float]) -> Check:
    """Shares of the tokens that are read where x_0 has Gaussian errors, by their size in standard deviations of x_0."""
    measured = " ".join(f"{share:.0%}" for share in shares.values())
    least = next(iter(shares.values()))
    advice = "small errors of a denoiser change the text: train the decoder on them, text_space.decoder_noise=0.8"
    name = f"reads errors of {' '.join(f'{size:g}'.lstrip('0') for size in shares)}"
    return judge(name, measured, False, least < 0.8, advice)


def rounding_share(rounded: float, nearest: float) -> Check:
    """Shares of the tokens at t = 0.3 that the space's rounding reads, and the nearest neighbour."""
    advice = (
        "the angle to an embedding does not see its length: text_space.normalise=true, or text_space.rounding=nearest"
    )
    measured = f"{rounded:.1%} at t = 0.3, nearest {nearest:.1%}"
    return judge("rounding of noisy x_0", measured, rounded < 0.9 * nearest, rounded < 0.98 * nearest, advice)


def snap_space(snapped: Latents, x_0: Latents, mask: Mask) -> Check:
    """Relative distance between x_0 and what snapping makes of it."""
    change = relative_change(snapped[mask], x_0[mask])
    advice = "snapping returns points of another space than the loss targets: switch it off, or change the target"
    return judge("snap returns the target's space", f"moves by {change:.1%}", change > 0.5, change > 0.1, advice)


def relative_change(after: Tensor, before: Tensor) -> float:
    return float((after - before).norm() / before.norm().clamp(min=1e-12))
