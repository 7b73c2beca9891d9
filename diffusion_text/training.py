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
from diffusion_text.errors import UserError
from diffusion_text.tasks.generate import write_samples
from diffusion_text.tasks.session import Session
from diffusion_text.tracking import loggers
from diffusion_text.tracking.summary import (
    count_parameters,
    describe,
    final_figures,
    print_preflight,
    print_summary,
    verdict,
)

log = logging.getLogger(__name__)


def train(training: Training) -> None:
    """Fit, going on from the run directory's last checkpoint if there is one; then evaluate, sample and sum up."""
    run = training.run
    try:
        with FileLock(run.directory / ".lock", timeout=0) if training.trainer.is_global_zero else nullcontext():
            log.info("%s", describe(training.model))
            check(training)
            if training.preflight == "only":
                return
            seconds = fit(training)
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()  # one rank concludes, alone
            if training.trainer.is_global_zero:
                conclude(training, seconds)
            loggers.finish(failed=False)
    except Timeout as error:
        raise UserError(f"another process is training in {run.directory}: choose another hydra.run.dir") from error
    except BaseException:
        loggers.finish(failed=True)
        raise


def check(training: Training) -> None:
    """Preflight: print the checks, keep them in preflight.json, and stop at a failing one unless told to go on."""
    if training.preflight == "off":
        return
    checks = training.model.preflight(next(iter(training.data.train_dataloader())))
    if training.trainer.is_global_zero:
        rows = [check._asdict() for check in checks]
        training.run.preflight.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print_preflight(checks)
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
    """Final figures of the best averaged weights on validation and test split, final texts, and the table."""
    model, run, trainer = training.model, training.run, training.trainer
    best = torch.load(run.best if run.best.is_file() else run.last, map_location="cpu", weights_only=True)
    model.load_state_dict(best["state_dict"])
    evaluator = Trainer(
        accelerator=trainer.strategy.root_device.type,
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    logged: dict[str, Any] = {}
    for evaluate in (evaluator.validate, evaluator.test):
        logged |= evaluate(model, training.data, verbose=False)[0]
    figures = final_figures(model, logged) | {
        "step": trainer.global_step,
        "best_step": best["global_step"],
        "seconds": round(seconds, 1),
        "parameters": count_parameters(model.denoiser),
    }
    figures["verdict"] = verdict(model, figures)
    run.metrics.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    session = Session(model, training.sampler, run, best["global_step"], training.seed, training.num_samples)
    print_summary(model, figures, write_samples(session), run)
