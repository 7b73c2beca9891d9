"""Checkpoints that cannot run code: tensors, and a configuration that is data.

In it a component is a name and its arguments. Names are looked up among the classes that implement this package's
contracts; nothing else that a checkpoint says is ever imported, called or interpolated.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

import diffusion_text
from diffusion_text.conditions.base import Condition
from diffusion_text.data.base import TextDataModule
from diffusion_text.denoisers.base import Denoiser
from diffusion_text.diffusion.losses import Loss, Weighting
from diffusion_text.diffusion.predictions import Prediction
from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.diffusion.schedules import NoiseSchedule
from diffusion_text.diffusion.time_sampling import TimeSampling
from diffusion_text.errors import UserError, first_line
from diffusion_text.exports import read_export
from diffusion_text.models.classifier import Classifier
from diffusion_text.models.space_recipes import SpaceRecipe
from diffusion_text.models.text_autoencoder import TextAutoencoder
from diffusion_text.models.tokenizers import TokenizerRecipe
from diffusion_text.models.writing import Writer
from diffusion_text.runs import EXPORTED, Run
from diffusion_text.storage import check_directory
from diffusion_text.tensors import misfit, read_tensors
from diffusion_text.values import flag, share

CONTRACTS = (
    TextDataModule, SpaceRecipe, TokenizerRecipe, Writer, Denoiser, NoiseSchedule, Prediction, Loss, Weighting,
    TimeSampling, Sampler, Condition, Classifier,
)  # fmt: skip
PARTS = ("schedule", "prediction", "loss", "weighting", "time_sampling")
Config = dict[str, Any]
M = TypeVar("M", bound=torch.nn.Module)


class Make(Protocol):
    """Builds the component that a node of some configuration describes."""

    def __call__(self, node: str, **arguments: Any) -> Any: ...


def estimates_read(route: Mapping[str, Any]) -> int:
    """How many estimates of x_0 the route gives its denoiser beside x_t; ValueError for settings that cannot be."""
    own = share(route.get("self_conditioning", 0), "route.self_conditioning") > 0
    return own + flag(route.get("reads_reference", False), "route.reads_reference")


def given(parts: dict[str, Any]) -> dict[str, Any]:
    """Those that are not None: a model of tokens has none of them."""
    return {name: part for name, part in parts.items() if part is not None}


def load(checkpoint: Path) -> tuple[Config, dict[str, torch.Tensor], int]:
    """The configuration, averaged weights and step of a checkpoint, or of an export by the place of its weights."""
    stored = read_export(checkpoint) if checkpoint.name == EXPORTED else read_tensors(checkpoint)
    config, weights, step = stored.get("hyper_parameters"), stored.get("state_dict"), stored.get("global_step")
    if not (
        isinstance(config, dict)
        and isinstance(config.get("route"), dict)
        and isinstance(step, int)
        and isinstance(weights, dict)
        and all(isinstance(tensor, torch.Tensor) for tensor in weights.values())
    ):
        raise UserError(f"{checkpoint} is not a checkpoint of this project: it has no configuration, weights and step")
    return config, weights, step


def restored(checkpoint: Path) -> tuple[Writer, Config, int]:
    """The model of a checkpoint, where there is a GPU on that, its configuration, and its step."""
    config, weights, step = load(checkpoint)
    return restore(checkpoint, config, weights).to("cuda" if torch.cuda.is_available() else "cpu"), config, step


def restore(checkpoint: Path, config: Config, weights: dict[str, torch.Tensor]) -> Writer:
    """The model of a checkpoint, with its averaged weights."""
    run = Run.of_checkpoint(checkpoint)
    make = partial(assemble, config)
    if config["route"].get("component") == TextAutoencoder.__name__:
        raise UserError(
            f"{run.directory} is a text autoencoder, which generates nothing by itself: train a denoiser on it with "
            f"python train.py text_space=bart_base text_space.pretrained={run.text_space}"
        )
    if config["route"].get("component") == Classifier.__name__:
        raise UserError(f"{run.directory} is a classifier: sample the run that it reads, with sampler.classifier=RUN")
    try:
        estimates, longest = estimates_read(config["route"]), len(weights["length_counts"]) - 1
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{checkpoint} holds an incomplete configuration: {first_line(error)}") from error
    recipe: SpaceRecipe = make("text_space")
    if recipe.kept and not run.text_space.is_dir():
        raise UserError(f"{run.text_space} is missing: copy the whole run directory, not only its checkpoint")
    check_sizes(make, recipe, weights, estimates, config)
    if recipe.kept:
        check_directory(run.text_space)
    try:
        space = recipe.load(run.text_space)
    except UserError:
        raise
    except Exception as error:  # whatever libraries say of files that they did not write
        raise UserError(f"{run.text_space} cannot be read: {first_line(error)}") from error
    condition = conditioned(make, config, space.dim)
    denoiser = make("model", dim=space.dim, estimates=estimates, **told_to(condition))
    parts = given({name: make(name) for name in PARTS} | {"condition": condition})
    model = make("route", denoiser=denoiser, text_space=space, max_length=longest, **parts)
    return fitted(model, weights, checkpoint)


def restore_classifier(checkpoint: Path) -> tuple[Classifier, Config]:
    """The classifier of a checkpoint, with its averaged weights, and its configuration."""
    config, weights, _ = load(checkpoint)
    if config["route"].get("component") != Classifier.__name__ or "leave.weight" not in weights:
        run = Run.of_checkpoint(checkpoint).directory
        raise UserError(f"sampler.classifier={run} is none: python train.py model=classifier run=RUN trains one")
    dim = weights["leave.weight"].shape[-1]

    def build() -> Classifier:
        denoiser = assemble(config, "model", dim=dim)
        return assemble(config, "route", denoiser=denoiser, values=config.get("attributes"), dim=dim)

    with torch.device("meta"), at_most(len(weights)):
        check_shapes({"route": ("", build())}, weights)
    return fitted(build(), weights, checkpoint), config


def fitted(model: M, weights: dict[str, torch.Tensor], checkpoint: Path) -> M:
    """A model with the weights of a checkpoint; refuses those of another."""
    if difference := misfit(weights, model.state_dict()):
        raise UserError(
            f"{checkpoint} does not fit the model that this version makes of its configuration: {difference}"
        )
    model.load_state_dict(weights)
    return model.eval()


def corpus_of(config: Config, cache_dir: str, dir: str | None = None) -> TextDataModule:
    """The corpus of a training, which now lies in `dir`, or where it did."""
    data = config.get("data")
    moved = {"data": data | {"dir": dir}} if dir is not None and isinstance(data, dict) else {}
    return assemble(config | moved, "data", cache_dir=cache_dir)


def conditioned(make: Make, config: Config, dim: int) -> Condition | None:
    """The condition that a model over x_0 of `dim` channels is told, if it is one that is told anything."""
    return make("condition", values=config.get("attributes"), dim=dim) if config.get("condition") else None


def told_to(condition: Condition | None) -> dict[str, int]:
    """What a denoiser has to know of a condition."""
    return {} if condition is None else {"told": condition.width}


def check_sizes(
    make: Make, recipe: SpaceRecipe, weights: dict[str, torch.Tensor], estimates: int, config: Config
) -> None:
    """Refuse a configuration of other sizes than the weights, before memory is taken for them."""
    spaces = [tensor.shape for name, tensor in weights.items() if name.startswith("text_space.")]
    if not any(recipe.dim in shape for shape in spaces):
        raise UserError(f"text_space: the weights are of no space of {recipe.dim} channels")
    with torch.device("meta"), at_most(len(weights)):
        condition = conditioned(make, config, recipe.dim)
        denoiser = make("model", dim=recipe.dim, estimates=estimates, **told_to(condition))
    told = {} if condition is None else {"condition": ("condition.", condition)}
    check_shapes({"model": ("denoiser.", denoiser)} | told, weights)


def check_shapes(parts: Mapping[str, tuple[str, torch.nn.Module]], weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse parts, each by its node's name, whose parameters are not of the shapes of the weights of its prefix."""
    for node, (prefix, part) in parts.items():
        for name, parameter in part.named_parameters():
            stored = weights.get(f"{prefix}{name}")
            if stored is None or stored.shape != parameter.shape:
                raise UserError(f"{node}: the weights do not fit: {name} would have shape {tuple(parameter.shape)}")


@contextmanager
def at_most(parameters: int) -> Iterator[None]:
    """Inside, whatever is built may have so many parameters; a ValueError ends it beyond that."""
    names = []

    def count(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        names.append(name)
        if len(names) > parameters:
            raise ValueError("it has more parameters than the checkpoint")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def as_data(node: Any) -> Any:
    """A configuration with the import path of each component reduced to its name."""
    if isinstance(node, dict):
        data = {key: as_data(value) for key, value in node.items() if key != "_target_"}
        named = {"component": str(node["_target_"]).rpartition(".")[2]} if "_target_" in node else {}
        return named | data
    return [as_data(item) for item in node] if isinstance(node, list) else node


def assemble(config: Config, node: str, **arguments: Any) -> Any:
    """The component that a node names, built from its arguments and some more; one clear line if it cannot be."""
    try:
        if node in PARTS and config[node] is None:
            return None
        described = config[node].items()
        plain = {name: assemble(config[node], name) if is_component(value) else value for name, value in described}
        component = components()[plain.pop("component")]
        return component(**plain, **arguments)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        told = first_line(error)
        named = told.startswith(f"{node}.")
        raise UserError(told if named else f"{node}: cannot be built from {config.get(node)}: {told}") from error


def is_component(node: Any) -> bool:
    return isinstance(node, dict) and "component" in node


@cache
def components() -> dict[str, type]:
    """Every class of this package that implements a contract, by name."""
    for module in pkgutil.walk_packages(diffusion_text.__path__, "diffusion_text."):
        importlib.import_module(module.name)

    def implementations(contract: type) -> list[type]:
        children: list[type] = contract.__subclasses__()
        return [contract] + [cls for child in children for cls in implementations(child)]

    classes = [cls for contract in CONTRACTS for cls in implementations(contract)]
    return {cls.__name__: cls for cls in classes if cls.__module__.startswith("diffusion_text.")}
