"""Settings that no class of this project has: those of a training itself, and Lightning's."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from diffusion_text.errors import UserError
from diffusion_text.values import flag, number, one_of, or_null, seed_number, whole, words, written

SECTIONS = ("callbacks", "data", "logger", "objective", "report", "route", "text_space", "trainer")
REPORT = ("quality", "frontier", "garbled", "trace_steps", "control")
MOST_DEVICES = 1_024
LEAST = {"max_steps": -1, "max_epochs": -1, "accumulate_grad_batches": 1, "log_every_n_steps": 1}


def check_sections(cfg: DictConfig) -> None:
    """Refuse a configuration in which a value, or nothing, stands for a group of settings."""
    for name in SECTIONS:
        if not OmegaConf.is_dict(cfg.get(name)):
            raise ValueError(f"{name}={written(cfg.get(name))} is no group of settings")


def own_values(cfg: DictConfig) -> dict[str, Any]:
    """The settings that no class has."""
    for name in cfg.report:
        one_of(name, "report", REPORT)
    report = {name: whole(cfg.report[name], f"report.{name}") for name in REPORT}
    if report["trace_steps"] == 1:
        raise ValueError("report.trace_steps=1 is no way: use 2 or more, or 0 for no trace")
    one_of(cfg.objective.direction, "objective.direction", ("maximize", "minimize"))
    words(cfg.objective.metric, "objective.metric")
    return {
        "num_samples": whole(cfg.num_samples, "num_samples"),
        "seed": seed_number(cfg.seed, "seed"),
        "preflight": one_of(cfg.preflight, "preflight", ("stop", "warn", "only", "off")),
        "report": report,
        "compiled": flag(cfg.trainer.get("compile", False), "trainer.compile"),
    }


def lightning_values(trainer: DictConfig) -> dict[str, Any]:
    """Those of Lightning's settings that it, or this project, computes with."""
    values: dict[str, Any] = {name: whole(trainer[name], f"trainer.{name}", least) for name, least in LEAST.items()}
    if values["max_epochs"] < 1 and values["max_steps"] < 1:
        raise ValueError("trainer.max_steps and trainer.max_epochs are both unlimited: set one of them")
    interval = trainer.val_check_interval
    check = partial(number, above=0) if isinstance(interval, float) else partial(whole, least=1)
    values["val_check_interval"] = check(interval, "trainer.val_check_interval")
    if isinstance(trainer.devices, (int, float)):
        values["devices"] = whole(trainer.devices, "trainer.devices", -1, MOST_DEVICES)
    if "num_nodes" in trainer:
        values["num_nodes"] = whole(trainer.num_nodes, "trainer.num_nodes", 1)
    values["gradient_clip_val"] = or_null(number, trainer.gradient_clip_val, "trainer.gradient_clip_val", least=0)
    return values


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
