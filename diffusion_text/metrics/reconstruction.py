"""How much of a text survives encoding and decoding."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from diffusion_text.shapes import Mask, Tokens

Decoded = Int[Tensor, "batch decoded"]


def token_accuracy(decoded: Decoded, tokens: Tokens, mask: Mask) -> float:
    """Share of the real tokens that are the same at the same position."""
    return float(same(decoded, tokens)[mask].float().mean())


def exact_match(decoded: Decoded, tokens: Tokens, mask: Mask) -> float:
    """Share of the texts of which every real token is the same."""
    return float((same(decoded, tokens) | ~mask).all(1).float().mean())


def same(decoded: Decoded, tokens: Tokens) -> Bool[Tensor, "batch length"]:
    """Where both have the same token; what was not decoded is not the same."""
    length = tokens.shape[1]
    aligned = torch.full_like(tokens, -1)
    aligned[:, : decoded.shape[1]] = decoded[:, :length]
    return aligned == tokens
