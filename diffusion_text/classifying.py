"""A classifier of a finished run's noise, from its configuration; and what it leads samples of that run to."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig

from diffusion_text.checkpoints import Config, Make, restore_classifier
from diffusion_text.data.base import TextDataModule
from diffusion_text.errors import UserError
from diffusion_text.exports import identity
from diffusion_text.inheriting import Read
from diffusion_text.models.classifier import Classifier, Source, Steering
from diffusion_text.models.space_recipes import SpaceRecipe
from diffusion_text.runs import find_checkpoint
from diffusion_text.values import number, or_null, whole, words


def compose_classifier(
    make: Make,
    read: Read,
    recipe: SpaceRecipe,
    data: TextDataModule,
    optimisation: dict[str, Any],
    device: torch.device,
) -> Classifier:
    """The training of a classifier on a run's corpus."""
    if data.tells != "attributes":
        raise UserError("model=classifier reads attributes, and the corpus of that run has none: train it on data=e2e")
    space = read.model.text_space
    recipe.prepare(data, space, device)
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
