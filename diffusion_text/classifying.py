"""A classifier of a finished run's noise, from its configuration; and what it leads samples of that run to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from diffusion_text.building import named_class, set_names
from diffusion_text.checkpoints import Config, Make, components, is_component, restore_classifier, restored
from diffusion_text.data.base import Encoder, TextDataModule
from diffusion_text.errors import UserError
from diffusion_text.exports import identity
from diffusion_text.models.classifier import Classifier, Source, Steering
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.runs import find_checkpoint
from diffusion_text.values import number, or_null, whole, words

TAKEN = ("data", "text_space", "tokenizer", "schedule")  # of the run that is read
OWN = ("data.batch_size", "data.num_workers", "data.num_proc", "data.eval_texts", "data.dir")


class Read(NamedTuple):
    """The run that a classifier reads."""

    model: TextDiffusion
    config: Config


def read_by(cfg: DictConfig) -> Read | None:
    """The run that this training reads the noise of, where it is that of a classifier."""
    run = or_null(words, cfg.run, "run")
    if not issubclass(named_class(cfg, "route"), Classifier):
        if run is not None:
            raise UserError(f"run={run} is for model=classifier to read: leave it out, or go on with a run by resume=")
        return None
    if run is None:
        raise UserError("model=classifier reads the noise of a finished run: name it with run=RUN")
    for name in sorted(set_names()):
        if name.partition(".")[0] in TAKEN and name not in OWN:
            raise UserError(f"{name}= is that of the run that model=classifier reads: leave it out")
    model, config, _ = restored(find_checkpoint(run, None, ""))
    if not isinstance(model, TextDiffusion):
        raise UserError(f"run={run} is a {type(model).__name__}, which has no noise to read: choose one that diffuses")
    return Read(model, config)


def reading(cfg: DictConfig, config: Config) -> DictConfig:
    """A classifier's configuration with the corpus, the text space and the schedule of the run that it reads."""
    own = {name: OmegaConf.select(cfg, name) for name in OWN}
    cfg = cfg.copy()
    with open_dict(cfg):
        for name in TAKEN:
            cfg[name] = with_class(config.get(name))
        for name, value in own.items():
            if value is not None:
                OmegaConf.update(cfg, name, value)
    return cfg


def with_class(node: Any) -> Any:
    """A configuration with each component by its import path."""
    if not isinstance(node, Mapping):
        return node
    plain = {name: with_class(value) for name, value in node.items() if name != "component"}
    if not is_component(node):
        return plain
    known = components()[node["component"]]
    return {"_target_": f"{known.__module__}.{known.__qualname__}"} | plain


def compose_classifier(make: Make, read: Read, data: TextDataModule, optimisation: dict[str, Any]) -> Classifier:
    """The training of a classifier on a run's corpus."""
    if data.tells != "attributes":
        raise UserError("model=classifier reads attributes, and the corpus of that run has none: train it on data=e2e")
    space = read.model.text_space
    data.prepare(space.tokenizer, cast(Encoder, space) if space.encodes_ahead else None)
    denoiser = make("model", dim=space.dim)
    parts = {"values": data.attributes, "dim": space.dim, "time_sampling": make("time_sampling")}
    source = Source(read.model.requires_grad_(False))
    classifier = make("route", denoiser=denoiser, source=source, **parts, **optimisation)
    classifier.count(data.splits["train"]["told"])
    return classifier


def guide(settings: DictConfig, config: Config) -> Steering | None:
    """The classifier that sample.py was told to steer with a run of this configuration; towards what comes later."""
    run = or_null(words, settings.classifier, "sampler.classifier")
    scale = number(settings.classifier_scale, "sampler.classifier_scale", least=0)
    steps = whole(settings.classifier_steps, "sampler.classifier_steps", 1)
    if run is None:
        return None
    classifier, own = restore_classifier(find_checkpoint(run, None, ""))
    if own.get("reads") != identity(config):
        raise UserError(
            f"sampler.classifier={run} reads another run's noise: train one of this, model=classifier run=RUN"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Steering(classifier.to(device), scale, steps)
