"""What makes no sense is refused in one line, before anything is written or trained."""

from __future__ import annotations

from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import Callback, Trainer
from omegaconf import DictConfig, OmegaConf

from diffusion_text.building import named_class, refusing, set_names
from diffusion_text.callbacks.monitoring import check_monitor
from diffusion_text.checkpoints import PARTS
from diffusion_text.data.base import TextDataModule
from diffusion_text.errors import UserError
from diffusion_text.models.classifier import Classifier
from diffusion_text.models.diffusion_lm import DiffusionLM
from diffusion_text.models.space_recipes import LearnedSpace, SpaceRecipe
from diffusion_text.models.text_autoencoder import TextAutoencoder
from diffusion_text.models.token_models import TokenModel
from diffusion_text.models.trained_spaces import TrainedSpace
from diffusion_text.recorded import flat_values
from diffusion_text.runs import Run

RENEWED = (
    "name",
    "num_samples",
    "sampler",
    "optimizer",
    "lr_schedule",
    "data.batch_size",
    "data.global_batch_size",
    "data.dir",
    "data.num_workers",
    "data.num_proc",
    "data.eval_texts",
    "text_space.cache",
)  # what a resumed run may have otherwise, besides the machinery

NEEDED = {  # by what a condition reads: what it needs, and which data has it
    "attributes": (
        "texts of which something is known",
        "e2e, or data.label= of text_files, tiny_shakespeare or ag_news",
    ),
    "another text": ("pairs of texts", "pairs data.dir=FILE"),
}


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
            f"{run.directory} was trained with {before} texts a step and would go on with {now}: use "
            f"data.global_batch_size={before}"
        )


def check_launch(trainer: Trainer) -> None:
    """Refuse a sweep of trainings that start this script anew for their other processes."""
    launcher, job = trainer.strategy.launcher, DictConfig(HydraConfig.get())
    started = getattr(trainer.strategy, "cluster_environment", None)
    if launcher is None or launcher.is_interactive_compatible or started.creates_processes_externally:  # type: ignore[union-attr]
        return
    if job.mode == RunMode.MULTIRUN:
        raise UserError(
            f"trainer={job.runtime.choices.trainer} in a sweep would run the whole sweep again on every other GPU: use "
            "hydra/launcher=slurm, which starts all processes, trainer.strategy=ddp_spawn, or one GPU a job"
        )


def is_autoencoder(cfg: DictConfig) -> bool:
    """Whether a text space is to be trained, rather than a denoiser in it."""
    return named_class(cfg, "route") is TextAutoencoder


def check_route(cfg: DictConfig) -> None:
    """Refuse a text space that the route cannot use, a tokenizer that nothing asks for, and parts of diffusion that a
    model of tokens does not have.
    """
    for name in (name for name in PARTS if name in set_names() and cfg.get(name) is None):
        raise UserError(f"{name}= is of diffusion over x_0, which this model is not: leave it out")
    if issubclass(named_class(cfg, "route"), Classifier):
        return  # its text space is that of a run that is finished
    space = named_class(cfg, "text_space")
    if is_autoencoder(cfg) and cfg.trainer.get("compile"):
        raise UserError("trainer.compile=true is of a denoiser, which model=text_autoencoder has not: leave it out")
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
    needed = None if cfg.get("condition") is None else named_class(cfg, "condition").reads
    if needed and needed != data.tells:
        some, use = NEEDED[needed]
        raise UserError(f"condition={chosen.condition} needs {some}, and data={chosen.data} has none: use data={use}")


def check_stream(cfg: DictConfig, data: TextDataModule, recipe: SpaceRecipe, limits: dict[str, Any]) -> None:
    """Refuse what needs to know all texts of a stream."""
    if not data.streaming:
        return
    if limits["max_epochs"] > 0 or isinstance(limits["val_check_interval"], float):
        raise UserError(
            "data.streaming=true has no epochs: set trainer.max_steps= and trainer.val_check_interval= in steps, and "
            "leave out trainer.max_epochs="
        )
    if data.bucket:
        raise UserError("data.streaming=true does not know how long texts are: leave out data.bucket=true")
    if recipe.cache not in (None, "none"):
        raise UserError(f"data.streaming=true keeps no latents: leave out text_space.cache={recipe.cache}")
    if data.label or data.tells:
        raise UserError("data.streaming=true brings texts alone: leave out data.label=, or use data.streaming=false")


def check_condition(cfg: DictConfig) -> None:
    """Refuse a condition that the model cannot be told."""
    told = DictConfig(HydraConfig.get().runtime.choices)
    if not named_class(cfg, "model").takes_context:
        raise UserError(f"model={told.model} cannot be told a condition: use model=diffusion_lm or latent_transformer")


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
