"""Tensors and plain values in a sealed file, which can neither run code nor take more memory than it has bytes."""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_text.errors import UserError, first_line
from diffusion_text.storage import DamagedError, read_sealed, write_sealed

PLAIN = (str, int, float, bool, type(None))
NAMES = re.compile(r"torch \w+Storage|torch\._utils _rebuild_tensor_v2|collections OrderedDict")


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write nested dictionaries, lists and tuples of tensors and plain values; the file before is kept as the older."""
    write_sealed(path, partial(torch.save, plain(content)))


def read_tensors(path: Path) -> dict[str, Any]:
    """What was written, on the CPU; raises DamagedError where neither generation of the file holds that."""
    return read_sealed(path, unpacked)


def plain(value: Any, name: str = "checkpoint") -> Any:
    """A value of the kinds that a file may hold."""
    if isinstance(value, dict):
        items = {key: plain(item, f"{name}.{key}") for key, item in value.items()}
        return OrderedDict(items) if isinstance(value, OrderedDict) else items
    if isinstance(value, (list, tuple)):
        return type(value)([plain(item, f"{name}.{i}") for i, item in enumerate(value)])
    if isinstance(value, Tensor):
        return value.detach()
    if type(value) not in PLAIN:
        raise UserError(f"{name} is a {type(value).__name__}: a checkpoint holds tensors and plain values alone")
    return value


def unpacked(path: Path) -> dict[str, Any]:
    """The content of a file that is whole."""
    try:
        check_sizes(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        check_tensors(content)
        assert isinstance(content, dict), "it holds no names"
    except Exception as error:  # whatever a file may hold that we did not write
        raise DamagedError(f"{path} is not a checkpoint of this project: {first_line(error)}") from error
    return content


def check_sizes(path: Path) -> None:
    """Refuse what unpacks to more than it is, and what calls by other names than those of tensors."""
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise ValueError("it is compressed")
        [described] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        for operation, argument, _ in pickletools.genops(archive.read(described)):
            if operation.name in ("STACK_GLOBAL", "INST") or (
                operation.name == "GLOBAL" and not NAMES.fullmatch(str(argument))
            ):
                raise ValueError(f"it calls {argument}")


def check_tensors(value: Any) -> None:
    """Refuse tensors that claim more numbers than they have."""
    if isinstance(value, Tensor) and value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"a tensor of {value.numel():,} numbers has {value.untyped_storage().nbytes():,} bytes")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for item in inner:
        check_tensors(item)


def misfit(stored: dict[str, Tensor], own: dict[str, Tensor]) -> str | None:
    """In which way stored weights are not a model's own in name, kind, shape or finiteness; None where they are."""
    for name in [*(name for name in own if name not in stored), *(name for name in stored if name not in own)]:
        return f"{name} is {'unknown' if name in stored else 'missing'}"
    for name, tensor in stored.items():
        for what, here, there in (
            ("shape", tuple(own[name].shape), tuple(tensor.shape)),
            ("dtype", own[name].dtype, tensor.dtype),
        ):
            if here != there:
                return f"{name} has {what} {there}, not {here}"
        if own[name].isfinite().all() and not tensor.isfinite().all():
            return f"{name} is not finite"
    return None
