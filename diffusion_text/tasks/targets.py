"""What texts are asked to be, from a user's file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusion_text.conditions.named import ANY
from diffusion_text.data.described import as_setting
from diffusion_text.errors import UserError, first_line

Target = Mapping[str, Any]


def read_targets(file: str, setting: str) -> list[Target]:
    """Targets, one a line: an object such as `{"food": "Thai"}`, a list such as `["food", ":", "Thai"]` (Li et al.
    2022), or a text.
    """
    try:
        lines = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {setting}={file}: {first_line(error)}") from error
    if not lines:
        raise UserError(f"{setting}={file} has no line")
    return [target(line, f"{setting}={file}") for line in lines]


def target(line: Any, place: str) -> Target:
    """What a line asks for."""
    if isinstance(line, list):
        name, _, value = " ".join(map(str, line)).partition(" : ")
        return {as_setting(name): value}
    if isinstance(line, str):
        return {ANY: line}
    if not isinstance(line, dict):
        raise UserError(f"{place}: {line} is neither an object of attributes, a list of tokens, nor a text")
    return line
