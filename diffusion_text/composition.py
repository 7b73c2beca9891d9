"""From a configuration to objects, and from a checkpoint's configuration to a model. Below here: plain arguments.

A checkpoint holds its configuration as data, in which a component is a name and its arguments. Names are looked up
among the classes that implement this package's contracts; nothing else that a checkpoint says is ever imported.
"""

from __future__ import annotations

import importlib
import logging
import pickle
import pkgutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import platformdirs
import torch
import transformers
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

import diffusion_text
from diffusion_text.data.base import TextDataModule
from diffusion_text.denoisers.base import Denoiser
from diffusion_text.diffusion.losses import CosineMagnitudeLoss, Loss, MinSNRWeighting, Weighting
from diffusion_text.diffusion.predictions import Prediction
from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.diffusion.schedules import NoiseSchedule
from diffusion_text.diffusion.time_sampling import TimeSampling
from diffusion_text.errors import UserError
from diffusion_text.models.latent_diffusion import LatentDiffusion
from diffusion_text.models.space_recipes import BartPretrained, SpaceRecipe
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.runs import Run, find_checkpoint
from diffusion_text.tasks.session import Session
from diffusion_text.text_spaces.bart import BartSpace

CONTRACTS = (
    TextDataModule, SpaceRecipe, TextDiffusion, Denoiser, NoiseSchedule, Prediction, Loss, Weighting, TimeSampling,
    Sampler,
)  # fmt: skip
PARTS = ("schedule", "prediction", "loss", "weighting", "time_sampling")
MACHINERY = ("trainer", "logger", "callbacks", "cache_dir", "run_dir", "preflight", "resume")  # not what a model is


@dataclass
class Training:
    """Everything that a training needs, built."""

    model: LatentDiffusion
    data: TextDataModule
    trainer: Trainer
    sampler: Sampler
    num_samples: int
    seed: int
    preflight: str
    run: Run


def compose_training(cfg: DictConfig) -> Training:
    """Build a training from its configuration. What makes no sense is refused before data is touched."""
    run = Run(Path(cfg.run_dir))
    quiet_libraries()
    check_machine(cfg)
    if cfg.cache_dir is None:
        cfg.cache_dir = default_cache()
    parts = {name: build(cfg, name) for name in PARTS}
    sampler = build(cfg, "sampler")
    recipe = build(cfg, "text_space")
    data = build(cfg, "data", cache_dir=cfg.cache_dir)
    check_parts(cfg, parts, recipe, data)
    seed_everything(cfg.seed, workers=True, verbose=False)
    denoiser = build_denoiser(cfg, recipe.dim)
    trainer = build_trainer(cfg)

    space = recipe.build(data)
    data.prepare(space.tokenizer, space)
    if not isinstance(recipe, BartPretrained):
        space.save(run.text_space)
    optimizer = {name: build(cfg, name) for name in ("optimizer", "lr_schedule")}
    model = build(cfg, "route", denoiser=denoiser, text_space=space, max_length=data.length, **parts, **optimizer)
    model.set_statistics(**data.statistics)
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    OmegaConf.save(OmegaConf.create(config), run.config)
    model.save_hyperparameters({name: as_data(node) for name, node in config.items() if name not in MACHINERY})
    return Training(model, data, trainer, sampler, cfg.num_samples, cfg.seed, cfg.preflight, run)


def compose_task(cfg: DictConfig) -> tuple[Callable[[Session], None], Session]:
    """What sample.py was asked to do, and the trained model to do it with."""
    quiet_libraries()
    checkpoint = find_checkpoint(cfg.run, cfg.ckpt, cfg.outputs)
    task = build(cfg, "task")
    stored = load(checkpoint)
    trained = DictConfig(as_config(stored["hyper_parameters"]))
    changes = {key: value for key, value in cfg.sampler.items() if value != "run"}
    if "_target_" in changes:
        trained.sampler = {key: value for key, value in trained.sampler.items() if key in cfg.sampler}
    trained.sampler.merge_with(changes)
    session = Session(
        model=restore(checkpoint, stored, trained),
        sampler=build(trained, "sampler"),
        run=Run.of_checkpoint(checkpoint),
        step=stored["global_step"],
        seed=cfg.seed,
        num_samples=cfg.num_samples,
        length=cfg.length,
        text=cfg.text,
        data=lambda: build(trained, "data", cache_dir=cfg.cache_dir or default_cache()),
    )
    return task, session


def load(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's content: tensors and plain values, nothing that could run."""
    try:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{checkpoint} is not a checkpoint: {first_line(error)}") from error
    if not isinstance(stored, dict) or "hyper_parameters" not in stored:
        raise UserError(f"{checkpoint} is not a checkpoint of this project: it holds no configuration")
    return stored


def restore(checkpoint: Path, stored: dict[str, Any], cfg: DictConfig) -> LatentDiffusion:
    """The model of a checkpoint, with its averaged weights."""
    run = Run.of_checkpoint(checkpoint)
    pretrained = run.text_space if run.text_space.is_dir() else cfg.text_space.get("pretrained")
    if pretrained is None:
        raise UserError(f"{run.text_space} is missing: copy the whole run directory, not only its checkpoint")
    space = BartSpace.from_pretrained(pretrained)
    parts = {name: build(cfg, name) for name in PARTS}
    denoiser = build_denoiser(cfg, space.dim)
    model = build(cfg, "route", denoiser=denoiser, text_space=space, max_length=cfg.data.length, **parts)
    try:
        model.load_state_dict(stored["state_dict"])
    except RuntimeError as error:
        raise UserError(
            f"{checkpoint} was written by another version of this code: sample with that version"
        ) from error
    return model.eval()


def default_cache() -> str:
    """Where this platform keeps caches."""
    return platformdirs.user_cache_dir("diffusion_text")


def build(cfg: DictConfig, name: str, **arguments: Any) -> Any:
    """The component that a node of the configuration describes; a wrong value becomes one clear line."""
    try:
        return instantiate(cfg[name], **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, (ValueError, TypeError, MisconfigurationException)):
            raise UserError(f"{name}: {first_line(cause)}") from error
        raise


def build_denoiser(cfg: DictConfig, dim: int) -> Denoiser:
    """The network for latents of width `dim`."""
    return build(cfg, "model", dim=dim, self_conditioning=cfg.route.self_conditioning > 0)


def build_trainer(cfg: DictConfig) -> Trainer:
    """Lightning's Trainer with this run's loggers and callbacks."""
    settings = {
        "default_root_dir": cfg.run_dir,
        "logger": [build(cfg.logger, name) for name in cfg.logger],
        "callbacks": [build(cfg.callbacks, name) for name in cfg.callbacks if cfg.callbacks[name]],
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
    }
    return build(cfg, "trainer", **settings)


def check_machine(cfg: DictConfig) -> None:
    """Refuse what this machine, or Lightning, cannot do."""
    choices = DictConfig(HydraConfig.get().runtime.choices)
    accelerator, precision = cfg.trainer.accelerator, str(cfg.trainer.get("precision", ""))
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if accelerator in ("gpu", "cuda", "mps") and not has_gpu:
        raise UserError(
            f"trainer={choices.trainer} needs a GPU and there is none: use trainer=cpu (and precision=fp32)"
        )
    if precision.startswith("16") and (accelerator == "cpu" or not has_gpu):
        both = f"precision={choices.precision} needs a GPU and trainer={choices.trainer} has none"
        raise UserError(f"{both}: use precision=bf16 or precision=fp32")
    if cfg.trainer.get("strategy") == "ddp" and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError(
            f"trainer={choices.trainer} in a sweep would run the whole sweep again on every other GPU: "
            "use trainer.strategy=ddp_spawn, or one GPU a job"
        )
    if cfg.preflight not in ("stop", "warn", "only", "off"):
        raise UserError(f"preflight={cfg.preflight} is none of stop, warn, only, off")
    endless = cfg.trainer.get("max_epochs") in (-1, None) and cfg.trainer.max_steps < 1
    if endless:
        raise UserError("trainer.max_steps and trainer.max_epochs are both unlimited: set one of them")


def check_parts(cfg: DictConfig, parts: dict[str, Any], recipe: SpaceRecipe, data: TextDataModule) -> None:
    """Refuse parts that do not fit each other."""
    if data.length > recipe.max_length:
        raise UserError(
            f"data.length={data.length} is more than the {recipe.max_length} positions of "
            f"text_space={HydraConfig.get().runtime.choices['text_space']}: lower data.length"
        )
    if isinstance(parts["loss"], CosineMagnitudeLoss) and isinstance(parts["weighting"], MinSNRWeighting):
        raise UserError(
            "loss=cosine_magnitude has no unit and weighting=min_snr converts units: use weighting=uniform, or loss=mse"
        )
    if not 0 <= cfg.route.self_conditioning <= 1:
        raise UserError(f"route.self_conditioning is a share between 0 and 1, not {cfg.route.self_conditioning}")


def as_data(node: Any) -> Any:
    """A configuration with the import path of each component reduced to its name."""
    if isinstance(node, dict):
        return {
            "component" if key == "_target_" else key: value.rpartition(".")[2] if key == "_target_" else as_data(value)
            for key, value in node.items()
        }
    return [as_data(item) for item in node] if isinstance(node, list) else node


def as_config(node: Any) -> Any:
    """The inverse of `as_data` for this package's components; others, an optimizer for one, stay names."""
    if isinstance(node, list):
        return [as_config(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: as_config(value) for key, value in node.items() if not str(key).startswith("_")}
    component = components().get(plain.pop("component", ""))
    return plain | ({"_target_": f"{component.__module__}.{component.__qualname__}"} if component else {})


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


def quiet_libraries() -> None:
    """Keep the libraries' chatter out of the log: Lightning's tips, and bars where nobody watches."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")  # Lightning 2.6 with torch 2.13
    transformers.utils.logging.disable_progress_bar()  # saving and loading take no time worth a bar
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # a resumed run's own
    warnings.filterwarnings("ignore", "'set_vital' is deprecated")  # torchdata 0.11 with torch 2.13
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
