"""One training from start to report: check, fit, conclude."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import nullcontext

import torch
from filelock import FileLock, Timeout
from lightning.pytorch.utilities.exceptions import SIGTERMException

from diffusion_text.composition import Training
from diffusion_text.conclusion import conclude
from diffusion_text.data.base import SPLITS
from diffusion_text.errors import UserError
from diffusion_text.tracking.summary import preflight_table, startup_table
from diffusion_text.tracking.wandb_logger import finish

log = logging.getLogger(__name__)


def train(training: Training) -> None:
    """Fit, going on from the run directory's last checkpoint if there is one; then evaluate, sample and sum up."""
    run = training.run
    try:
        with FileLock(run.directory / ".lock", timeout=0) if training.trainer.is_global_zero else nullcontext():
            if training.trainer.is_global_zero:
                log.info("Training\n%s", startup_table(describe(training)))
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


def describe(training: Training) -> dict[str, str]:
    """What is about to be trained, on what, where."""
    data, trainer = training.data, training.trainer
    texts = " + ".join(f"{len(data.splits[split]):,}" for split in SPLITS)
    length = "steps" if trainer.max_steps > 0 else "epochs"
    many = trainer.max_steps if trainer.max_steps > 0 else trainer.max_epochs
    return {
        "data": f"{type(data).__name__}, {texts} texts of up to {data.length} tokens",
        **training.model.describe(),
        "training": f"{many:,} {length} of {data.batch_size} texts",
        "device": f"{trainer.num_devices} × {trainer.strategy.root_device.type}, {trainer.precision}",
        "run": str(training.run.directory),
    }


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
