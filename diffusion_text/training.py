"""One training from start to report: check, fit, conclude."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import cast

import torch

from diffusion_text.composition import Training
from diffusion_text.conclusion import conclude
from diffusion_text.data.base import SPLITS
from diffusion_text.denoisers.base import Denoiser
from diffusion_text.errors import UserError, first_line
from diffusion_text.models.base import Trained
from diffusion_text.models.sharding import Sharded, hollow
from diffusion_text.runs import Run
from diffusion_text.storage import check_room, is_stored, older, write_json
from diffusion_text.text_spaces.bart import BartSpace
from diffusion_text.tracking.loggers import RunCSVLogger
from diffusion_text.tracking.summary import preflight_table, startup_table
from diffusion_text.tracking.wandb_logger import finish

log = logging.getLogger(__name__)


def train(training: Training) -> None:
    """Fit, going on from the run directory's last checkpoint if there is one; then evaluate, sample and sum up."""
    run = training.run
    try:
        if training.trainer.is_global_zero:
            log.info("Training\n%s", startup_table(describe(training)))
        check(training)
        if training.preflight == "only":
            return
        shared = isinstance(training.trainer.strategy, Sharded)
        model = hollow(training.model) if shared else training.model
        seconds = fit(training)
        conclude(replace(training, model=model), seconds)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        finish(failed=False)
        if training.trainer.is_global_zero:
            run.error.unlink(missing_ok=True)  # an earlier attempt's
    except BaseException:
        finish(failed=True)
        raise


def describe(training: Training) -> dict[str, str]:
    """What is about to be trained, on what, where."""
    data, trainer = training.data, training.trainer
    sizes = {split: f"{len(data.splits[split]):,}" for split in SPLITS}
    if data.streaming:
        sizes["train"] = "a stream"
    return {
        "data": f"{type(data).__name__}, {' + '.join(sizes.values())} texts of up to {data.length} tokens",
        **({} if data.store is None else {"latents": data.store.about}),
        **training.model.describe(),
        "training": f"{trainer.max_steps:,} steps of {training.model.hparams['texts_per_step']} texts",
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
        write_json(training.run.preflight, rows)
        log.info("Preflight\n%s", preflight_table(checks))
    failed = [check for check in checks if check.verdict == "fail"]
    if failed and training.preflight != "warn":
        raise UserError(
            f"preflight: {failed[0].name} {failed[0].measured}; {failed[0].advice}, or go on with preflight=warn"
        )


def fit(training: Training) -> float:
    """Train; return how many seconds it took. Raises StoppedError where a signal ended it."""
    trainer, run, model = training.trainer, training.run, training.model
    checkpoint = run.last if is_stored(run.last) else None
    if checkpoint:
        log.info("Going on from %s, step %d", checkpoint, training.step)
    for logger in trainer.loggers:
        if isinstance(logger, RunCSVLogger) and trainer.is_global_zero:
            logger.keep(training.step)
    check_room(run.directory, room(model, run), "the checkpoints", "choose another hydra.run.dir")
    started = time.monotonic()
    if training.compiled:
        cast(Denoiser, model.denoiser).compile(dynamic=True)  # batches, and their shares for self-conditioning, differ
        store = training.data.store
        if store is not None and not store.splits:
            cast(BartSpace, model.text_space).compile_encoder()
    try:
        trainer.fit(model, training.data, ckpt_path=checkpoint, weights_only=True)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        if isinstance(error, UserError) or model.has_started or not checkpoint:
            raise
        raise UserError(f"{checkpoint} cannot be gone on from: {first_line(error)}") from error
    return time.monotonic() - started


def room(model: Trained, run: Run) -> int:
    """How many bytes more a run's checkpoints can come to: weights, averages and two moments in two generations of two
    files, and one that is being written.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    files = [file for newer in (run.last, run.best) for file in (newer, older(newer))]
    return 5 * 4 * weights - sum(file.stat().st_size for file in files if file.is_file())
