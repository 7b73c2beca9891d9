import contextlib
import csv
import json
import math
import os
import random
import re
import shutil
import signal
from functools import partial
from pathlib import Path

import forked
import pytest
import torch
from lightning import Callback

from diffusion_text.composition import compose_task, compose_training
from diffusion_text.errors import StoppedError, UserError
from diffusion_text.runs import Run
from diffusion_text.tensors import write_tensors
from diffusion_text.training import train

ROOT = Path(__file__).parents[1]
QUANTITIES = {"noise_cosine", "noise_magnitude", "x0_cosine", "x0_magnitude"}
SMALL = [
    "trainer=cpu", "lr_schedule=constant", "optimizer.lr=1e-2",
    "text_space.dim=32", "text_space.layers=1", "text_space.heads=2", "text_space.vocab_size=320",
    "text_space.max_steps=100", "text_space.learning_rate=5e-3",
    "data=text_files", "data.length=12", "data.batch_size=48",
    "trainer.max_steps=20", "trainer.val_check_interval=10", "trainer.log_every_n_steps=5", "sampler.num_steps=4",
]  # fmt: skip
EMBEDDED = [
    "model=diffusion_lm", "tokenizer=characters", "text_space.dim=16", "model.width=16", "model.depth=1",
    "model.heads=2",
]  # fmt: skip
# 7 batches make an epoch, so steps 10, 15 and 20 each lie within one.
UNREPORTED = ["report.quality=0", "report.frontier=0", "report.garbled=0", "report.trace_steps=0"]


pytestmark = pytest.mark.usefixtures("shapes_unchecked")


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory):
    """Paragraphs that repeat one of twelve words: a tiny BART learns to give such texts back in a hundred steps."""
    words = ["apple", "river", "stone", "cloud", "light", "green", "seven", "table", "horse", "paper", "music", "north"]
    draw = random.Random(0)
    file = tmp_path_factory.mktemp("corpus") / "repeated.txt"
    file.write_text("".join(f"{' '.join([draw.choice(words)] * 9)}\n\n" for _ in range(400)), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """A function that runs a script of the root from an empty directory, with a cache of this module's own."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    variables = {"OMP_NUM_THREADS": "1", "DIFFUSION_TEXT_CACHE": str(elsewhere / "cache")}

    def call(script, *arguments):
        return forked.call(ROOT / script, *arguments, cwd=elsewhere, env=os.environ | variables)

    call.cache = elsewhere / "cache"
    return call


@pytest.fixture(scope="module")
def trained(call, outputs, corpus_file):
    """A training of twenty steps, from the command line."""
    result = call("train.py", *SMALL, f"data.dir={corpus_file}", f"hydra.run.dir={outputs}/day/run")
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def run(trained, outputs):
    return Run(outputs / "day" / "run")


@pytest.fixture
def another(run, tmp_path):
    """A copy of the run, elsewhere."""
    return Run(Path(shutil.copytree(run.directory, tmp_path / "copied")))


@pytest.fixture
def train_here(composed, call, corpus_file):
    """A function that trains in this process with the same settings and cache, in a run directory, with a callback;
    it draws nothing for a report.
    """

    def train_here(run, *overrides, callback=None, own_space=True):
        run.directory.mkdir(exist_ok=True)
        places = [f"data.dir={corpus_file}", f"cache_dir={call.cache}", f"run_dir={run.directory}"]
        settings = [setting for setting in SMALL if own_space or not setting.startswith("text_space.")]
        training = compose_training(composed(*settings, *UNREPORTED, *places, *overrides))
        if callback:
            training.trainer.callbacks.insert(0, callback)
        train(training)

    return train_here


@pytest.fixture
def sample_here(composed):
    """A function that samples a run in this process; returns the texts that it wrote."""

    def sample_here(run, *overrides):
        before = set(run.samples.glob("*.jsonl"))
        task, session = compose_task(composed(f"run={run.directory}", *overrides, config="sample"))
        task(session)
        return [line["text"] for file in set(run.samples.glob("*.jsonl")) - before for line in lines(file)]

    return sample_here


def rows(run):
    with (run.directory / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def load(file):
    return torch.load(file, map_location="cpu", weights_only=True)


def kinds(value):
    """The types of a value and of all it holds."""
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    return {type(value)}.union(*map(kinds, inner)) if isinstance(value, (dict, list, tuple)) else {type(value)}


def differences(one, other):
    """The names of tensors in which two checkpoints differ."""
    names = [
        f"{part}.{name}"
        for part in ("state_dict", "current_model_state")
        for name in one[part]
        if not torch.equal(one[part][name], other[part][name])
    ]
    moments = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (one, other)]
    assert moments[0].keys() == moments[1].keys()
    return names + [i for i, m in moments[0].items() if not torch.equal(m["exp_avg"], moments[1][i]["exp_avg"])]


# ---- the run directory


def test_the_configuration_is_resolved(run):
    text = run.config.read_text(encoding="utf-8")
    assert "max_steps: 20" in text
    assert "${" not in text
    assert "???" not in text


@pytest.mark.parametrize("name", ["best", "last"])
def test_checkpoints_are_tensors_and_plain_values(run, name):
    content = load(run.checkpoints / f"{name}.ckpt")
    plain = {str, int, float, bool, type(None), dict, list, tuple, torch.Tensor}
    assert {kind.__name__ for kind in kinds(content) - plain} <= {"OrderedDict", "defaultdict"}
    assert "_target_" not in str(content["hyper_parameters"])
    assert content["hyper_parameters"]["schedule"] == {"component": "CosineSchedule", "s": 0.008}


def test_bart_is_in_the_run_and_not_in_its_checkpoints(run):
    weights = load(run.last)["state_dict"]
    assert {name.partition(".")[0] for name in weights} <= {"denoiser", "text_space", "linear", "length_counts"}
    assert (run.text_space / "model.safetensors").is_file()


def test_the_last_checkpoint_is_of_the_last_step(run):
    assert load(run.last)["global_step"] == 20
    assert load(run.best)["global_step"] in (10, 20)


def test_checkpoints_hold_averaged_weights(run):
    content = load(run.last)
    averaged, raw = content["state_dict"], content["current_model_state"]
    assert [name for name in averaged if name.startswith("denoiser.") and not torch.equal(averaged[name], raw[name])]


def test_the_metrics_of_training_and_validation_are_logged(run):
    logged = rows(run)
    training = [row for row in logged if row["train/loss"]]
    validation = [row for row in logged if row["val/loss"]]
    assert len(training) == 4
    assert len(validation) == 2
    for predictor in ("", "linear/", "do_nothing/"):
        for quantity in QUANTITIES:
            assert all(float(row[f"train/{predictor}{quantity}"]) for row in training)
            bins = [float(validation[-1][f"val/{predictor}{quantity}/{i}"]) for i in range(10)]
            assert float(validation[-1][f"val/{predictor}{quantity}"]) == pytest.approx(sum(bins) / 10, rel=1e-5)


def test_the_final_figures(run):
    figures = json.loads(run.metrics.read_text(encoding="utf-8"))
    assert figures["step"] == 20
    assert figures["best_step"] == load(run.best)["global_step"]
    denoiser = [value for name, value in load(run.best)["state_dict"].items() if name.startswith("denoiser.")]
    assert figures["parameters"] == sum(weights.numel() for weights in denoiser)
    for stage in ("val", "test"):
        for predictor in ("model", "do_nothing", "linear"):
            measured = figures[stage][predictor]
            assert set(measured) == QUANTITIES
            for values in measured.values():
                assert len(values["bins"]) == 10
                assert values["overall"] == pytest.approx(sum(values["bins"]) / 10, rel=1e-5)
        assert (
            figures[stage]["linear"]["noise_cosine"]["overall"]
            > figures[stage]["do_nothing"]["noise_cosine"]["overall"]
        )


def test_the_final_figures_are_those_of_the_best_validation(run):
    figures = json.loads(run.metrics.read_text(encoding="utf-8"))
    losses = {int(row["step"]) + 1: float(row["val/loss"]) for row in rows(run) if row["val/loss"]}
    assert figures["best_step"] == min(losses, key=losses.get)
    assert figures["val"]["loss"] == pytest.approx(losses[figures["best_step"]], rel=1e-4)
    assert ("weights_verdict" in figures) == (figures["best_step"] < figures["step"])


def test_samples_at_validation_and_at_the_end(run):
    assert {file.name for file in run.samples.iterdir()} == {
        "validation.jsonl", "ddim-4-seed-0.txt", "ddim-4-seed-0.jsonl", "quality.json", "garble.jsonl", "trace.jsonl",
        "trace.html", "frontier.json", "frontier.html",
    }  # fmt: skip
    final = lines(run.samples / "ddim-4-seed-0.jsonl")
    assert len(final) == 5
    step = load(run.best)["global_step"]
    assert all(text.items() >= {"seed": 0, "sampler": "ddim", "nfe": 4, "step": step}.items() for text in final)
    text = (run.samples / "ddim-4-seed-0.txt").read_text(encoding="utf-8")
    assert text.startswith(f"# seed 0  sampler ddim  nfe 4  step {step}\n")
    assert all(line["text"] in text for line in final)
    assert len({line["text"] for line in final}) > 1
    assert [(line["step"], len(line["texts"])) for line in lines(run.texts)] == [(10, 3), (20, 3)]


def test_training_ends_with_a_table_and_the_path(run, trained):
    shown = trained.stdout.splitlines()
    assert shown[-1] == str(run.directory)
    assert "best linear predictor" in trained.stdout
    assert max(map(len, shown[-20:])) <= max(100, len(str(run.directory)))
    log = (run.directory / "train.log").read_text(encoding="utf-8")
    assert "Step 20" in log
    assert re.search("encode → decode .*% of tokens .*ok", log), "the checks belong to the log"
    parts = ("data", "text space", "model", "schedule", "prediction", "loss", "training", "device", "run")
    assert not [part for part in parts if not re.search(f"^{part} +\\S", log, re.MULTILINE)]
    assert str(run.report) in shown


def warned(result):
    """The warnings that a script let its user see."""
    return [line for line in result.stderr.splitlines() if re.search(r"Warning|\.py:\d+: ", line)]


def test_training_does_not_warn(trained):
    assert warned(trained) == []


# ---- a text space by itself


def test_a_text_space_is_trained_checked_resumed_and_diffused_over(train_here, tmp_path):
    own = ["model=text_autoencoder", "text_space.max_steps=80", "trainer.val_check_interval=40", "optimizer.lr=5e-3"]
    run, again = Run(tmp_path / "autoencoder"), Run(tmp_path / "diffusion")
    train_here(run, *own, "trainer.max_steps=40", "num_samples=2")
    first = json.loads(run.metrics.read_text(encoding="utf-8"))
    train_here(run, *own, "trainer.max_steps=80", "num_samples=2")
    figures = json.loads(run.metrics.read_text(encoding="utf-8"))
    assert (first["step"], figures["step"]) == (40, 80)
    assert figures["val"]["reconstruction"] < first["val"]["reconstruction"]
    assert {"loss", "kl", "accuracy", "token_accuracy", "exact_match"} < set(figures["test"])
    noisy = [figures["val"][f"token_accuracy_noise_{level}"] for level in (0.1, 0.5, 1.0)]
    assert noisy[0] >= noisy[2]
    assert load(run.best).keys() >= {"state_dict", "hyper_parameters", "current_model_state"}
    train_here(
        again, "text_space=bart_base", f"text_space.pretrained={run.text_space}", "preflight=warn", own_space=False
    )
    assert again.best.is_file()


# ---- sampling


def test_sampling_the_newest_run_repeats_its_last_texts_beside_them(call, run, outputs):
    kept = lines(run.samples / "ddim-4-seed-0.jsonl")
    result = call("sample.py", f"outputs={outputs}")
    assert result.returncode == 0, result.stderr
    assert lines(run.samples / "ddim-4-seed-0-2.jsonl") == kept
    assert lines(run.samples / "ddim-4-seed-0.jsonl") == kept
    assert [line for line in result.stdout.splitlines() if line] == [
        f"[{i}] {' '.join(text['text'].split())}".strip() for i, text in enumerate(kept, 1)
    ]


def test_another_sampler_length_and_number_from_the_command_line(call, another):
    wanted = ["sampler=ddpm", "sampler.num_steps=3", "seed=1", "num_samples=2", "length=9"]
    result = call("sample.py", f"run={another.directory}", *wanted)
    assert result.returncode == 0, result.stderr
    texts = lines(another.samples / "ddpm-3-seed-1.jsonl")
    assert len(texts) == 2
    assert all(text.items() >= {"seed": 1, "sampler": "ddpm", "nfe": 3}.items() for text in texts)


def test_the_same_seed_gives_the_same_texts_and_another_others(sample_here, another):
    first, again, other, ddpm = (
        sample_here(another, *overrides)
        for overrides in (["seed=3"], ["seed=3"], ["seed=4"], ["seed=3", "sampler=ddpm"])
    )
    assert first == again
    assert first != other
    assert first != ddpm
    assert any(text.strip() for text in first)


def test_no_samples_are_no_files(sample_here, another):
    before = set(another.samples.iterdir())
    assert sample_here(another, "num_samples=0") == []
    assert set(another.samples.iterdir()) == before


def test_a_run_is_sampled_without_cache_and_moved(sample_here, another, run, call):
    kept = [line["text"] for line in lines(run.samples / "ddim-4-seed-0.jsonl")]
    hidden = call.cache.rename(call.cache.with_name("hidden"))
    try:
        assert sample_here(another) == kept
    finally:
        hidden.rename(call.cache)


# ---- going on


def test_a_run_is_resumed_from_the_command_line(call, another):
    earlier = rows(another)
    result = call("train.py", f"resume={another.directory}", "trainer.max_steps=30")
    assert result.returncode == 0, result.stderr
    assert warned(result) == []
    assert load(another.last)["global_step"] == 30
    assert "max_steps: 30" in another.config.read_text(encoding="utf-8")
    assert json.loads(another.metrics.read_text(encoding="utf-8"))["step"] == 30
    logged = rows(another)
    assert [{k: v for k, v in row.items() if v} for row in logged[: len(earlier)]] == [
        {k: v for k, v in row.items() if v} for row in earlier
    ]
    later = [int(row["step"]) + 1 for row in logged[len(earlier) :]]
    assert later == sorted(later)
    assert set(later) == {25, 30}
    assert [line["step"] for line in lines(another.texts)] == [10, 20, 30]
    assert (another.samples / "ddim-4-seed-0.jsonl").exists()


def test_two_halves_make_the_same_run(run, train_here, tmp_path):
    halves = Run(tmp_path / "halves")
    train_here(halves, "trainer.max_steps=10")
    assert load(halves.last)["global_step"] == 10
    train_here(halves)
    assert differences(load(halves.last), load(run.last)) == []
    in_one_go, in_two = ([row["train/loss"] for row in rows(r) if row["train/loss"]] for r in (run, halves))
    assert in_one_go == in_two


def test_a_resumed_run_remembers_its_best_wherever_it_was_moved(another, train_here):
    content = load(another.last)
    unbeatable = torch.tensor(1e-9)
    [state] = [state for name, state in content["callbacks"].items() if "'val/loss'" in name]
    state |= {"best_model_score": unbeatable, "kth_value": unbeatable}
    state["best_k_models"] = dict.fromkeys(state["best_k_models"], unbeatable)
    write_tensors(another.last, content)
    best = load(another.best)["global_step"]
    train_here(another, "trainer.max_steps=30")
    assert load(another.last)["global_step"] == 30
    assert load(another.best)["global_step"] == best


class Stop(Callback):
    """Ends a training after step 15: by an exception, or by the signal that a cluster sends."""

    def __init__(self, how):
        self.how = how

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == 15:
            if self.how == "exception":
                raise KeyError("out of memory, say")
            os.kill(os.getpid(), signal.SIGTERM)


class Poison(Callback):
    """Makes a latent of step 15 something that is no number."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 14:
            batch["latents"][0, 0, 0] = float("nan")


def test_what_is_not_finite_is_not_saved_and_a_rerun_goes_on_as_if_it_had_not_been(train_here, run, tmp_path):
    poisoned = Run(tmp_path / "poisoned")
    with pytest.raises(UserError, match=r"^step 15: the gradient of denoiser\.\S+ is not finite; lower optimizer\.lr"):
        train_here(poisoned, callback=Poison())
    for file in (poisoned.last, poisoned.best):
        content = load(file)
        assert content["global_step"] == 10
        for part in ("state_dict", "current_model_state"):
            assert all(tensor.isfinite().all() for tensor in content[part].values())
    train_here(poisoned)
    assert differences(load(poisoned.last), load(run.last)) == []


@pytest.fixture
def stopped(train_here, tmp_path):
    """A function that trains until a stop; returns the run and how it ended."""

    def stopped(how):
        run = Run(tmp_path / "stopped")
        with pytest.raises((KeyError, StoppedError)) as ending:
            train_here(run, callback=Stop(how))
        return run, ending.value

    return stopped


@pytest.mark.parametrize("how", ["signal", "exception"])
def test_a_stopped_training_goes_on_as_if_never_stopped(stopped, train_here, run, how):
    again, ending = stopped(how)
    assert how == "exception" or ending.exit_code == 143
    assert load(again.last)["global_step"] in (15, 16)
    assert load(again.best)["global_step"] == 10, "what was stopped unvalidated is not the best"
    train_here(again)
    assert differences(load(again.last), load(run.last)) == []


def test_a_training_leaves_signals_as_they_were(train_here, tmp_path):
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    train_here(Run(tmp_path / "short"), "trainer.max_steps=2")
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_run_shorter_than_the_validation_interval_is_validated_all_the_same(train_here, tmp_path):
    short = Run(tmp_path / "short")
    train_here(short, "trainer.max_steps=3", "trainer.val_check_interval=1000")
    assert load(short.best)["global_step"] == load(short.last)["global_step"] == 3


@pytest.mark.parametrize("preflight", ["stop", "only"])
def test_a_failing_check_stops_a_training_before_it_starts(train_here, tmp_path, preflight):
    stopped = Run(tmp_path / "stopped")
    with pytest.raises(UserError, match=r"^preflight: encode → decode [^\n]*preflight=warn$"):
        train_here(stopped, f"preflight={preflight}", "text_space.max_steps=1")
    checks = json.loads(stopped.preflight.read_text(encoding="utf-8"))
    assert {"encode → decode"} == {check["name"] for check in checks if check["verdict"] == "fail"}
    assert not stopped.checkpoints.exists()


def content(directory):
    """The bytes of every file below a directory."""
    return {file: file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_a_second_training_in_one_directory_is_refused_and_changes_nothing(call, another):
    with another.locked():
        before = content(another.directory)
        result = call("train.py", f"resume={another.directory}", "seed=1")
        assert content(another.directory) == before
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert line == f"train.py: another process is training in {another.directory}: choose another hydra.run.dir"


# ---- what a resumed run may change


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.width=32", "model.width=narrow, which model.width=32 cannot go on from"),
        ("schedule=sqrt", "schedule.component=CosineSchedule"),
        ("data.batch_size=24", "48 texts a step and would go on with 24"),
    ],
)
def test_what_a_run_did_not_begin_with_is_refused_before_anything_is_written(train_here, another, override, says):
    before = content(another.directory)
    with pytest.raises(UserError) as refusal:
        train_here(another, override)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert content(another.directory) == before


def test_another_corpus_is_refused_before_anything_is_written(train_here, another, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("".join(f"a quite different text, number {i}\n\n" for i in range(200)), encoding="utf-8")
    before = content(another.directory)
    with pytest.raises(UserError, match=r"was trained on another corpus: give it that, or"):
        train_here(another, f"data.dir={other}")
    assert content(another.directory) == before


def test_smaller_batches_that_make_the_same_steps_go_on_with_the_same_texts(train_here, another):
    train_here(another, "data.batch_size=24", "trainer.accumulate_grad_batches=2", "trainer.max_steps=25")
    assert load(another.last)["global_step"] == 25


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_of_a_resumed_run_is_that_of_its_settings(train_here, another, schedule):
    settings = [f"lr_schedule={schedule}", "lr_schedule.num_warmup_steps=2", "optimizer.lr=5e-3"]
    train_here(another, *settings, "trainer.max_steps=30", "trainer.log_every_n_steps=1")
    logged = {int(row["step"]) + 1: float(row["train/learning_rate"]) for row in rows(another) if row["train/loss"]}
    for step in range(21, 31):
        share = (step - 1 - 2) / (30 - 2)
        factor = 1 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * share))
        assert logged[step] == pytest.approx(5e-3 * factor), step


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with a C++ compiler")
def test_a_compiled_network_is_trained_as_another_is_and_so_is_one_that_encodes_in_the_step(
    call, corpus_file, train_here, tmp_path
):
    kept, eager, compiled = (Run(tmp_path / name) for name in ("kept", "eager", "compiled"))
    settings = ["model=transformer", "model.width=16", "model.depth=1", "model.heads=2", *UNREPORTED]
    settings += ["num_samples=0", "callbacks.samples=null"]
    train_here(kept, *settings)
    train_here(eager, *settings, "text_space.cache=none")
    place = [f"data.dir={corpus_file}", f"hydra.run.dir={compiled.directory}", "text_space.cache=none"]
    result = call("train.py", *SMALL, *settings, *place, "trainer.compile=true")
    assert result.returncode == 0, result.stderr
    assert re.search(r"latents +encoded in the step, \d+ MB of them in all", result.stdout)
    runs = (kept, eager, compiled)
    losses = {run: [float(row["train/loss"]) for row in rows(run) if row["train/loss"]] for run in runs}
    assert losses[compiled] == pytest.approx(losses[eager], rel=1e-5)
    assert losses[eager] == pytest.approx(losses[kept], rel=1e-2)  # whose latents are kept in sixteen bits
    assert set(load(compiled.last)["state_dict"]) == set(load(kept.last)["state_dict"])


def test_latents_in_memory_are_those_on_the_disk(train_here, run, tmp_path):
    memory = Run(tmp_path / "memory")
    train_here(memory, "text_space.cache=memory")
    assert differences(load(memory.last), load(run.last)) == []


def test_latents_of_a_stream_are_encoded_in_the_step(train_here, tmp_path):
    streamed = Run(tmp_path / "streamed")
    train_here(streamed, "data.streaming=true", "data.buffer=50", "trainer.max_steps=10")
    whole = load(streamed.last)
    train_here(streamed, "data.streaming=true", "data.buffer=50")
    assert (whole["global_step"], load(streamed.last)["global_step"]) == (10, 20)


# ---- epochs and accumulation


def test_a_run_limited_by_epochs_ends_with_the_epoch_and_is_saved(train_here, tmp_path):
    epochs = Run(tmp_path / "epochs")
    train_here(epochs, "trainer.max_steps=-1", "trainer.max_epochs=2")
    assert load(epochs.last)["global_step"] == 14
    assert load(epochs.best)["global_step"] in (10, 14)


def test_intervals_are_in_steps_whatever_accumulates(train_here, tmp_path):
    accumulated = Run(tmp_path / "accumulated")
    settings = ["data.batch_size=16", "trainer.accumulate_grad_batches=3", "trainer.max_steps=12"]
    train_here(accumulated, *settings, "trainer.val_check_interval=5")
    logged = rows(accumulated)
    assert [int(row["step"]) + 1 for row in logged if row["train/loss"]] == [5, 10, 12]
    assert [int(row["step"]) + 1 for row in logged if row["val/loss"]] == [5, 10, 12]
    assert [line["step"] for line in lines(accumulated.texts)] == [5, 10, 12]


def test_fewer_texts_than_a_step_takes_are_repeated(train_here, tmp_path):
    few = Run(tmp_path / "few")
    train_here(few, "data.batch_size=1000", "trainer.max_steps=2", "preflight=warn")
    assert load(few.last)["global_step"] == 2


# ---- killed


@pytest.mark.parametrize(
    "settings",
    [
        ["trainer.max_steps=12", "trainer.val_check_interval=4"],
        ["trainer.max_steps=-1", "trainer.max_epochs=1", "trainer.val_check_interval=3", "data.num_workers=1"],
        [
            "trainer.max_steps=12",
            "trainer.val_check_interval=4",
            "data.batch_size=24",
            "trainer.accumulate_grad_batches=2",
        ],
        [
            *EMBEDDED, "data.streaming=true", "data.buffer=70", "data.num_workers=1", "trainer.max_steps=12",
            "trainer.val_check_interval=4", "data.batch_size=8", "trainer.accumulate_grad_batches=3",
        ],
    ],
    ids=["steps", "epochs", "accumulation", "streaming"],
)  # fmt: skip
def test_a_killed_training_goes_on_as_if_it_had_not_been(train_here, tmp_path, settings):
    whole, killed = Run(tmp_path / "whole"), Run(tmp_path / "killed")
    train_here = partial(train_here, own_space=settings[0] not in EMBEDDED)
    train_here(whole, *settings)
    kills = random.Random(0)
    for _ in range(3):
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                train_here(killed, *settings, callback=Kill(kills.randrange(20)))
            os._exit(0)
        os.waitpid(child, 0)
        kills.random()
    train_here(killed, *settings)
    assert differences(load(killed.last), load(whole.last)) == []
    assert differences(load(killed.best), load(whole.best)) == []
    for row, expected in zip(rows(killed), rows(whole), strict=True):
        assert figures(row) == figures(expected)


def figures(row):
    """A row of metrics.csv without the figures of speed."""
    return {name: value for name, value in row.items() if value and not name.startswith("speed/")}


class Kill(Callback):
    """Kills the process at the nth of the moments at which it is called."""

    def __init__(self, moment):
        self.moment = moment

    def pass_moment(self, *args, **kwargs):
        if self.moment == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.moment -= 1

    on_train_batch_start = on_before_optimizer_step = on_train_batch_end = pass_moment
    on_validation_start = on_validation_batch_end = on_validation_epoch_end = on_validation_end = pass_moment


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 10), (signal.SIGINT, 20)])
def test_a_training_stopped_in_a_validation_goes_on_as_if_never_stopped(train_here, tmp_path, run, number, step):
    stopped = Run(tmp_path / "stopped")
    with pytest.raises(StoppedError) as ending:
        train_here(stopped, callback=StopInValidation(number, step))
    assert ending.value.exit_code == 128 + number
    assert not stopped.metrics.exists()
    train_here(stopped)
    assert differences(load(stopped.last), load(run.last)) == []
    assert differences(load(stopped.best), load(run.best)) == []


class StopInValidation(Callback):
    """Sends a signal in the middle of the validation at a step."""

    def __init__(self, number, step):
        self.number, self.step = number, step

    def on_validation_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)
