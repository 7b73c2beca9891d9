"""Continuous diffusion over text: experiments that say why they fail."""

__version__ = "0.1.0"
