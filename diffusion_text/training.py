"""One training from start to table: fit, evaluate the best weights, sample, sum up."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import nullcontext
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning import Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from diffusion_text.composition import Training
from diffusion_text.data.base import TextDataModule
from diffusion_text.errors import UserError
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.tasks.generate import write_samples
from diffusion_text.tasks.session import Session
from diffusion_text.text_spaces.bart import BartSpace
from diffusion_text.tracking.plots import plot_noise_prediction
from diffusion_text.tracking.publishing import publish
from diffusion_text.tracking.records import Record
from diffusion_text.tracking.summary import (
    autoencoder_figures,
    diffusion_figures,
    preflight_table,
    print_autoencoder,
    print_diffusion,
    sampling_verdict,
)
from diffusion_text.tracking.wandb_logger import finish

log = logging.getLogger(__name__)


def train(training: Training) -> None:
    """Fit, going on from the run directory's last checkpoint if there is one; then evaluate, sample and sum up."""
    run = training.run
    try:
        with FileLock(run.directory / ".lock", timeout=0) if training.trainer.is_global_zero else nullcontext():
            log.info("%s", training.model.describe())
            check(training)
            if training.preflight == "only":
                return
            seconds = fit(training)
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()  # one rank concludes, alone
            if training.trainer.is_global_zero:
                conclude(training, seconds)
            finish(failed=False)
            run.error.unlink(missing_ok=True)  # an earlier attempt's
    except Timeout as error:
        raise UserError(f"another process is training in {run.directory}: choose another hydra.run.dir") from error
    except BaseException:
        finish(failed=True)
        raise


def check(training: Training) -> None:
    """Preflight: print the checks, keep them in preflight.json, and stop at a failing one unless told to go on."""
    if training.preflight == "off":
        return
    checks = training.model.preflight(next(iter(training.data.train_dataloader())), training.sampler)
    if training.trainer.is_global_zero:
        rows = [check._asdict() for check in checks]
        training.run.preflight.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        log.info("Preflight\n%s", preflight_table(checks))
    failed = [check for check in checks if check.verdict == "fail"]
    if failed and training.preflight != "warn":
        raise UserError(
            f"preflight: {failed[0].name} {failed[0].measured}; {failed[0].advice}, or go on with preflight=warn"
        )


def fit(training: Training) -> float:
    """Train; return how many seconds it took. A terminated run exits with code 143, its checkpoint saved."""
    trainer, run = training.trainer, training.run
    checkpoint = run.last if run.last.is_file() else None
    if checkpoint:
        log.info("Going on from %s", checkpoint)
    started = time.monotonic()
    try:
        trainer.fit(training.model, training.data, ckpt_path=checkpoint, weights_only=True)
    except SIGTERMException:
        sys.exit(143)  # Lightning itself would exit with 0
    return time.monotonic() - started


def conclude(training: Training, seconds: float) -> None:
    """Final figures of the best averaged weights on validation and test split, kept in metrics.json, and a table."""
    model, run, trainer = training.model, training.run, training.trainer
    best = torch.load(run.best if run.best.is_file() else run.last, map_location="cpu", weights_only=True)
    model.load_state_dict(best["state_dict"])
    logged = evaluate(training)
    facts = {
        "step": trainer.global_step,
        "best_step": best["global_step"],
        "seconds": round(seconds, 1),
        "parameters": model.count_parameters(),
    }
    if isinstance(model, TextDiffusion):
        session = Session(model, training.sampler, run, best["global_step"], training.seed, training.num_samples)
        figures = diffusion_figures(model, logged)
        if run.alarms.is_file():
            figures["alarms"] = [json.loads(line) for line in run.alarms.read_text(encoding="utf-8").splitlines()]
        if samples := write_samples(session):
            sizes = {"rms": samples.rms, "peak_rms": samples.peak_rms}
            figures["samples"] = sizes | {"verdict": sampling_verdict(**sizes)}
        print_diffusion(model, figures, session.read(samples) if samples else [])
        plot_noise_prediction(run.plot, figures)
    else:
        space = BartSpace(model.autoencoder)
        space.save(run.text_space)
        figures = autoencoder_figures(logged)
        print_autoencoder(figures, reconstructions(space, training.data, training.num_samples), run)
    run.metrics.write_text(json.dumps(figures | facts, indent=2) + "\n", encoding="utf-8")
    publish(trainer.loggers, Record(run))
    print(run.directory)


def evaluate(training: Training) -> dict[str, Any]:
    """What validation and test log for the model as it is now."""
    evaluator = Trainer(
        accelerator=training.trainer.strategy.root_device.type,
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    logged: dict[str, Any] = {}
    for stage in (evaluator.validate, evaluator.test):
        logged |= stage(training.model, training.data, verbose=False)[0]
    return logged


def reconstructions(space: BartSpace, data: TextDataModule, count: int) -> list[tuple[str, str]]:
    """Texts of the validation split, and what becomes of them when they are encoded and decoded."""
    if count == 0:
        return []
    batch = next(iter(data.val_dataloader()))
    tokens, mask = batch["tokens"][:count], batch["mask"][:count]
    decoded = space.decode(space.encode(tokens, mask), space.latent_mask(mask))
    return list(zip(space.to_text(tokens), space.to_text(decoded), strict=True))
