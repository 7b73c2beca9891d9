"""Where tables are printed."""

from rich.console import Console


def console() -> Console:
    """A console no wider than a page."""
    return Console(width=min(Console().width, 120))
