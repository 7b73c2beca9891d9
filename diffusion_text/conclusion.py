"""What a training ends with: the best weights on all splits, a close look at what they do, a table and a report."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy

from diffusion_text.conditions.attributes import Attributes
from diffusion_text.conditions.garbled import Garbled
from diffusion_text.data.base import SPLITS, TextDataModule
from diffusion_text.data.tokens import tokenizer_digest
from diffusion_text.figures import typed
from diffusion_text.metrics.text_quality import TextQuality
from diffusion_text.models.classifier import Classifier
from diffusion_text.models.text_autoencoder import TextAutoencoder
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.models.together import processes, together
from diffusion_text.models.writing import Writer
from diffusion_text.progress import progress_bar
from diffusion_text.sampled_texts import in_words
from diffusion_text.storage import is_stored, write_json
from diffusion_text.tasks.control import Control
from diffusion_text.tasks.frontier import Frontier, sentences
from diffusion_text.tasks.garble import Garble
from diffusion_text.tasks.generate import keep
from diffusion_text.tasks.quality import SampleQuality
from diffusion_text.tasks.session import Session, Wish
from diffusion_text.tasks.trace import Trace
from diffusion_text.tensors import read_tensors
from diffusion_text.text_spaces.bart import BartSpace
from diffusion_text.tracking.auxiliary import (
    autoencoder_figures,
    classifier_figures,
    print_autoencoder,
    print_classifier,
)
from diffusion_text.tracking.charts import save_noise_prediction
from diffusion_text.tracking.publishing import publish
from diffusion_text.tracking.records import Record, flat
from diffusion_text.tracking.report import write_report
from diffusion_text.tracking.summary import (
    diffusion_figures,
    print_figures,
    print_words,
    quality_verdict,
    sampling_verdict,
    token_figures,
    weights_verdict,
)

if TYPE_CHECKING:
    from diffusion_text.composition import Training


def conclude(training: Training, seconds: float) -> None:
    """Evaluate, on all processes, and sum up, on the first, for which the others sample."""
    model, run, trainer = training.model, training.run, training.trainer
    best = read_tensors(run.best if is_stored(run.best) else run.last)
    model.load_state_dict(best["state_dict"])
    logged = evaluate(training)
    facts = {
        "step": trainer.global_step,
        "best_step": best["global_step"],
        "seconds": round(seconds, 1),
        "parameters": model.count_parameters(),
    }
    model.to(trainer.strategy.root_device)  # from which Lightning takes it in the end
    together(model, partial(sum_up, training, logged, facts))


def sum_up(training: Training, logged: dict[str, Any], facts: dict[str, Any]) -> None:
    """Look closely, and keep it all: metrics.json, report.html and what lies in samples/."""
    model, run = training.model, training.run
    if isinstance(model, Writer):
        figures, texts = conclude_writer(training, model, logged, facts["best_step"])
        print_figures(model, figures)
        print_words(figures, texts)
        if isinstance(model, TextDiffusion):
            save_noise_prediction(run.plot, figures)
    elif isinstance(model, Classifier):
        figures = classifier_figures(logged)
        print_classifier(figures, run)
    else:
        figures = conclude_autoencoder(training, model, logged)
    declared = (
        model.FIGURES
        | TextQuality.FIGURES
        | SampleQuality.FIGURES
        | Frontier.FIGURES
        | Garble.FIGURES
        | Control.FIGURES
    )
    names = [name for name, _ in flat(figures | facts) if not name.rpartition("/")[2].isdigit()]
    facts["figures"] = typed(names, declared, ruler(training))
    write_json(run.metrics, figures | facts)
    record = Record(run)
    write_report(record)
    publish(training.trainer.loggers, record)
    print(f"{run.report}\n{run.directory}")


def ruler(training: Training) -> dict[str, str]:
    """The facts about a run that its figures may depend on, besides the model."""
    model, data = training.model, training.data
    chosen = {name: called(node) for name, node in model.hparams.items() if isinstance(node, dict)}
    facts = {
        "corpus": f"{type(data).__name__} {data.digest}, {data.packing} of {data.length} tokens",
        "tokenizer": tokenizer_digest(data.tokenizer),
        "texts": " + ".join(str(len(data.evaluated(split))) for split in SPLITS[1:]),
        "samples": str(training.report),
        "precision": str(training.trainer.precision),
        "machine": str(Record(training.run).environment.get("device")),
        "objective": ", ".join(chosen[name] for name in ("route", "prediction", "loss", "weighting") if name in chosen),
        "schedule": chosen.get("schedule", "none"),
        "sampler": chosen.get("sampler", "none"),
    }
    facts |= {"condition": chosen["condition"]} if "condition" in chosen else {}
    return facts | ({"text space": model.text_space.ruler} if isinstance(model, Writer) else {})


def called(node: dict[str, Any]) -> str:
    """A component and its arguments, as one would write the call."""
    arguments = ", ".join(f"{name}={value}" for name, value in node.items() if name != "component")
    return f"{node.get('component')}({arguments})"


def conclude_writer(
    training: Training, model: Writer, logged: dict[str, Any], step: int
) -> tuple[dict[str, Any], list[str]]:
    """The final figures, and texts."""
    run = training.run
    session = Session(
        model, training.sampler, run, step, training.seed, training.num_samples, data=lambda: training.data
    )
    figures = diffusion_figures(model, logged) if isinstance(model, TextDiffusion) else token_figures(model, logged)
    if step < training.trainer.global_step:
        figures["weights_verdict"] = weights_verdict(step, training.trainer.global_step)
    if alarms := Record(run).alarms:
        figures["alarms"] = alarms
    texts = []
    if session.num_samples:
        told, asked = model.as_told(training.data.batch("validation", session.num_samples))
        samples = session.drawn(session.sampler, len(asked) or session.num_samples, Wish(told))
        texts = session.read(samples)
        keep(session, texts, asked)
        texts = [f"{in_words(what)}: {text}" if what else text for text, what in zip_longest(texts, asked)]
        if isinstance(model, TextDiffusion):
            sizes = {"rms": samples.rms, "peak_rms": samples.peak_rms}
            figures["samples"] = sizes | {"verdict": sampling_verdict(**sizes)}
    return figures | look_closely(session, **training.report), texts


def look_closely(
    session: Session, quality: int, frontier: int, garbled: int, trace_steps: int, control: int
) -> dict[str, Any]:
    """Judge `quality` samples, and `frontier` at each setting that trades quality for variety, restore `garbled` texts,
    ask `control` times for each value that there is to ask for, trace one text in `trace_steps` steps; the figures.
    """
    figures: dict[str, Any] = {}
    if quality:
        task, many = SampleQuality(), replace(session, num_samples=quality)
        columns = task.measure(many)
        task.write(many, columns)
        beside = {name.replace("real text", "real"): column for name, column in columns.items() if name != "samples"}
        figures["quality"] = columns["samples"] | beside
        figures["quality_verdict"] = quality_verdict(columns)
    if frontier:
        drawing, many = Frontier(nfe=[session.sampler.nfe]), replace(session, num_samples=frontier)
        measured = drawing.measure(many)
        drawing.write(many, measured)
        figures["sample_quality_verdict"] = sentences(measured)[0]
        if found := measured.qualities[session.sampler.nfe]:
            figures["sample_quality"], figures["sample_quality_error"] = found.judge_nll
            figures["sample_quality_entropy"], figures["sample_quality_distinct_3"] = found.entropy, found.distinct_3
    has_noise = isinstance(session.model, TextDiffusion)
    if garbled and (has_noise or isinstance(session.model.condition, Garbled)):
        garble, some = Garble(), replace(session, num_samples=garbled)
        restored = garble.measure(some, garble.garblings[0])
        garble.write(some, restored)
        figures["garbled"] = restored.scores
    if control and isinstance(session.model.condition, Attributes):
        asking = Control(guidance=[1.0, 1.5], each=control)
        rows = asking.measure(session)
        asking.write(session, rows)
        figures["control"] = {name: {"said": row.said, "verbatim": row.verbatim} for name, row in rows.items()}
    if trace_steps and has_noise:
        trace = Trace(trace_steps)
        trace.write(session, trace.measure(session))
    return figures


def conclude_autoencoder(training: Training, model: TextAutoencoder, logged: dict[str, Any]) -> dict[str, Any]:
    """The final figures; the text space is saved, for denoisers to be trained on."""
    run, space = training.run, BartSpace(model.autoencoder)
    space.save(run.text_space)
    figures = autoencoder_figures(logged)
    figures["reconstructions"] = reconstructions(space, training.data, training.num_samples)
    print_autoencoder(figures, run)
    return figures


def evaluate(training: Training) -> dict[str, Any]:
    """What validation and test log for the model as it is now, whose texts all processes share."""
    trainer = training.trainer
    on: dict[str, Any] = {"devices": 1}
    if processes() > 1:
        strategy = DDPStrategy(parallel_devices=trainer.strategy.parallel_devices)  # type: ignore[attr-defined]
        on = {"strategy": strategy, "num_nodes": trainer.num_nodes}
    evaluator = Trainer(
        accelerator=trainer.strategy.root_device.type,
        **on,
        use_distributed_sampler=False,
        logger=False,
        callbacks=[progress_bar()],
        enable_model_summary=False,
        enable_checkpointing=False,
        limit_val_batches=trainer.limit_val_batches,
        limit_test_batches=trainer.limit_test_batches,
    )
    logged: dict[str, Any] = {}
    for stage in (evaluator.validate, evaluator.test):
        logged |= stage(training.model, training.data, verbose=False)[0]
    return logged


def reconstructions(space: BartSpace, data: TextDataModule, count: int) -> list[tuple[str, str]]:
    """Texts of the validation split, and what becomes of them when they are encoded and decoded."""
    if count == 0:
        return []
    batch = data.batch("validation", count)
    tokens, mask = batch["tokens"], batch["mask"]
    decoded = space.decode(space.encode(tokens, mask), space.latent_mask(mask))
    return list(zip(space.to_text(tokens), space.to_text(decoded), strict=True))
