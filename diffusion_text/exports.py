"""A trained model in a directory of its own, for other people: tensors and plain values, nothing that runs.

    model.safetensors   averaged weights, and what was counted and measured on the training split
    config.json         components by name, and the step
    text_space/         the tokenizer, and a BART where there is one
    metrics.json        the run's final figures
    README.md           the model card, which people may edit
    manifest.json       the SHA-256 of all but that

It says nothing of where things lay on the machine that it was made on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusion_text.errors import UserError, first_line
from diffusion_text.hub import KINDS
from diffusion_text.runs import Run
from diffusion_text.storage import (
    README,
    DamagedError,
    check_directory,
    read_json,
    replacing_directory,
    write_json,
    write_text,
)

Config = dict[str, Any]
FORMAT = 1
CONFIG = "config.json"
PLACED = ("data", "text_space", "tokenizer")  # parts that say where something lies
OF_THE_NOISE = ("text_space", "tokenizer", "schedule", "route", "model", "condition", "corpus", "seed")


def write_export(
    directory: Path,
    config: Config,
    weights: dict[str, Tensor],
    step: int,
    save_space: Callable[[Path], None],
    figures: dict[str, Any],
    card: str,
) -> None:
    """Write a new directory, whole or not at all."""
    about = {"format": FORMAT, "step": step, "configuration": portable(config)}
    with replacing_directory(directory) as unfinished:
        run = Run(unfinished)
        write_json(unfinished / CONFIG, about)
        save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, run.exported)
        run.exported.chmod((unfinished / CONFIG).stat().st_mode)  # else nobody else may read it
        with replacing_directory(run.text_space) as space:
            save_space(space)
        if figures:
            write_json(run.metrics, figures)
        write_text(unfinished / README, card)


def read_export(weights: Path) -> dict[str, Any]:
    """What was written, as a checkpoint has it, by the place of its weights; raises UserError where it is not that."""
    run = Run.of_checkpoint(weights)
    check_directory(run.directory)
    for file in run.text_space.rglob("*"):
        if not file.is_dir() and file.suffix not in KINDS:
            raise DamagedError(f"{file} is of a kind that no export has: delete it")
    about: dict[str, Any] = read_json(run.directory / CONFIG, {})
    if about.get("format") != FORMAT:
        raise UserError(f"{run.directory / CONFIG} has format {about.get('format')}: this version reads {FORMAT}")
    try:
        config = about["configuration"]
        here = {name: put(config[name], {"pretrained": str(run.text_space)}) for name in PLACED if name in config}
        return {"hyper_parameters": config | here, "state_dict": load_file(weights), "global_step": about.get("step")}
    except Exception as error:  # whatever a file may hold that we did not write
        raise DamagedError(f"{weights} is not an export of this project: {first_line(error)}") from error


def portable(config: Config) -> Config:
    """A configuration without places: what was pretrained lies in the text space, and the corpus anywhere."""
    without = {"pretrained": "text_space", "pretrained_embeddings": None, "dir": None}
    moved = {name: put(config[name], without) for name in PLACED if name in config}
    return config | moved | {"identity": identity(config)}


def put(node: Any, values: dict[str, Any]) -> Any:
    """A configuration in which every setting of these names that is not null has these values."""
    if not isinstance(node, dict):
        return node
    return {
        name: values[name] if name in values and value is not None else put(value, values)
        for name, value in node.items()
    }


def identity(config: Config) -> str:
    """A fingerprint of what makes a run's noise what it is."""
    if "identity" in config:
        return config["identity"]
    shaping = {name: config.get(name) for name in OF_THE_NOISE}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True, default=str).encode()).hexdigest()[:16]
