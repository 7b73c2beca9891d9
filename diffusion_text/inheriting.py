"""What a training has of a finished run: a classifier of its noise, or a student of its sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf, open_dict

from diffusion_text.building import named_class, set_names
from diffusion_text.checkpoints import PARTS, Config, components, is_component, restored
from diffusion_text.errors import UserError
from diffusion_text.models.classifier import Classifier
from diffusion_text.models.distillation import Distilled, student_of
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.runs import Run, find_checkpoint
from diffusion_text.values import or_null, words

WANTED = {  # who needs a run, and what for
    Classifier: ("model=classifier", "reads the noise of"),
    Distilled: ("experiment=distil", "teaches the sampler of"),
}
SPACE = ("data", "text_space", "tokenizer", "schedule")
TAKEN = {Classifier: SPACE, Distilled: (*SPACE, *PARTS, "model", "condition")}  # of that run
OWN = (
    "data.batch_size", "data.global_batch_size", "data.num_workers", "data.num_proc", "data.eval_texts", "data.dir",
)  # fmt: skip


class Read(NamedTuple):
    """The run that another training is about."""

    model: TextDiffusion
    config: Config
    run: Run


def read_by(cfg: DictConfig) -> Read | None:
    """The run that this training is about, where it is about one."""
    run, route = or_null(words, cfg.run, "run"), named_class(cfg, "route")
    kind = next((kind for kind in WANTED if issubclass(route, kind)), None)
    if kind is None:
        if run is not None:
            who = " and ".join(name for name, _ in WANTED.values())
            raise UserError(f"run={run} is for {who}: leave it out, or go on with a run by resume=")
        return None
    who, does = WANTED[kind]
    if run is None:
        raise UserError(f"{who} {does} a finished run: name it with run=RUN")
    for name in sorted(set_names()):
        if name.partition(".")[0] in TAKEN[kind] and name not in OWN:
            raise UserError(f"{name}= is that of the run that {who} {does}: leave it out")
    checkpoint = find_checkpoint(run, None, "")
    model, config, _ = restored(checkpoint)
    if not isinstance(model, TextDiffusion):
        raise UserError(f"run={run} is a {type(model).__name__}, which has no noise: choose one that diffuses")
    return Read(model, config, Run.of_checkpoint(checkpoint))


def inheriting(cfg: DictConfig, read: Read) -> DictConfig:
    """A configuration with what this training has of that run: all that is `TAKEN`, and for a student the route as well
    and where its sampler goes.
    """
    own = {name: OmegaConf.select(cfg, name) for name in OWN}
    taught = issubclass(named_class(cfg, "route"), Distilled)
    cfg = cfg.copy()
    with open_dict(cfg):
        for name in TAKEN[Distilled if taught else Classifier]:
            cfg[name] = with_class(read.config.get(name))
        for name, value in own.items():
            if value is not None:
                OmegaConf.update(cfg, name, value)
        if own["data.batch_size"] is not None:
            cfg.data.global_batch_size = own["data.global_batch_size"]
        if taught:
            own_route = {name: value for name, value in cfg.route.items() if name != "_target_"}
            cfg.route = with_class(read.config["route"]) | own_route | {"_target_": path(student_of(read.model))}
            for name in {"spacing", "clip"} - {name.removeprefix("sampler.") for name in set_names()}:
                cfg.sampler[name] = read.config["sampler"][name]
    return cfg


def with_class(node: Any) -> Any:
    """A configuration with each component by its import path."""
    if not isinstance(node, Mapping):
        return node
    plain = {name: with_class(value) for name, value in node.items() if name != "component"}
    return {"_target_": path(components()[node["component"]])} | plain if is_component(node) else plain


def path(kind: type) -> str:
    """Where a class is imported from."""
    return f"{kind.__module__}.{kind.__qualname__}"
