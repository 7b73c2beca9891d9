"""Processes that sample together: the first says what, each draws its share of the texts, the first has them all."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch.distributed as dist
from torch import Tensor

from diffusion_text.errors import UserError

if TYPE_CHECKING:
    from diffusion_text.models.base import Trained
    from diffusion_text.models.writing import Sampled

Made = TypeVar("Made")
PATIENCE = timedelta(days=1)  # the others wait for as long as the first is busy with something else


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def together(model: Trained, work: Callable[[], Made]) -> Made | None:
    """What `work` makes on the first process, None on the others: these draw their shares of what `model` samples."""
    if processes() == 1:
        return work()
    group = connected(dist.group.WORLD)
    if dist.get_rank():
        while (asked := told(None, group)) is not None:
            dist.gather_object(outcome(model, *asked), group=group)
        return None
    model.shares = partial(ask, model, group)
    try:
        return work()
    finally:
        model.shares = None
        told(None, group)


@cache
def connected(world: dist.ProcessGroup) -> dist.ProcessGroup:
    """All processes, for messages that no device need know of."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)


def told(message: Any, group: dist.ProcessGroup) -> Any:
    """What the first process says."""
    said = [message]
    dist.broadcast_object_list(said, group=group)
    return said[0]


def ask(model: Trained, group: dist.ProcessGroup, texts: int, done: Callable[[int], None], *how: Any) -> list[Sampled]:
    """So many texts, in the parts that the processes drew; raises whatever one of them failed of."""
    how = tuple(each.cpu() if isinstance(each, Tensor) else each for each in how)
    told((texts, unseen, *how), group)
    parts: list[Any] = [None] * processes()
    dist.gather_object(outcome(model, texts, done, *how), parts, group=group)
    for part in parts:
        if isinstance(part, Exception):
            raise part
    return [part for part in parts if part is not None]


def unseen(steps: int) -> None:
    """Nobody watches."""


def outcome(model: Any, texts: int, done: Callable[[int], None], *how: Any) -> Sampled | Exception | None:
    """This process's share of so many texts, if it has any, or what it failed of."""
    first, last = (texts * (dist.get_rank() + i) // processes() for i in range(2))
    try:
        drawn = model.draw(range(first, last), done, *how) if first < last else None
    except UserError as error:
        return error
    except Exception:
        return RuntimeError(traceback.format_exc())
    return drawn and drawn._replace(tokens=drawn.tokens.cpu())
