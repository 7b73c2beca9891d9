"""Running an entry point: a user's mistake is one line and exit code 2."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusion_text.commands import fail, nearest
from diffusion_text.errors import UserError, first_line

log = logging.getLogger(__name__)

CONF = Path(__file__).parent.parent / "conf"
EXTRA = "joblib and submitit launchers and the optuna sweeper come with pip install -e '.[sweeps]'"


def run(main: Callable[[], None]) -> None:
    """Call a Hydra main function; print a user's mistake without a traceback."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other on a busy machine
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come here instead of ending in Hydra
    try:
        sys.argv = quoted(resumed(sys.argv))
        main()
    except UserError as error:
        fail(str(error))
    except Exception as error:
        if type(error).__module__.startswith(("hydra.", "omegaconf.")):
            fail(explain(error))
        if isinstance(error, OSError) and error.filename:
            fail(f"cannot write {error.filename}: {error.strerror}; choose another hydra.run.dir")
        raise


@contextmanager
def user_errors() -> Iterator[None]:
    """Inside a job: a user's mistake ends a single run here and now; in a sweep it fails this job alone."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    try:
        yield
    except UserError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        fail(str(error))


@contextmanager
def recorded_errors() -> Iterator[None]:
    """Inside a training job: why it failed is kept in its run directory; in a sweep the other jobs then go on."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from diffusion_text.runs import Run

    job = HydraConfig.get()
    file = Run(Path(job.runtime.output_dir)).error
    try:
        yield
    except BaseException as error:
        if not (isinstance(error, SystemExit) and not error.code):
            file.write_text(f"{type(error).__name__}: {first_line(error)}\n", encoding="utf-8")
        if job.mode != RunMode.MULTIRUN or not isinstance(error, Exception):
            raise
        log.error("%s", first_line(error), exc_info=not isinstance(error, UserError))


def quoted(argv: list[str]) -> list[str]:
    """With the value of `text=` in the quotes that Hydra wants around free text, unless it has them."""
    plain = re.compile(r"text=(?!(['\"]).*\1$|null$)(.+)", re.DOTALL)

    def quote(match: re.Match[str]) -> str:
        escaped = re.sub(r"(\\*)'", r"\1\1\\'", match.group(2))
        return f"text='{escaped}'"

    return [plain.sub(quote, argument) if plain.fullmatch(argument) else argument for argument in argv]


def resumed(argv: list[str]) -> list[str]:
    """With `resume=RUN`: that run's own overrides first, in that run's directory, then whatever is new."""
    runs = [argument.partition("=")[2] for argument in argv[1:] if argument.startswith("resume=")]
    if not runs or runs[-1] in ("", "null"):
        return argv
    directory = Path(runs[-1])
    overrides = directory / ".hydra" / "overrides.yaml"
    if not overrides.is_file():
        raise UserError(
            f"resume={directory} is no run: it has no .hydra/overrides.yaml; runs lie in outputs/DATE/TIME-NAME"
        )
    from omegaconf import OmegaConf

    earlier = [override for override in map(str, OmegaConf.load(overrides)) if not override.startswith("resume=")]
    return [argv[0], f"hydra.run.dir={directory}", "hydra.mode=RUN", *earlier, *argv[1:]]  # RUN: be it of a sweep


def explain(error: Exception) -> str:
    """Hydra's and OmegaConf's complaint about an override in one line, with the nearest name that exists."""
    message = str(error)
    if choice := re.search(r"Could not find '([^']+)/([^'/]+)'", message):
        if choice.group(1).startswith("hydra/"):
            return f"{choice.group(1)}={choice.group(2)}: there is no such option; {EXTRA}"
        group, _, below = choice.group(1).partition("/")
        option = f"{below}/{choice.group(2)}".lstrip("/")
        files = (CONF / group).rglob("*.yaml")
        options = sorted(file.relative_to(CONF / group).with_suffix("").as_posix() for file in files)
        return f"{group}={option}: there is no such option{nearest(option, options)}; there are {', '.join(options)}"
    if key := re.search(r"Could not override '([^'@]+)", message) or re.search(r"full_key: (\S+)", message):
        name = key.group(1)
        return f"{name}: there is no such setting{nearest(name, settings())}; python train.py --cfg job shows them all"
    return message.splitlines()[0]


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
    return names + sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
