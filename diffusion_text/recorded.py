"""A run's own record of its settings: choices of groups and plain values. Nothing else of it is ever obeyed."""

from __future__ import annotations

import re
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

from diffusion_text.errors import UserError
from diffusion_text.runs import Run
from diffusion_text.storage import read_json, write_json, write_text

CONF = Path(__file__).parent.parent / "conf"
PRESETS = ("experiment", "sweep")  # groups that are nothing but values and choices of other groups
PLACES = ("run_dir", "cache_dir", "resume", "name")  # where a run lies, which is for those to say who go on with it
NAME = re.compile(r"[a-z]\w*(\.[A-Za-z0-9]\w*)*")
OPTION = re.compile(r"\w+(/\w+)*")
WRITTEN_TO = re.compile(r"(run|save|root|output|log)_?dir|dirpath|filename|.*_root_dir")
Overrides = list[str]


def write_record(cfg: Any, run: Run) -> None:
    """Keep the resolved configuration, what of it differs from the defaults, and what was asked for."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    job = HydraConfig.get()
    write_text(run.config, OmegaConf.to_yaml(cfg, resolve=True))
    write_json(run.changes, changes(cfg))
    given = [str(override) for override in job.overrides.task]
    if cfg.resume is not None:
        earlier = list(map(str, OmegaConf.load(run.overrides))) if run.overrides.is_file() else []
        given = earlier + given[[override.startswith("resume=") for override in given].index(True) + 1 :]
    write_text(run.overrides, OmegaConf.to_yaml(OmegaConf.create(given)) if given else "[]\n")
    choices = {"hydra": {"runtime": {"choices": dict(job.runtime.choices)}}}
    write_text(run.choices, OmegaConf.to_yaml(OmegaConf.create(choices)))


def is_recorded(cfg: Any, run: Run) -> bool:
    """Whether a run's record is of this configuration."""
    return run.changes.is_file() and read_json(run.changes, {}) == changes(cfg)


def changes(cfg: Any) -> dict[str, Any]:
    """What was chosen that is not the default: groups, then values other than those that come with the groups."""
    from hydra.core.hydra_config import HydraConfig

    chosen = HydraConfig.get().runtime.choices
    chosen = {name: option for name, option in chosen.items() if not name.startswith("hydra/")}
    usual = composed_with().hydra.runtime.choices
    groups = {name: option for name, option in chosen.items() if name in usual and option != usual[name]}
    with_them = composed_with(**groups).hydra.runtime.choices
    groups |= {name: option for name, option in chosen.items() if option != with_them.get(name, option)}
    beside = composed_with(**groups)
    given = [*flat_values(beside).items()]
    values = flat_values(cfg, resolve=True)
    names = [name for name, value in flat_values(cfg).items() if (name, value) not in given and "_target_" not in name]
    left_out = {
        f"{part}.{name}": None for part in ("callbacks", "logger") for name in beside[part] if name not in cfg[part]
    }
    return groups | {name: values[name] for name in names if not name.startswith(PLACES)} | left_out


@cache
def composed_with(**groups: str) -> Any:
    """The configuration, Hydra's own with it, of a training of which only these groups were chosen; to be read only."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    plain = [f"{name}={option}" for name, option in groups.items() if name not in PRESETS]
    started = GlobalHydra.instance().is_initialized()
    with nullcontext() if started else initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", plain, return_hydra_config=True)


def flat_values(node: Any, resolve: bool = False) -> dict[str, Any]:
    """Values by dotted name; interpolations as they are written, unless they are to be resolved."""
    from omegaconf import OmegaConf

    def walk(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {name: value}
        return {k: v for key, item in value.items() for k, v in walk(item, f"{name}.{key}".lstrip(".")).items()}

    return walk(OmegaConf.to_container(node, resolve=resolve), "")


def read_record(run: Run) -> Overrides:
    """The overrides that make a run's configuration again; raises UserError where its record has anything else."""
    if run.exported.is_file():
        raise UserError(f"resume={run.directory} is an export, which has nothing to go on from: resume the run itself")
    if not run.changes.is_file():
        raise UserError(
            f"resume={run.directory} is no run: it has no {run.changes.name}; runs lie in outputs/DATE/TIME-NAME"
        )
    kept: dict[str, Any] = read_json(run.changes, {})
    overrides = [override(name, value, run) for name, value in kept.items()]
    return sorted(overrides, key=lambda override: override.startswith("++"))  # groups first


def override(name: str, value: Any, run: Run) -> str:
    """A recorded choice or value in Hydra's syntax."""
    group = CONF / name.partition("@")[0]
    if NAME.fullmatch(name.partition("@")[0]) and group.is_dir():
        if isinstance(value, str) and OPTION.fullmatch(value):
            return f"{name}={value}"
    elif NAME.fullmatch(name) and not name.startswith("hydra") and not WRITTEN_TO.fullmatch(name.rpartition(".")[2]):
        with suppress(ValueError):
            return f"++{name}={literal(value)}"
    raise UserError(f"{run.changes} says {name}={value}, which no run may set: delete it there")


def literal(value: Any) -> str:
    """A plain value in Hydra's syntax; in a string no character means anything. Raises ValueError for other values."""
    if isinstance(value, str):
        text = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", value)
        text = re.sub(r"(\\+)(?='|$)", lambda found: 2 * found[1], text).replace("'", r"\'")
        return f"'{text}'"
    if isinstance(value, list):
        return f"[{','.join(map(literal, value))}]"
    if isinstance(value, dict) and all(map(NAME.fullmatch, value)):
        return f"{{{','.join(f'{key}:{literal(item)}' for key, item in value.items())}}}"
    if value is None or isinstance(value, (bool, int, float)):
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    raise ValueError(f"{value} is no plain value")
