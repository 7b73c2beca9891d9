"""From a configuration to objects. Below here: plain arguments, no configuration travels."""

from __future__ import annotations

import logging
import math
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
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import get_class, instantiate
from lightning import Trainer, seed_everything
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from diffusion_text.callbacks.checkpoints import SealedCheckpointIO
from diffusion_text.checkpoints import PARTS, Make, as_data, assemble, load, make_denoiser, restore
from diffusion_text.data.base import Encoder, TextDataModule
from diffusion_text.data.sampling import steps_per_epoch
from diffusion_text.diffusion.losses import CosineMagnitudeLoss, CrossEntropyLoss, MinSNRWeighting
from diffusion_text.diffusion.predictions import LogitsPrediction
from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.environment import environment
from diffusion_text.errors import UserError, first_line
from diffusion_text.models.diffusion_lm import DiffusionLM
from diffusion_text.models.space_recipes import LearnedSpace, SpaceRecipe, TrainedSpace
from diffusion_text.models.text_autoencoder import TextAutoencoder
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.recorded import flat_values, write_record
from diffusion_text.runs import Run, find_checkpoint
from diffusion_text.storage import is_stored, replacing_directory, write_json
from diffusion_text.tasks.session import Session
from diffusion_text.tensors import read_tensors

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

    model: TextDiffusion | TextAutoencoder
    data: TextDataModule
    trainer: Trainer
    sampler: Sampler
    num_samples: int
    seed: int
    preflight: str
    report: dict[str, int]
    run: Run


def compose_training(cfg: DictConfig) -> Training:
    """Build a training from its configuration. What makes no sense is refused before data is touched."""
    run = Run(Path(cfg.run_dir))
    quiet_libraries()
    check_route(cfg)
    check_values(cfg)
    check_machine(cfg)
    config = {name: node for name, node in plain(cfg).items() if name not in MACHINERY}
    began = read_tensors(run.last).get("hyper_parameters", {}) if is_stored(run.last) else None
    if began is not None:
        check_renewed(config, began, run)
    make: Make = partial(build, cfg)
    sampler = make("sampler")
    recipe = make("text_space")
    data = make("data", cache_dir=cfg.cache_dir or default_cache())
    check_length(data, recipe)
    optimisation = {name: make(name) for name in ("optimizer", "lr_schedule")} | {"seed": cfg.seed}
    check_optimizer(optimisation["optimizer"])
    seed_everything(cfg.seed, workers=True, verbose=False)
    trainer = build_trainer(cfg)
    model: TextDiffusion | TextAutoencoder
    if is_autoencoder(cfg):
        model = compose_autoencoder(make, recipe, data, optimisation)
    else:
        own = run.text_space if began and recipe.kept and run.text_space.is_dir() else None
        model = compose_diffusion(cfg, make, recipe, data, optimisation, own)
    texts_per_step = data.batch_size * trainer.world_size * trainer.accumulate_grad_batches
    if began is not None and began.get("texts_per_step") != texts_per_step:
        raise UserError(
            f"{run.directory} was trained with {began.get('texts_per_step')} texts a step and would go on with "
            f"{texts_per_step}: keep processes × data.batch_size × trainer.accumulate_grad_batches as it was"
        )
    limit_steps(trainer, steps_per_epoch(len(data.splits["train"]), texts_per_step), cfg.trainer)
    model.save_hyperparameters(config | {"texts_per_step": texts_per_step})
    if trainer.is_global_zero:
        if recipe.kept and isinstance(model, TextDiffusion) and not began:
            with replacing_directory(run.text_space) as directory:
                model.text_space.save(directory)
        write_record(cfg, run)
        write_json(run.environment, environment())
    return Training(model, data, trainer, sampler, cfg.num_samples, cfg.seed, cfg.preflight, dict(cfg.report), run)


def compose_diffusion(
    cfg: DictConfig,
    make: Make,
    recipe: SpaceRecipe,
    data: TextDataModule,
    optimisation: dict[str, Any],
    own: Path | None = None,
) -> TextDiffusion:
    """A diffusion model over `data`, which is tokenised here, and encoded where nothing of that is trained; in the
    text space that lies in `own`, if the run has one already.
    """
    parts = {name: make(name) for name in PARTS}
    check_parts(cfg, parts)
    denoiser = make_denoiser(make, recipe.dim, cfg.route.self_conditioning)
    space = recipe.load(own) if own else recipe.build(data)
    data.prepare(space.tokenizer, cast(Encoder, space) if space.encodes_ahead else None)
    longest = len(data.statistics["length_counts"]) - 1
    model = make("route", denoiser=denoiser, text_space=space, max_length=longest, **parts, **optimisation)
    model.set_statistics(**data.statistics)
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
    check_count(cfg.num_samples, "num_samples")
    check_count(cfg.batch_size, "batch_size", 1)
    if not isinstance(cfg.temperature, (int, float)) or cfg.temperature < 0:
        raise UserError(f"temperature={cfg.temperature} is no number of at least 0")
    checkpoint = find_checkpoint(cfg.run, cfg.ckpt, cfg.outputs)
    task = build(cfg, "task")
    config, weights, step = load(checkpoint)
    model = restore(checkpoint, config, weights).to("cuda" if torch.cuda.is_available() else "cpu")
    longest = len(model.length_counts) - 1
    if cfg.length is not None and not 1 <= cfg.length <= longest:
        raise UserError(f"length={cfg.length} is not between 1 and {longest}, the longest text of this run's training")
    changes = as_data({key: value for key, value in cfg.sampler.items() if value != "run"})
    kept = config.get("sampler") or {}
    if "component" in changes:
        kept = {key: value for key, value in kept.items() if key in cfg.sampler}
    cache_dir = cfg.cache_dir or default_cache()
    session = Session(
        model=model,
        sampler=assemble({"sampler": kept | changes}, "sampler"),
        run=Run.of_checkpoint(checkpoint),
        step=step,
        seed=cfg.seed,
        num_samples=cfg.num_samples,
        length=cfg.length,
        text=cfg.text,
        temperature=cfg.temperature,
        batch_size=cfg.batch_size,
        data=lambda: assemble(config, "data", cache_dir=cache_dir),
    )
    return task, session


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


def build_trainer(cfg: DictConfig) -> Trainer:
    """Lightning's Trainer with this run's loggers and callbacks, for `limit_steps` to tell how long and how often."""
    settings = {
        "max_epochs": -1,
        "val_check_interval": 1,
        "check_val_every_n_epoch": None,
        "use_distributed_sampler": False,
        "default_root_dir": cfg.run_dir,
        "logger": [build(cfg.logger, name) for name in cfg.logger if cfg.logger[name]],
        "callbacks": [build(cfg.callbacks, name) for name in cfg.callbacks if cfg.callbacks[name]],
        "plugins": [SealedCheckpointIO()],
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
    }
    return build(cfg, "trainer", **settings)


def limit_steps(trainer: Trainer, epoch: int, limits: DictConfig) -> None:
    """Limit training, and the way to the next validation, in steps: however many batches make one, and with so many in
    an epoch. All of training is one epoch of Lightning's.
    """
    numbers = (limits.max_steps, epoch * limits.max_epochs)
    trainer.fit_loop.epoch_loop.max_steps = min(number for number in numbers if number > 0)
    interval = limits.val_check_interval
    steps = interval if isinstance(interval, int) else max(1, round(interval * epoch))
    trainer.val_check_interval = steps * trainer.accumulate_grad_batches


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as data, components by their names."""
    return as_data(OmegaConf.to_container(cfg, resolve=True))


def check_renewed(config: dict[str, Any], began: dict[str, Any], run: Run) -> None:
    """Refuse settings that are not those that a run began with, unless they are such as can change on the way."""
    before = flat_values(OmegaConf.create(began))
    for name, value in flat_values(OmegaConf.create(config)).items():
        if before.get(name) != value and not name.startswith(RENEWED):
            raise UserError(
                f"{run.directory} was trained with {name}={before.get(name)}, which {name}={value} cannot go on from: "
                "leave it as it was, or choose another hydra.run.dir"
            )


def is_autoencoder(cfg: DictConfig) -> bool:
    """Whether a text space is to be trained, rather than a denoiser in it."""
    return get_class(cfg.route._target_) is TextAutoencoder


def check_route(cfg: DictConfig) -> None:
    """Refuse a text space that the route cannot use, and a tokenizer that nothing asks for."""
    space = get_class(cfg.text_space._target_)
    if is_autoencoder(cfg) and not issubclass(space, TrainedSpace):
        raise UserError("model=text_autoencoder trains text_space=bart_mini or text_space=bart_vae: choose one of them")
    learned = issubclass(space, LearnedSpace)
    if learned != issubclass(get_class(cfg.route._target_), DiffusionLM):
        raise UserError("text_space=embedding and route=diffusion_lm go together: model=diffusion_lm chooses both")
    if learned and cfg.get("tokenizer") is None:
        raise UserError("text_space=embedding needs tokens: choose tokenizer=bpe, characters or pretrained")
    if cfg.get("tokenizer") is not None and not learned:
        raise UserError("a BART brings its own tokenizer: leave out tokenizer=, or use model=diffusion_lm")


def check_values(cfg: DictConfig) -> None:
    """Refuse numbers that are none, before anything computes with them."""
    check_count(cfg.num_samples, "num_samples")
    check_count(cfg.seed, "seed")
    for name in cfg.report:
        check_count(cfg.report[name], f"report.{name}")
    if cfg.report.trace_steps == 1:
        raise UserError("report.trace_steps=1 is no way: use 2 or more, or 0 for no trace")
    if not isinstance(cfg.trainer.val_check_interval, float) or not 0 < cfg.trainer.val_check_interval < math.inf:
        check_count(cfg.trainer.val_check_interval, "trainer.val_check_interval", 1)
    for name in ("max_steps", "max_epochs"):
        check_count(cfg.trainer[name], f"trainer.{name}", -1)
    for name in ("accumulate_grad_batches", "log_every_n_steps"):
        check_count(cfg.trainer[name], f"trainer.{name}", 1)
    for name, least in (("length", 4), ("batch_size", 1), ("num_workers", 0)):
        check_count(cfg.data[name], f"data.{name}", least)
    if cfg.preflight not in ("stop", "warn", "only", "off"):
        raise UserError(f"preflight={cfg.preflight} is none of stop, warn, only, off")
    if cfg.trainer.max_epochs < 1 and cfg.trainer.max_steps < 1:
        raise UserError("trainer.max_steps and trainer.max_epochs are both unlimited: set one of them")


def check_count(value: Any, name: str, least: int = 0) -> None:
    """Refuse what is no whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}={value} is not a whole number of at least {least}")


def check_optimizer(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    """Refuse wrong settings of the optimizer now rather than when training starts."""
    try:
        optimizer([torch.nn.Parameter(torch.zeros(1))])
    except (ValueError, TypeError) as error:
        raise UserError(f"optimizer: {first_line(error)}") from error


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


def check_length(data: TextDataModule, recipe: SpaceRecipe) -> None:
    """Refuse texts that are longer than the text space takes."""
    if data.length > recipe.max_length:
        raise UserError(
            f"data.length={data.length} is more than the {recipe.max_length} positions of "
            f"text_space={HydraConfig.get().runtime.choices['text_space']}: lower data.length"
        )


def check_parts(cfg: DictConfig, parts: dict[str, Any]) -> None:
    """Refuse parts that do not fit each other."""
    if isinstance(parts["loss"], CosineMagnitudeLoss) and isinstance(parts["weighting"], MinSNRWeighting):
        raise UserError(
            "loss=cosine_magnitude has no unit and weighting=min_snr converts units: use weighting=uniform, or loss=mse"
        )
    reads_tokens = isinstance(parts["prediction"], LogitsPrediction)
    if reads_tokens != isinstance(parts["loss"], CrossEntropyLoss):
        raise UserError("prediction=logits and loss=cross_entropy go together")
    if reads_tokens and not issubclass(get_class(cfg.route._target_), DiffusionLM):
        raise UserError("prediction=logits needs learned embeddings: use model=diffusion_lm")
    if not 0 <= cfg.route.self_conditioning <= 1:
        raise UserError(f"route.self_conditioning is a share between 0 and 1, not {cfg.route.self_conditioning}")


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
