"""Running an entry point: a user's mistake is one line and exit code 2."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_text.commands import fail, nearest
from diffusion_text.errors import StoppedError, UserError, first_line
from diffusion_text.recorded import CONF, is_recorded, literal, read_record, write_record
from diffusion_text.runs import Run
from diffusion_text.storage import disk_trouble, is_stored, write_text

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

HYDRAS = ("hydra.", "omegaconf.")
SEVERAL = re.compile(r"[^\[{].*[,(]")  # options of which a sweep takes each
TEXTS = ("text",)
ASKED = re.compile(r"condition(\.\w+)?")  # of sample.py: what a text is to be
KEPT = (  # paths that a run is made again from, wherever that is done, and names on the hub
    "data.dir", "cache_dir", "text_space.pretrained", "text_space.pretrained_embeddings", "tokenizer.pretrained",
)  # fmt: skip
PATHS = (
    "run", "ckpt", "outputs", "resume", "out", "to", "conditions", "sampler.classifier", "hydra.run.dir",
    "hydra.sweep.dir", *KEPT,
)  # fmt: skip
EXTRA = "joblib and submitit launchers and the optuna sweeper come with pip install -e '.[sweeps]'"


def run(main: Callable[[], None]) -> None:
    """Call a Hydra main function; print a user's mistake without a traceback."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other on a busy machine
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come here instead of ending in Hydra
    try:
        sys.argv = prepared(sys.argv)
        main()
    except UserError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if told := complaint(error) or disk_trouble(error):
            fail(str(told))
        raise


@contextmanager
def user_errors() -> Iterator[None]:
    """Inside a job: a user's mistake ends a single run here and now; in a sweep it fails this job alone."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    try:
        yield
    except Exception as error:
        told = error if isinstance(error, UserError) else disk_trouble(error) or complaint(error)
        if HydraConfig.get().mode == RunMode.MULTIRUN or not told:
            raise
        fail(str(told))


@contextmanager
def training_job(cfg: DictConfig) -> Iterator[bool]:
    """Inside, this process alone trains in its run directory. What was asked for is kept there, and why it failed; in a
    sweep the other jobs then go on. Yields whether there is anything to do: a sweep that is started again leaves alone
    what it has finished.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    run, is_first = Run(Path(str(cfg.run_dir))), rank_zero_only.rank == 0  # type: ignore[attr-defined]
    is_of_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    with run.locked() if is_first else nullcontext():
        try:
            if is_of_sweep and run.metrics.is_file() and is_recorded(cfg, run):
                log.info("%s is finished", run.directory)
                yield False
                return
            if is_first and not is_stored(run.last):
                write_record(cfg, run)
            yield True
        except StoppedError as stop:
            log.info("%s; python %s resume=%s goes on", stop, Path(sys.argv[0]).name, run.directory)
            sys.exit(stop.exit_code)
        except Exception as error:
            told = disk_trouble(error) or error
            with suppress(UserError):
                write_text(run.error, f"{type(told).__name__}: {first_line(told)}\n")
            if not is_of_sweep:
                raise
            log.error("%s", first_line(error), exc_info=not isinstance(error, UserError))


# ---- arguments


def prepared(argv: list[str]) -> list[str]:
    """Arguments as Hydra wants them: paths and prompts are free text to a user; `resume=RUN` stands for that run's own
    settings, in that run's directory.
    """
    if any(argument.startswith("hydra.job.name=train_ddp_process_") for argument in argv):
        return argv  # those of the process that started this one
    several = bool({"-m", "--multirun"} & set(argv))
    samples = Path(argv[0]).stem == "sample"
    asked = [to_be(argument) for argument in argv[1:]] if samples else argv[1:]
    given = [free(argument, several, KEPT if samples else (*KEPT, "run")) for argument in asked]
    resumed = [argument.partition("=")[2] for argument in argv[1:] if argument.startswith("resume=")]
    if not resumed or resumed[-1] in ("", "null"):
        return [argv[0], *given]
    directory = path_of(resumed[-1])
    new = [argument for argument in given if not argument.startswith("resume=")]
    place = f"hydra.run.dir={literal(directory)}"
    resume = f"resume={literal(directory)}"
    return [argv[0], place, "hydra.mode=RUN", *read_record(Run(Path(directory))), resume, *new]  # RUN: be it of a sweep


def to_be(argument: str) -> str:
    """What texts are to be, as Hydra takes names and values that it does not know."""
    name, equals, value = argument.partition("=")
    if not equals or not ASKED.fullmatch(name):
        return argument
    return f"++{name if '.' in name else 'condition.any'}={literal(value)}"


def free(argument: str, several: bool, kept: tuple[str, ...]) -> str:
    """An argument whose value is free text in the quotes that Hydra wants around it; a path that is `kept` is whole."""
    name, equals, value = argument.partition("=")
    if not equals or value in ("", "null") or name not in (*TEXTS, *PATHS) or (several and name in PATHS):
        return argument
    if name in TEXTS:
        return f"{name}={literal(value)}"
    if "${" in value:
        return argument
    path = path_of(value)
    return f"{name}={literal(os.path.abspath(path) if name in kept and Path(path).exists() else path)}"  # noqa: PTH100


def path_of(value: str) -> str:
    """The path that a user means, be it quoted for Hydra or not."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return str(Path(value).expanduser())


def explain(error: Exception) -> str:
    """Hydra's and OmegaConf's complaint about an override in one line, with the nearest name that exists."""
    message = str(error)
    if choice := re.search(r"Could not find '([^']+)/([^'/]+)'", message):
        if choice.group(1).startswith("hydra/"):
            return f"{choice.group(1)}={choice.group(2)}: there is no such option; {EXTRA}"
        group, _, below = choice.group(1).partition("/")
        return no_option(group, f"{below}/{choice.group(2)}".lstrip("/"))
    override = re.search(r"Could not override '([^']+)", message)
    of_choices = override or "Could not find" in message or not type(error).__module__.startswith(HYDRAS)
    if of_choices and (told := wrong_choice()):
        return told
    if override:
        return no_setting(override[1])
    key = re.search(r"full_key: (\S+)", message)
    return f"{key[1]}: {first_line(error)}" if key else first_line(error)


def complaint(error: Exception) -> UserError | None:
    """What Hydra or OmegaConf complains about, as a user's mistake, where it is they who complain."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    theirs = any(name.startswith(HYDRAS) for name in (type(error).__module__, frame.f_globals["__name__"]))
    return UserError(explain(error)) if theirs else None


def options(group: str) -> list[str]:
    """What there is to choose from; of Hydra's own groups, which plugins add to, that is not known."""
    files = [] if group.startswith("hydra") else (CONF / group).rglob("*.yaml")
    return sorted(file.relative_to(CONF / group).with_suffix("").as_posix() for file in files)


def no_option(group: str, option: str) -> str:
    """That a group has no such option, and which it has."""
    there_are = f"there are {', '.join(options(group))}" + (f", and ~{group} for none" if option == "null" else "")
    return f"{group}={option}: there is no such option{nearest(option, options(group))}; {there_are}"


def wrong_choice() -> str | None:
    """What is wrong with the first choice on the command line that no group has, if there is one."""
    given = [argument.partition("=") for argument in sys.argv[1:]]
    of_groups = [(group, value) for group, equals, value in given if group and equals and options(group)]
    single = [(group, value) for group, value in of_groups if not SEVERAL.match(value)]
    return next((no_option(group, value) for group, value in single if value not in options(group)), None)


def no_setting(name: str) -> str:
    """That there is no such setting, or not with the chosen option of its group."""
    group = name.partition(".")[0]
    if (others := having(name)) and (option := chosen(group)):
        have = f"{group}={', '.join(others)} {'has' if len(others) == 1 else 'have'}"
        return f"{name}: {group}={option} has no such setting; {have}"
    if name in settings():
        return f"{name}: that is no setting of {Path(sys.argv[0]).name}"
    return f"{name}: there is no such setting{nearest(name, settings())}; python train.py --cfg job shows them all"


def having(name: str) -> list[str]:
    """The options of a setting's group that have it."""
    from omegaconf import OmegaConf

    group, _, key = name.partition(".")
    return [file.stem for file in sorted((CONF / group).glob("*.yaml")) if key in OmegaConf.load(file)]


def chosen(group: str) -> str | None:
    """The option of a group that the command line chooses, where the script has that group."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    given = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
    if group in given:
        return given[group]
    choices = [f"{name}={value}" for name, value in given.items() if value in options(name)]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        composed = compose(Path(sys.argv[0]).stem, choices, return_hydra_config=True)
    choices_made = composed.hydra.runtime.choices
    return choices_made[group] or "null" if group in choices_made else None


def settings() -> list[str]:
    """Groups and dotted names of every value in the default configuration."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import DictConfig

    def dotted(node: DictConfig, prefix: str = "") -> list[str]:
        names = []
        for key in map(str, node):
            value = node._get_node(key)
            names += dotted(value, f"{prefix}{key}.") if isinstance(value, DictConfig) else [f"{prefix}{key}"]
        return names

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        names = [name for name in dotted(compose("train")) + dotted(compose("sample")) if "_target_" not in name]
    return names + sorted(folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra")
