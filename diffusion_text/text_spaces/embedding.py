"""The embedding route's space (Li et al. 2022): x_0 is the row of a learned table; a learned rounding reads it.

(1) x_0 = E[w]; normalised: E[w] divided by its root mean square
(2) learned   logits = x_0·W + b, with W = Eᵀ if tied, or free                        Li et al. 2022, eq. 2
(3) cosine    logits = cos(x_0, E[w])
(4) nearest   logits = −‖x_0 − E[w]‖² / 2
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusion_text.errors import UserError
from diffusion_text.shapes import Latents, Tokens
from diffusion_text.text_spaces.base import Logits, PositionReader, TextSpace
from diffusion_text.values import one_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Table = Float[Tensor, "vocabulary dim"]
ROUNDINGS = ("learned", "cosine", "nearest")


class LearnedEmbedding(nn.Module):
    """A table of `vocab_size` rows of width `embed_dim`, trained with the denoiser.

    Rows start from N(0, std²), or from `pretrained_embeddings` `(vocab_size, width)`: projected by a random
    orthonormal matrix where the widths differ, and scaled to `std`; null keeps their own scale. `normalise` keeps
    every row at a root mean square of 1, so that no loss can be lowered by shrinking or growing the table.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        pretrained_embeddings: Table | None = None,
        std: float | None = 1.0,
        normalise: bool = False,
    ):
        super().__init__()
        if pretrained_embeddings is None:
            rows = torch.randn(vocab_size, embed_dim) * (1.0 if std is None else std)
        else:
            rows = project(pretrained_embeddings.float(), embed_dim)
            if len(rows) != vocab_size:
                raise UserError(
                    f"text_space.pretrained_embeddings have {len(rows)} rows and the tokenizer {vocab_size} tokens: "
                    "use the tokenizer that they were trained with"
                )
            rows = rows if std is None else rows * (std / rows.square().mean().sqrt())
        self.rows, self.normalise = nn.Parameter(rows), normalise

    @property
    def table(self) -> Table:
        """Every token's x_0: equation (1)."""
        return F.rms_norm(self.rows, self.rows.shape[-1:]) if self.normalise else self.rows

    def forward(self, tokens: Tokens) -> Latents:
        return F.embedding(tokens, self.table)


class LearnedRounding(nn.Module):
    """Latents of width `embed_dim` to logits over `vocab_size` tokens: equation (2).

    With `table`, the embedding that it is tied to, only the bias is its own.
    """

    def __init__(self, embed_dim: int, vocab_size: int, embedding: LearnedEmbedding | None = None):
        super().__init__()
        self.tied_to = [] if embedding is None else [embedding]  # a list, so that the table stays the embedding's alone
        if embedding is None:
            self.weight = nn.Parameter(torch.randn(vocab_size, embed_dim) / embed_dim**0.5)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x_0: Latents) -> Logits:
        weight = self.tied_to[0].table if self.tied_to else self.weight
        return F.linear(x_0, weight, self.bias)


class EmbeddingSpace(PositionReader, TextSpace):
    """A learned embedding, and how x_0 is rounded to tokens: `learned`, `cosine` or `nearest`, equations (2) to (4).

    Only with a learned rounding is the table trained. Without a loss that keeps tokens apart, the squared error would
    draw all rows to one point.
    """

    max_length = 1_000_000
    encodes_ahead = False

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        embedding: LearnedEmbedding,
        rounding: str = "learned",
        tied: bool = True,
    ):
        super().__init__()
        self.tokenizer, self.embedding = tokenizer, embedding
        self.rounding = one_of(rounding, "text_space.rounding", ROUNDINGS)
        vocab_size, self.dim = embedding.rows.shape
        embedding.requires_grad_(rounding == "learned")
        if rounding == "learned":
            self.head = LearnedRounding(self.dim, vocab_size, embedding if tied else None)

    @property
    def ruler(self) -> str:
        """Nats about tokens mean the same in any table."""
        return "learned embeddings"

    def save(self, directory: Path) -> None:
        self.tokenizer.save_pretrained(directory)

    def encode(self, tokens, mask):
        return self.embedding(tokens) * mask.unsqueeze(-1)

    def logits(self, x_0: Latents) -> Logits:
        """How well each token fits each position, by this space's rounding."""
        table = self.embedding.table
        if self.rounding == "learned":
            return self.head(x_0)
        if self.rounding == "cosine":
            return F.normalize(x_0, dim=-1) @ F.normalize(table, dim=-1).T
        return -0.5 * torch.cdist(x_0, table) ** 2

    def position_logits(self, x_0, mask):
        return self.logits(x_0)

    def snap(self, x_0):
        """The table's nearest row: the clamping trick (Li et al. 2022, §4.3)."""
        return self.embedding(torch.cdist(x_0, self.embedding.table).argmin(-1))

    @property
    def unit_scales(self):
        rms = self.embedding.table.detach().square().mean().sqrt()
        return {"raw": torch.ones(self.dim, device=rms.device), "standardised": rms.expand(self.dim)}


def project(rows: Float[Tensor, "vocabulary width"], dim: int) -> Table:
    """Rows of another width, by a random matrix of orthonormal rows or columns; angles are kept as well as they can."""
    width = rows.shape[1]
    if width == dim:
        return rows
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(max(width, dim), min(width, dim), generator=generator)).Q
    return rows @ (basis if width > dim else basis.T)
