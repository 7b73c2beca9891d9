"""What a setting may be. Each check returns the value, or raises ValueError with one line that names the setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from diffusion_text.commands import nearest

Kind = TypeVar("Kind")
LARGEST = 3e38  # what a float32 holds
DEEPEST = 1_000  # layers
WIDEST = 16_384  # channels
SHOWN = 80  # characters of a value
LONGEST = 1_000_000  # tokens in a text, and texts in a batch
MOST = 1_000_000_000  # of anything else


def whole(value: Any, name: str, least: int = 0, most: int = MOST) -> int:
    """A whole number, be it written as 1e3."""
    if is_number(value) and least <= value <= most and value == value // 1:
        return int(value)
    too_large = isinstance(value, (int, float)) and value > most
    raise wrong(value, name, f"a whole number of at {f'most {most:,}' if too_large else f'least {least:,}'}")


def even(value: Any, name: str, most: int) -> int:
    """A whole number that two divides, of at least 2."""
    if whole(value, name, 2, most) % 2 == 0:
        return int(value)
    raise wrong(value, name, "an even number")


def number(
    value: Any,
    name: str,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """A finite number that is at least and at most so much, or above and below it."""
    if is_number(value) and least <= value <= most and above < value < below:
        return value
    bounds = {"of at least": least, "above": above, "of at most": most, "below": below}
    told = " and ".join(f"{relation} {bound:g}" for relation, bound in bounds.items() if math.isfinite(bound))
    raise wrong(value, name, f"a finite number {told}".strip())


def share(value: Any, name: str) -> float:
    """A number from 0 to 1."""
    if is_number(value) and 0 <= value <= 1:
        return value
    raise wrong(value, name, "a share between 0 and 1")


def seed_number(value: Any, name: str) -> int:
    """What every generator of random numbers takes."""
    return whole(value, name, 0, 2**32 - 1)


def one_of(value: Any, name: str, options: Iterable[str]) -> str:
    """One of these words."""
    options = list(options)
    if isinstance(value, str) and value in options:
        return value
    raise ValueError(f"{name}={written(value)} is none of {', '.join(options)}{nearest(str(value), options)}")


def flag(value: Any, name: str) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    raise ValueError(f"{name}={written(value)} is neither true nor false")


def words(value: Any, name: str) -> str:
    """A text that is not empty."""
    if isinstance(value, str) and value:
        return value
    raise wrong(value, name, "a text")


def listed(value: Any, name: str, check: Callable[..., Kind], fewest: int = 0, **bounds: Any) -> list[Kind]:
    """A list of what `check` asks for, of so many at least."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) >= fewest:
        return [check(item, name, **bounds) for item in value]
    raise wrong(value, name, f"a list{' of one at least' if fewest else ''}")


def or_null(check: Callable[..., Kind], value: Any, name: str, **bounds: Any) -> Kind | None:
    """None, or what `check` asks for."""
    try:
        return None if value is None else check(value, name, **bounds)
    except ValueError as error:
        raise ValueError(f"{error}, nor null") from None


def instance(value: Any, name: str, kind: type) -> Any:
    """A component of this kind."""
    if isinstance(value, kind):
        return value
    raise wrong(value, name, f"a {kind.__name__}")


def is_number(value: Any) -> bool:
    """Whether it is a finite number that tensors can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def wrong(value: Any, name: str, what: str) -> ValueError:
    """A value is not what it should be."""
    return ValueError(f"{name}={written(value)} is not {what}")


def written(value: Any) -> str:
    """A value as a user writes it, in one line that is not too long."""
    if isinstance(value, Mapping):
        told = f"{{{','.join(f'{key}:{written(item)}' for key, item in value.items())}}}"
    elif isinstance(value, Sequence) and not isinstance(value, str):
        told = f"[{','.join(map(written, value))}]"
    else:
        told = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return " ".join(told.split())[:SHOWN]
