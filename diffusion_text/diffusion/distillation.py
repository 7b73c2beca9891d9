"""One step for many: what has to be estimated so that a step of DDIM ends where several of a teacher's do.

(1) x_s = alpha_s·x̂ + sigma_s·(x_t − alpha_t·x̂) / sigma_t                               Song et al. 2021, eq. 12
(2) two such steps, t → m by x̂ and m → s by x̂', end where one does by
        w·x̂ + (1 − w)·x̂',  w = (ρ_m − ρ_t) / (ρ_s − ρ_t),  ρ = alpha / sigma           Salimans & Ho 2022, algorithm 2

w lies in [0, 1]: a mean of two means of embeddings is one as well, within reach of any model that outputs logits.
"""

import torch

from diffusion_text.diffusion.gaussian import Level

Levels = tuple[Level, Level]


def share_of_first(start: Levels, middle: Levels, end: Levels) -> Level:
    """w of equation (2), from alpha and sigma at t, m and s; 1 where the middle is the end already."""
    (alpha_t, sigma_t), (alpha_m, sigma_m), (alpha_s, sigma_s) = start, middle, end
    shrunk = torch.where(sigma_m > 0, sigma_s / sigma_m, 1.0)
    return shrunk * (alpha_m - alpha_t * (sigma_m / sigma_t)) / (alpha_s - alpha_t * (sigma_s / sigma_t))
