"""From a node of the configuration to an object; whatever a wrong value raises becomes one line that names the node."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from diffusion_text.checkpoints import PARTS
from diffusion_text.conditions.base import Condition
from diffusion_text.data.base import TextDataModule
from diffusion_text.denoisers.base import Denoiser
from diffusion_text.diffusion.losses import Loss, Weighting
from diffusion_text.diffusion.predictions import Prediction
from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.diffusion.schedules import NoiseSchedule
from diffusion_text.diffusion.time_sampling import TimeSampling
from diffusion_text.errors import UserError, first_line
from diffusion_text.models.base import Trained
from diffusion_text.models.space_recipes import SpaceRecipe
from diffusion_text.values import instance, words

log = logging.getLogger(__name__)
TOLD = (ValueError, TypeError, MisconfigurationException, HydraException, OmegaConfBaseException)  # say what is wrong
KINDS: dict[str, type] = {
    "callbacks": Callback, "condition": Condition, "data": TextDataModule, "logger": Logger, "loss": Loss,
    "model": Denoiser, "prediction": Prediction, "route": Trained, "sampler": Sampler, "schedule": NoiseSchedule,
    "text_space": SpaceRecipe, "time_sampling": TimeSampling, "trainer": Trainer, "weighting": Weighting,
}  # fmt: skip  # what a group's options make


def build(cfg: DictConfig, name: str, **arguments: Any) -> Any:
    """The component that a node of the configuration describes."""
    with refusing(name):
        made = instantiate(OmegaConf.select(cfg, name), **arguments)
        kind = KINDS.get(name.partition(".")[0])
        left_out = made is None and name in PARTS
        return made if kind is None or left_out else instance(made, name, kind)


def named_class(cfg: DictConfig, name: str) -> Any:
    """The class that a node of the configuration names, which is of its group's kind."""
    with refusing(name):
        target, kind = words(cfg[name].get("_target_"), f"{name}._target_"), KINDS[name]
        module, _, called = target.rpartition(".")
        if not module:
            raise ValueError(f"{name}._target_={target} is not a class with its module")
        found = getattr(import_module(module), called)
        if not (isinstance(found, type) and issubclass(found, kind)):
            raise ValueError(f"{name}._target_={target} is not a {kind.__name__}")
        return found


def set_names() -> set[str]:
    """The groups and settings that the command line names."""
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task)  # unresolved: these are strings
    return {str(override).partition("=")[0] for override in cast(list, overrides)}


@contextmanager
def refusing(node: str) -> Iterator[None]:
    """Inside, whatever a wrong value raises becomes a UserError that names the node, unless it names the setting."""
    try:
        yield
    except (NameError, AssertionError):
        raise  # no value is to blame for these
    except Exception as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        key = re.search(r"full_key: (\S+)", str(error))
        place, told = key[1] if key else node, first_line(cause)
        if not isinstance(cause, TOLD):
            told = f"{type(cause).__name__}: {told} (hydra.verbose=diffusion_text shows where)"
            log.debug("%s", place, exc_info=error)
        names_it = not place or told.startswith((f"{place}.", f"{place}="))
        raise UserError(told if names_it else f"{place}: {told}") from error
