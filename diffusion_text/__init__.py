"""Continuous diffusion over text: experiments that say why they fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from diffusion_text.loading import LoadedModel

__version__ = "0.1.0"


def load(run: str | Path) -> LoadedModel:
    """A trained model to be used from Python: that of a run directory, of an export, or of one on the Hugging Face hub,
    `user/name` or `user/name@revision`. Raises UserError where there is none.
    """
    from diffusion_text.loading import opened  # which takes seconds

    return opened(run)
