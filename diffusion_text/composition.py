"""From a configuration to objects. Below here: plain arguments, no configuration travels."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import datasets
import torch
import transformers
from lightning import Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf, open_dict

from diffusion_text.building import build, named_class, refusing
from diffusion_text.cache import default_cache
from diffusion_text.callbacks.checkpoints import SealedCheckpointIO
from diffusion_text.checkpoints import (
    PARTS,
    Make,
    as_data,
    assemble,
    components,
    conditioned,
    corpus_of,
    estimates_read,
    given,
    restored,
    told_to,
)
from diffusion_text.classifying import compose_classifier, guide
from diffusion_text.data.base import TextDataModule
from diffusion_text.data.excerpts import from_all_over
from diffusion_text.data.sampling import steps_per_epoch
from diffusion_text.diffusion.samplers import DDIMSampler, GaussianSampler, Sampler
from diffusion_text.environment import environment
from diffusion_text.exports import identity
from diffusion_text.inheriting import Read, inheriting, read_by
from diffusion_text.models.classifier import Classifier
from diffusion_text.models.distillation import Distilled
from diffusion_text.models.optimisation import tried
from diffusion_text.models.space_recipes import SpaceRecipe
from diffusion_text.models.text_autoencoder import TextAutoencoder
from diffusion_text.models.trained_spaces import TrainedSpace
from diffusion_text.models.writing import Writer, check_sampler
from diffusion_text.recorded import write_record
from diffusion_text.refusals import (
    check_attributes,
    check_launch,
    check_length,
    check_monitors,
    check_parts,
    check_renewed,
    check_route,
    check_stream,
    check_texts,
    is_autoencoder,
)
from diffusion_text.runs import EXPORTED, Run, find_checkpoint
from diffusion_text.settings import check_machine, check_sections, lightning_values, own_values
from diffusion_text.storage import is_stored, replacing_directory, write_json, write_text
from diffusion_text.tasks.session import Session
from diffusion_text.tensors import read_tensors
from diffusion_text.values import or_null, words

MACHINERY = (
    "trainer",
    "logger",
    "callbacks",
    "cache_dir",
    "run_dir",
    "preflight",
    "resume",
    "objective",
    "report",
)  # not what a model is


@dataclass
class Training:
    """Everything that a training needs, built."""

    model: Writer | TextAutoencoder | Classifier
    data: TextDataModule
    trainer: Trainer
    sampler: Sampler
    num_samples: int
    seed: int
    preflight: str
    report: dict[str, int]
    compiled: bool
    run: Run
    step: int  # that it goes on from


def compose_training(cfg: DictConfig) -> Training:
    """Build a training from its configuration. What makes no sense is refused before data is touched."""
    quiet_libraries()
    asked = cfg
    with refusing(""):
        read = read_by(cfg)
        cfg = cfg if read is None else inheriting(cfg, read)
        check_sections(cfg)
        check_route(cfg)
        check_machine(cfg)
        run = Run(Path(words(cfg.run_dir, "run_dir")))
        own, limits = own_values(cfg), lightning_values(cfg.trainer)
        config = {name: node for name, node in plain(cfg).items() if name not in MACHINERY}
    last = read_tensors(run.last) if is_stored(run.last) else {}
    began = last.get("hyper_parameters", {})
    check_renewed(config, began, run)
    make: Make = partial(build, cfg)
    sampler = make("sampler")
    check_sampler(named_class(cfg, "route"), type(sampler))
    recipe = make("text_space")
    data = make("data", cache_dir=cfg.cache_dir or default_cache())
    check_length(data, recipe)
    check_stream(cfg, data, recipe, limits)
    check_attributes(cfg, data)
    optimisation = make_optimisation(make) | {"seed": own["seed"]}
    seed_everything(own["seed"], workers=True, verbose=False)
    trainer = build_trainer(cfg, limits)
    check_launch(trainer)
    device = trainer.strategy.root_device
    model: Writer | TextAutoencoder | Classifier
    if is_autoencoder(cfg):
        model = compose_autoencoder(make, recipe, data, optimisation)
    elif issubclass(named_class(cfg, "route"), Classifier):
        assert read is not None
        model = compose_classifier(make, read, recipe, data, optimisation, device)
    else:
        owner = run if read is None or last else read.run
        kept = owner.text_space if (last or read) and recipe.kept and owner.text_space.is_dir() else None
        model = compose_diffusion(cfg, make, recipe, data, optimisation, device, kept)
        if isinstance(model, Distilled):
            assert read is not None
            teach(model, read)
    batches = trainer.world_size * trainer.accumulate_grad_batches
    texts_per_step = data.texts_per_batch(batches) * batches
    facts = {"corpus": data.digest, "texts_per_step": texts_per_step}
    told = cfg.get("condition") is not None or isinstance(model, Classifier)
    facts |= {"attributes": data.attributes} if told else {}
    facts |= {} if read is None else {"reads": identity(read.config)}
    check_texts(facts, began, run)
    limit_steps(trainer, steps_per_epoch(len(data.splits["train"]), texts_per_step), limits)
    model.save_hyperparameters(config | facts)
    if trainer.is_global_zero:
        if recipe.kept and isinstance(model, Writer) and not last:
            with replacing_directory(run.text_space) as directory:
                model.text_space.save(directory)
        if last or not run.changes.is_file():
            write_record(asked, run)
        if read is not None:
            write_text(run.config, OmegaConf.to_yaml(cfg, resolve=True))
        write_json(run.environment, environment())
    return Training(model, data, trainer, sampler, run=run, step=last.get("global_step", 0), **own)


def compose_diffusion(
    cfg: DictConfig,
    make: Make,
    recipe: SpaceRecipe,
    data: TextDataModule,
    optimisation: dict[str, Any],
    device: torch.device,
    kept: Path | None,
) -> Writer:
    """A model that writes, over `data`, which is tokenised here, and encoded where nothing of that is trained; in the
    text space that lies in `kept`, if the run has one already.
    """
    parts = {name: make(name) for name in PARTS}
    check_parts(cfg, parts)
    condition = conditioned(make, {"condition": cfg.get("condition"), "attributes": data.attributes}, recipe.dim)
    denoiser = make("model", dim=recipe.dim, estimates=estimates_read(cfg.route), **told_to(condition))
    space = recipe.load(kept) if kept else recipe.build(data)
    recipe.prepare(data, space, device)
    longest = len(data.statistics["length_counts"]) - 1
    parts["condition"] = condition
    model = make("route", denoiser=denoiser, text_space=space, max_length=longest, **given(parts), **optimisation)
    model.set_statistics(**data.statistics)
    if condition is not None:
        texts = from_all_over(data.splits["train"], condition.remembers)
        condition.remember({name: list(texts[name]) for name in texts.column_names}, space)
        if condition.reads is not None:
            model.told_counts = condition.counts(data.splits["train"]["told"])
    return model


def teach(student: Distilled, read: Read) -> None:
    """Let a student learn from a finished run to go the way of that run's sampler, without its noise."""
    own = cast(GaussianSampler, assemble(read.config, "sampler"))
    steps, settings = student.steps * student.stride, {"score_temperature": own.score_temperature}
    student.learn_from(read.model, DDIMSampler(steps, own.clip, own.spacing, **settings))


def compose_autoencoder(
    make: Make, recipe: TrainedSpace, data: TextDataModule, optimisation: dict[str, Any]
) -> TextAutoencoder:
    """The training of a text space by itself."""
    autoencoder = recipe.start(data)
    data.prepare(autoencoder.tokenizer)
    return make("route", autoencoder=autoencoder, **recipe.objective, **optimisation)


def compose_task(cfg: DictConfig) -> tuple[Callable[[Session], None], Session]:
    """What sample.py was asked to do, and the trained model to do it with."""
    quiet_libraries()
    with refusing(""):
        run, ckpt = (or_null(words, cfg[name], name) for name in ("run", "ckpt"))
        outputs, moved = words(cfg.outputs, "outputs"), or_null(words, cfg.data.dir, "data.dir")
        checkpoint = find_checkpoint(run, ckpt, outputs)
        own = {key: value for key, value in cfg.sampler.items() if not str(key).startswith("classifier")}
        changes = as_data({key: value for key, value in own.items() if value != "run"})
    task = build(cfg, "task")
    model, config, step = restored(checkpoint)
    judge = getattr(task, "judge", None)
    judged_by = None if judge is None else restored(find_checkpoint(judge, None, outputs))[0]
    kept = config.get("sampler") or {}
    if "component" in changes:
        kept = {key: value for key, value in kept.items() if key in cfg.sampler}
        check_sampler(type(model), components().get(changes["component"], Sampler))
    config |= {"sampler": kept | changes}
    sampler = assemble(config, "sampler")
    cache_dir = cfg.cache_dir or default_cache()
    with refusing(""):
        steering = guide(cfg.sampler, config)
        place = or_null(words, cfg.out, "out")
        if place is None and checkpoint.name == EXPORTED:  # which stays as it was written
            place = f"{outputs}/samples/{Path(run or checkpoint.parent).absolute().name}"
        session = Session(
            model=model,
            sampler=sampler,
            run=Run.of_checkpoint(checkpoint),
            step=step,
            seed=cfg.seed,
            num_samples=cfg.num_samples,
            length=cfg.length,
            text=cfg.text,
            temperature=cfg.temperature,
            condition={str(name): value for name, value in cfg.condition.items()},
            conditions=cfg.conditions,
            batch_size=cfg.batch_size,
            out=None if place is None else Path(place),
            data=lambda: corpus_of(config, cache_dir, moved),
            config=config,
            judged_by=judged_by,
            guide=steering,
        )
    return task, session


def build_trainer(cfg: DictConfig, limits: dict[str, Any]) -> Trainer:
    """Lightning's Trainer with this run's loggers and callbacks, for `limit_steps` to tell how long and how often."""
    callbacks = {name: build(cfg, f"callbacks.{name}") for name in cfg.callbacks if cfg.callbacks[name]}
    check_monitors(cfg, callbacks)
    settings = limits | {
        "max_epochs": -1,
        "val_check_interval": 1,
        "check_val_every_n_epoch": None,
        "use_distributed_sampler": False,
        "default_root_dir": cfg.run_dir,
        "logger": [build(cfg, f"logger.{name}") for name in cfg.logger if cfg.logger[name]],
        "callbacks": [*callbacks.values()],
        "plugins": [SealedCheckpointIO()],
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
    }
    lightnings = cfg.copy()
    with open_dict(lightnings):
        lightnings.trainer.pop("compile", None)
    return build(lightnings, "trainer", **settings)


def limit_steps(trainer: Trainer, epoch: int, limits: dict[str, Any]) -> None:
    """Limit training, and the way to the next validation, in steps: however many batches make one, and with so many in
    an epoch. All of training is one epoch of Lightning's.
    """
    numbers = (limits["max_steps"], epoch * limits["max_epochs"])
    trainer.fit_loop.epoch_loop.max_steps = min(number for number in numbers if number > 0)
    interval = limits["val_check_interval"]
    steps = interval if isinstance(interval, int) else max(1, round(interval * epoch))
    trainer.val_check_interval = steps * trainer.accumulate_grad_batches


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as data, components by their names."""
    return as_data(OmegaConf.to_container(cfg, resolve=True))


def make_optimisation(make: Make) -> dict[str, Any]:
    """Optimizer and schedule; what is wrong with them is found now rather than when training starts."""
    optimizer, schedule = make("optimizer"), make("lr_schedule")
    with refusing("optimizer"):
        one = tried(optimizer)
    with refusing("lr_schedule"):
        if schedule is not None:
            schedule(optimizer=one, num_training_steps=1)
    return {"optimizer": optimizer, "lr_schedule": schedule}


def quiet_libraries() -> None:
    """Keep the libraries' chatter out of the log: Lightning's tips, and bars where nobody watches."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for old in ("LeafSpec", "all_gather"):
        warnings.filterwarnings("ignore", f".*{old}.* is deprecated")  # Lightning 2.6 with torch 2.13
    transformers.utils.logging.disable_progress_bar()  # saving and loading take no time worth a bar
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # a resumed run's own
    warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")  # the latents are cached
    warnings.filterwarnings("ignore", "Your `IterableDataset` has `__len__` defined")  # it is right
    warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval")
    datasets.disable_progress_bars()  # ours are shown
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # its errors are raised as well
