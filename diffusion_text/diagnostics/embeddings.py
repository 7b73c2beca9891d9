"""Health of an embedding table E `(vocabulary, dim)` whose tokens w have shares p(w) of the text.

(1) rms             √(Σ_w p(w)·‖E[w]‖² / dim); unit noise has 1
(2) norms           ‖E[w]‖ / √dim: smallest, median and largest, and Pearson's correlation with log p(w)
(3) margin          Σ_w p(w)·min_{v≠w} ‖E[w] − E[v]‖ / 2, in units of sigma/alpha at t = 0.5
(4) effective rank  exp(−Σ_i q_i·log q_i), q the eigenvalues' shares of the covariance       Roy & Vetterli 2007, eq. 3
(5) decodable       P(argmax_v log p(v | x_t) = w), in the middle of each tenth of t
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffusion_text.diagnostics.references import Shares, Table, moments, token_posterior
from diffusion_text.diffusion.gaussian import corrupt, per_text
from diffusion_text.diffusion.samplers import draw_like
from diffusion_text.diffusion.schedules import NoiseSchedule

NEIGHBOURS = 4096  # rows whose distances from each other are affordable
DRAWS = 512
AT_ONCE = 8  # draws whose posteriors are in memory together
HEALTH = (
    "rms", "norm_min", "norm_median", "norm_max", "norm_frequency", "margin", "effective_rank", "decodable",
)  # fmt: skip
STEADY = 1e-3  # relative spread below which a quantity does not vary


@torch.no_grad()
def embedding_health(table: Table, shares: Shares, schedule: NoiseSchedule) -> dict[str, Float[Tensor, ""]]:
    """Equations (1) to (5), each a scalar by its name; none of the `shares` may be 0.

    Of more than 4,096 tokens, the margin is that among the 4,096 most frequent.
    """
    table, shares = table.float(), shares.float()
    norms = table.square().mean(1).sqrt()
    return {
        "rms": (shares @ norms.square()).sqrt(),
        "norm_min": norms.min(),
        "norm_median": norms.median(),
        "norm_max": norms.max(),
        "norm_frequency": correlation(norms, shares.log()),
        "margin": margin(table, shares, schedule),
        "effective_rank": effective_rank(moments(table, shares)[1]),
        **{f"decodable/{i}": share for i, share in enumerate(decodable(table, shares, schedule))},
    }


def correlation(a: Float[Tensor, "n"], b: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """Pearson's; 0 where either does not vary."""
    pair = torch.stack([a, b])
    varies = (pair.std(1) > STEADY * pair.abs().amax(1)).all()
    return torch.where(varies, torch.corrcoef(pair)[0, 1], 0.0)


def margin(table: Table, shares: Shares, schedule: NoiseSchedule) -> Float[Tensor, ""]:
    """Equation (3), among the 4,096 most frequent tokens."""
    shares, chosen = shares.topk(min(NEIGHBOURS, len(shares)))
    rows = table[chosen]
    nearest = torch.cdist(rows, rows).fill_diagonal_(torch.inf).argmin(1)
    alpha, sigma = schedule.alpha_sigma(torch.tensor(0.5, device=table.device))
    return shares @ (rows - rows[nearest]).norm(dim=1) / shares.sum() / 2 * alpha / sigma


def effective_rank(covariance: Float[Tensor, "dim dim"]) -> Float[Tensor, ""]:
    """Equation (4); 1 where nothing varies."""
    eigenvalues = torch.linalg.eigvalsh(covariance).clamp(min=0)
    return torch.special.entr(eigenvalues / eigenvalues.sum().clamp(min=1e-300)).sum().exp().float()


def decodable(table: Table, shares: Shares, schedule: NoiseSchedule) -> Float[Tensor, "times"]:
    """Equation (5), over the same 512 tokens at each time, and the same noise at every call."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.multinomial(shares.cpu(), DRAWS, True, generator=generator).to(table.device)
    alpha, sigma = map(per_text, schedule.alpha_sigma((torch.arange(10, device=table.device) + 0.5) / 10))
    x_0 = table[tokens].expand(10, -1, -1)
    x_t = corrupt(x_0, draw_like(x_0, generator), alpha, sigma)
    parts = [x.contiguous() for x in x_t.split(AT_ONCE, dim=1)]  # one product with the table, not one for each time
    read = torch.cat([token_posterior(x, table, shares, alpha, sigma).argmax(-1) for x in parts], dim=1)
    return (read == tokens).float().mean(1)
