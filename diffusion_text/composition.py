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
import platformdirs
import torch
import transformers
from hydra.core.hydra_config import HydraConfig
from lightning import Callback, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf

from diffusion_text.building import build, named_class, refusing
from diffusion_text.callbacks.checkpoints import SealedCheckpointIO
from diffusion_text.callbacks.monitoring import check_monitor
from diffusion_text.checkpoints import (
    PARTS,
    Make,
    as_data,
    assemble,
    components,
    conditioned,
    estimates_read,
    given,
    load,
    restore,
    told_to,
)
from diffusion_text.data.base import Encoder, TextDataModule
from diffusion_text.data.sampling import steps_per_epoch
from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.environment import environment
from diffusion_text.errors import UserError
from diffusion_text.models.base import Trained
from diffusion_text.models.diffusion_lm import DiffusionLM
from diffusion_text.models.optimisation import tried
from diffusion_text.models.space_recipes import LearnedSpace, SpaceRecipe, TrainedSpace
from diffusion_text.models.text_autoencoder import TextAutoencoder
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.models.token_models import TokenModel
from diffusion_text.models.writing import Writer
from diffusion_text.recorded import flat_values, write_record
from diffusion_text.runs import Run, find_checkpoint
from diffusion_text.settings import check_machine, check_sections, lightning_values, own_values
from diffusion_text.storage import is_stored, replacing_directory, write_json
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
RENEWED = (
    "name",
    "num_samples",
    "sampler",
    "optimizer",
    "lr_schedule",
    "data.batch_size",
    "data.dir",
    "data.num_workers",
    "data.eval_texts",
)  # what a resumed run may have otherwise, besides the machinery


@dataclass
class Training:
    """Everything that a training needs, built."""

    model: Writer | TextAutoencoder
    data: TextDataModule
    trainer: Trainer
    sampler: Sampler
    num_samples: int
    seed: int
    preflight: str
    report: dict[str, int]
    run: Run
    step: int  # that it goes on from


def compose_training(cfg: DictConfig) -> Training:
    """Build a training from its configuration. What makes no sense is refused before data is touched."""
    quiet_libraries()
    with refusing(""):
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
    check_attributes(cfg, data)
    optimisation = make_optimisation(make) | {"seed": own["seed"]}
    seed_everything(own["seed"], workers=True, verbose=False)
    trainer = build_trainer(cfg, limits)
    model: Writer | TextAutoencoder
    if is_autoencoder(cfg):
        model = compose_autoencoder(make, recipe, data, optimisation)
    else:
        kept = run.text_space if last and recipe.kept and run.text_space.is_dir() else None
        model = compose_diffusion(cfg, make, recipe, data, optimisation, kept)
    texts_per_step = data.batch_size * trainer.world_size * trainer.accumulate_grad_batches
    facts = {"corpus": data.digest, "texts_per_step": texts_per_step}
    facts |= {} if cfg.get("condition") is None else {"attributes": data.attributes}
    check_texts(facts, began, run)
    limit_steps(trainer, steps_per_epoch(len(data.splits["train"]), texts_per_step), limits)
    model.save_hyperparameters(config | facts)
    if trainer.is_global_zero:
        if recipe.kept and isinstance(model, Writer) and not last:
            with replacing_directory(run.text_space) as directory:
                model.text_space.save(directory)
        if last or not run.changes.is_file():
            write_record(cfg, run)
        write_json(run.environment, environment())
    return Training(model, data, trainer, sampler, run=run, step=last.get("global_step", 0), **own)


def compose_diffusion(
    cfg: DictConfig,
    make: Make,
    recipe: SpaceRecipe,
    data: TextDataModule,
    optimisation: dict[str, Any],
    kept: Path | None = None,
) -> Writer:
    """A model that writes, over `data`, which is tokenised here, and encoded where nothing of that is trained; in the
    text space that lies in `kept`, if the run has one already.
    """
    parts = {name: make(name) for name in PARTS}
    check_parts(cfg, parts)
    condition = conditioned(make, data.attributes) if cfg.get("condition") else None
    denoiser = make("model", dim=recipe.dim, estimates=estimates_read(cfg.route), **told_to(condition))
    space = recipe.load(kept) if kept else recipe.build(data)
    data.prepare(space.tokenizer, cast(Encoder, space) if space.encodes_ahead else None)
    longest = len(data.statistics["length_counts"]) - 1
    parts["condition"] = condition
    model = make("route", denoiser=denoiser, text_space=space, max_length=longest, **given(parts), **optimisation)
    model.set_statistics(**data.statistics)
    if condition is not None:
        texts = data.splits["train"].select_columns(["tokens", "told"])
        lengths = torch.tensor([space.latent_length(len(text["tokens"])) for text in texts])
        condition.remember(torch.stack([text["told"] for text in texts]), lengths)
    return model


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
        checkpoint = find_checkpoint(run, ckpt, words(cfg.outputs, "outputs"))
        changes = as_data({key: value for key, value in cfg.sampler.items() if value != "run"})
    task = build(cfg, "task")
    model, config, step = restored(checkpoint)
    judge = getattr(task, "judge", None)
    judged_by = None if judge is None else restored(find_checkpoint(judge, None, cfg.outputs))[0]
    kept = config.get("sampler") or {}
    if "component" in changes:
        kept = {key: value for key, value in kept.items() if key in cfg.sampler}
        check_sampler(type(model), components().get(changes["component"], Sampler))
    sampler = assemble({"sampler": kept | changes}, "sampler")
    cache_dir = cfg.cache_dir or default_cache()
    with refusing(""):
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
            batch_size=cfg.batch_size,
            out=None if cfg.out is None else Path(words(cfg.out, "out")),
            data=lambda: assemble(config, "data", cache_dir=cache_dir),
            judged_by=judged_by,
        )
    return task, session


def restored(checkpoint: Path) -> tuple[Writer, dict[str, Any], int]:
    """The model of a checkpoint, where there is a GPU on that, its configuration, and its step."""
    config, weights, step = load(checkpoint)
    return restore(checkpoint, config, weights).to("cuda" if torch.cuda.is_available() else "cpu"), config, step


def default_cache() -> str:
    """Where this platform keeps caches."""
    return platformdirs.user_cache_dir("diffusion_text")


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
    return build(cfg, "trainer", **settings)


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


def check_renewed(config: dict[str, Any], began: dict[str, Any], run: Run) -> None:
    """Refuse settings that are not those that a run `began` with, unless they are such as can change on the way."""
    before = flat_values(OmegaConf.create(began))
    for name, value in flat_values(OmegaConf.create(config)).items():
        if began and before.get(name) != value and not name.startswith(RENEWED):
            raise UserError(
                f"{run.directory} was trained with {name}={before.get(name)}, which {name}={value} cannot go on from: "
                "leave it as it was, or choose another hydra.run.dir"
            )


def check_texts(facts: dict[str, Any], began: dict[str, Any], run: Run) -> None:
    """Refuse other texts, or another number of them in a step, than those that a run `began` with."""
    if began and began.get("corpus") != facts["corpus"]:
        raise UserError(f"{run.directory} was trained on another corpus: give it that, or choose another hydra.run.dir")
    before, now = began.get("texts_per_step"), facts["texts_per_step"]
    if began and before != now:
        raise UserError(
            f"{run.directory} was trained with {before} texts a step and would go on with {now}: keep "
            "processes × data.batch_size × trainer.accumulate_grad_batches as it was"
        )


def is_autoencoder(cfg: DictConfig) -> bool:
    """Whether a text space is to be trained, rather than a denoiser in it."""
    return named_class(cfg, "route") is TextAutoencoder


def check_sampler(model: type[Trained], sampler: type[Sampler]) -> None:
    """Refuse a sampler that is of another kind of model."""
    if issubclass(model, Writer) and not issubclass(sampler, model.takes):
        raise UserError(f"{model.__name__} is not sampled by {sampler.__name__}: leave out sampler=")


def check_route(cfg: DictConfig) -> None:
    """Refuse a text space that the route cannot use, a tokenizer that nothing asks for, and parts of diffusion that a
    model of tokens does not have.
    """
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task)  # unresolved: these are strings
    asked = {str(override).partition("=")[0] for override in cast(list, overrides)}
    for name in (name for name in PARTS if name in asked and cfg.get(name) is None):
        raise UserError(f"{name}= is of diffusion over x_0, which this model is not: leave it out")
    space = named_class(cfg, "text_space")
    if is_autoencoder(cfg) and not issubclass(space, TrainedSpace):
        raise UserError("model=text_autoencoder trains text_space=bart_mini or text_space=bart_vae: choose one of them")
    learned = issubclass(space, LearnedSpace)
    if learned != issubclass(named_class(cfg, "route"), (DiffusionLM, TokenModel)):
        raise UserError("text_space=embedding and route=diffusion_lm go together: model=diffusion_lm chooses both")
    if cfg.get("condition") is not None:
        check_condition(cfg)
    if learned and cfg.get("tokenizer") is None:
        raise UserError("text_space=embedding needs tokens: choose tokenizer=bpe, characters or pretrained")
    if cfg.get("tokenizer") is not None and not learned:
        raise UserError("a BART brings its own tokenizer: leave out tokenizer=, or use model=diffusion_lm")


def check_attributes(cfg: DictConfig, data: TextDataModule) -> None:
    """Refuse a corpus that brings nothing that a model could be told."""
    chosen = DictConfig(HydraConfig.get().runtime.choices)
    if cfg.get("condition") is not None and not data.attributes:
        raise UserError(
            f"condition={chosen.condition} needs texts of which something is known, and data={chosen.data} has none: "
            "use data=e2e, or data.label= of text_files or tiny_shakespeare"
        )


def check_condition(cfg: DictConfig) -> None:
    """Refuse a condition that the model cannot be told."""
    told = DictConfig(HydraConfig.get().runtime.choices)
    if not issubclass(named_class(cfg, "route"), TextDiffusion) or not named_class(cfg, "model").takes_context:
        raise UserError(f"model={told.model} cannot be told a condition: use model=diffusion_lm or latent_transformer")


def make_optimisation(make: Make) -> dict[str, Any]:
    """Optimizer and schedule; what is wrong with them is found now rather than when training starts."""
    optimizer, schedule = make("optimizer"), make("lr_schedule")
    with refusing("optimizer"):
        one = tried(optimizer)
    with refusing("lr_schedule"):
        if schedule is not None:
            schedule(optimizer=one, num_training_steps=1)
    return {"optimizer": optimizer, "lr_schedule": schedule}


def check_monitors(cfg: DictConfig, callbacks: dict[str, Callback]) -> None:
    """Refuse to follow a figure that nothing logs."""
    logging_ones = (named_class(cfg, "route"), *callbacks.values())
    logged = [name for part in logging_ones for name in getattr(part, "LOGGED", ())]
    for name, callback in callbacks.items():
        monitor = getattr(callback, "monitor", None)
        if monitor is not None:
            check_monitor(monitor, f"callbacks.{name}.monitor", logged)


def check_length(data: TextDataModule, recipe: SpaceRecipe) -> None:
    """Refuse texts that are longer than the text space takes."""
    if data.length > recipe.max_length:
        raise UserError(
            f"data.length={data.length} is more than the {recipe.max_length} positions of "
            f"text_space={HydraConfig.get().runtime.choices['text_space']}: lower data.length"
        )


def check_parts(cfg: DictConfig, parts: dict[str, Any]) -> None:
    """Refuse parts and settings that a model cannot have, before there is a text space to build it in."""
    route = named_class(cfg, "route")
    with refusing(""):
        route.check(**parts, **{name: value for name, value in cfg.route.items() if not name.startswith("_")})


def quiet_libraries() -> None:
    """Keep the libraries' chatter out of the log: Lightning's tips, and bars where nobody watches."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")  # Lightning 2.6 with torch 2.13
    transformers.utils.logging.disable_progress_bar()  # saving and loading take no time worth a bar
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # a resumed run's own
    warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")  # the latents are cached
    warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval")
    datasets.disable_progress_bars()  # ours are shown
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # its errors are raised as well
