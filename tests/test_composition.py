import re
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.testing import assert_close

from diffusion_text.composition import compose_training
from diffusion_text.denoisers.textunet import TextUNet1D
from diffusion_text.diffusion.samplers import GaussianSampler
from diffusion_text.errors import UserError
from diffusion_text.models.text_autoencoder import TextAutoencoder
from diffusion_text.recorded import changes
from diffusion_text.settings import check_machine

CONF = Path(__file__).parents[1] / "conf"
TASKS = [file.stem for file in sorted(CONF.glob("task/*.yaml"))]
OPTIONS = [f"{file.parent.name}/{file.stem}" for file in sorted(CONF.glob("*/*.yaml")) if file.parent.name != "task"]
ABOUT_A_RUN = ("model/classifier", "route/classifier", "experiment/distil", "route/distilled")  # tests of their own
OPTIONS = [option for option in OPTIONS if option not in ABOUT_A_RUN]
NEED_A_GPU = {"trainer/gpu", "precision/fp16"}
TRAIN_A_SPACE = {
    "model/text_autoencoder", "route/autoencoder", "text_space/bart_mini", "text_space/bart_tolerant",
    "text_space/bart_vae", "experiment/small",
}  # fmt: skip
ELSEWHERE = ("control", "export", "seq2seq")  # of told runs, or not into the run: tests/tasks has their tests
TINY = {"dim": 16, "layers": 1, "heads": 2, "vocab_size": 320, "max_steps": 2}
OF_LEARNED_EMBEDDINGS = {
    "loss/cross_entropy", "model/diffusion_lm", "prediction/logits", "route/diffusion_lm", "schedule/learned",
    "text_space/embedding",
    *(option for option in OPTIONS if option.startswith("tokenizer/")),
    *(
        f"experiment/{file.stem}"
        for file in CONF.glob("experiment/*.yaml")
        if re.search("^[^#]*(diffusion_lm|embedding_flow)", file.read_text("utf-8"), re.MULTILINE)
    ),
}  # fmt: skip

OF_ATTRIBUTES = {"condition/attributes", "condition/garbled", "condition/label", "data/e2e", "experiment/e2e_control"}
OF_PAIRS = {"condition/text", "data/pairs"}
PUBLISHED = ("openwebtext", "fineweb_edu", "lm1b", "rocstories", "ag_news", "text8")
HELD_OUT = ("openwebtext", "fineweb_edu", "rocstories", "ag_news")
BASELINES = {name: name for name in ("autoregressive", "masked_diffusion")}
BASELINES |= {"left_to_right": "autoregressive", "unmasking": "masked_diffusion"}  # by a sampler of theirs


def minimal(option, settings):
    """Overrides that choose an option with everything else small and local."""
    group, name = option.split("/")
    if option in TRAIN_A_SPACE:
        node = "text_space.backbone" if name == "bart_vae" else "text_space"
        steps = ["text_space.max_steps=2"] if name == "bart_vae" else []
        return [f"{group}={name}", *settings[2:], *(f"{node}.{key}={value}" for key, value in TINY.items()), *steps]
    if option in OF_ATTRIBUTES:
        place = next(setting for setting in settings if setting.startswith("data.dir="))
        small = ["trainer=cpu", "text_space.dim=16", "model.width=16", "model.depth=1", "model.heads=2", f"{place}-e2e"]
        return ["experiment=e2e_control", f"{group}={name}", *settings[4:], *small]
    if option in OF_PAIRS:
        place = next(setting for setting in settings if setting.startswith("data.dir="))
        small = ["text_space.dim=16", "model.width=16", "model.depth=1", "model.heads=2", f"{place}-pairs.jsonl"]
        return ["model=diffusion_lm", "data=pairs", "condition=text", *settings[4:], *small]
    if option in OF_LEARNED_EMBEDDINGS:
        route = {"model": "diffusion_lm", "tokenizer": "characters", "prediction": "logits"}
        chosen = {"trainer": "cpu"} if group == "experiment" else route
        small = ["text_space.dim=16", "model.depth=1", "model.heads=2", *settings[2:]]
        pretrained = [settings[1].replace("text_space", "tokenizer")] if name == "pretrained" else []
        return [*(f"{key}={value}" for key, value in (chosen | {group: name}).items()), *small, *pretrained]
    if name in BASELINES:
        chosen = {"trainer": "cpu"} if group == "experiment" else {"model": BASELINES[name], "tokenizer": "characters"}
        small = ["text_space.dim=16", "model.width=16", "model.depth=1", "model.heads=2", *settings[2:]]
        return [*(f"{key}={value}" for key, value in ({group: name} | chosen).items()), *small]
    if group == "data" and name in PUBLISHED:
        small = ["data.held_out=40"] if name in HELD_OUT else []
        place = next(setting for setting in settings if setting.startswith("data.dir="))
        return [*settings, f"data={name}", f"{place}-published", *small]
    small = ["data.size=20000"] if option in ("data/markov", "data/grammar") else []
    own = {"text_space": "text_space=", "data": "data=", "experiment": "data="}.get(group)
    rest = [override for override in settings if not own or not override.startswith(own)]
    machine = ["trainer=cpu", "precision=fp32"] if group == "experiment" else []
    if name.startswith("latent_flow") or name == "restore_latents":
        small = ["model.width=16", "model.depth=1", "model.heads=2"]
    return [f"{group}={name}", *machine, *rest, *small]


# ---- every file of conf/


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_built_and_comes_back_from_a_checkpoint(composed, settings, saved, sampled, option):
    cfg = composed(*minimal(option, settings))
    if option in NEED_A_GPU and not torch.cuda.is_available():
        with pytest.raises(UserError, match=option.replace("/", "=")):
            compose_training(cfg)
        return
    if option == "callbacks/early_stopping":
        assert "EarlyStopping" in cfg.callbacks.early_stopping._target_
    training = compose_training(cfg)
    if isinstance(training.model, TextAutoencoder):
        with pytest.raises(UserError, match="is a text autoencoder"):
            sampled(saved(training))
        return
    _, session = sampled(saved(training))
    assert type(session.sampler) is type(training.sampler)
    assert vars(session.sampler) == vars(training.sampler)
    assert session.step == 0
    for part in ("denoiser", "schedule", "prediction", "loss", "weighting", "time_sampling"):
        assert type(getattr(session.model, part, None)) is type(getattr(training.model, part, None))
    assert_close(session.model.state_dict(), training.model.state_dict(), rtol=0, atol=0, equal_nan=True)


def test_a_bottleneck_is_put_on_any_bart(composed, settings, bart_directory):
    """The untrained BART of the tests, named as BART-base would be."""
    backbone = ["text_space@text_space.backbone=bart_base", f"text_space.backbone.pretrained={bart_directory}"]
    small = ["text_space.dim=6", "text_space.compression=2", "text_space.max_steps=2"]
    training = compose_training(composed("text_space=bart_vae", *backbone, *small, *settings[2:]))
    assert (training.model.text_space.dim, training.model.text_space.compression) == (6, 2)


def test_the_loggers_and_callbacks_are_the_configured_ones(composed, settings):
    cfg = composed("callbacks=early_stopping", "logger=tensorboard", *settings)
    trainer = compose_training(cfg).trainer
    names = {type(part).__name__ for part in [*trainer.callbacks, *trainer.loggers]}
    assert names >= {"SampleTexts", "EMA", "EarlyStopping", "RunCSVLogger", "TensorBoardLogger"}
    assert trainer.checkpoint_callback.monitor == "val/loss"
    order = [type(callback).__name__ for callback in trainer.callbacks]
    assert order[-1] == "LastCheckpoint", "it saves, and stops, what all others are done with"
    assert order.index("SampleTexts") < order.index("EMA"), "samples need the averaged weights"


@pytest.mark.parametrize("recipe", ["latent_diffusion", "embedding_flow", "latent_flow"])
@pytest.mark.parametrize("sampler", ["churn", "ddim", "ddpm", "dpm_solver", "heun"])
def test_a_recipe_takes_any_sampler(composed, recipe, sampler):
    assert isinstance(instantiate(composed(f"experiment={recipe}", f"sampler={sampler}").sampler), GaussianSampler)


def test_a_callback_can_be_switched_off(composed, settings):
    trainer = compose_training(composed("callbacks.samples=null", "callbacks.ema=null", *settings)).trainer
    names = {type(callback).__name__ for callback in trainer.callbacks}
    assert not names & {"SampleTexts", "EMA"}


# ---- what the seed reaches


def test_the_seed_reaches_weights_order_and_noise(composed, settings):
    first, again, other = (compose_training(composed(f"seed={seed}", *settings)) for seed in (7, 7, 8))
    assert first.seed == first.data.seed == first.model.seed == 7
    first, again, other = (t.model.denoiser.state_dict() for t in (first, again, other))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_training_splits_statistics_reach_the_model(composed, settings):
    training = compose_training(composed(*settings))
    space, statistics = training.model.text_space, training.data.statistics
    torch.testing.assert_close(space.mean.double(), statistics["mean"], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(space.std.double(), statistics["covariance"].diagonal().sqrt(), atol=1e-6, rtol=1e-6)
    assert torch.equal(training.model.length_counts, statistics["length_counts"])


def test_the_written_configuration_is_resolved(composed, settings, tmp_path):
    compose_training(composed(*settings))
    written = (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")
    assert "${" not in written
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").data.length == 12


# ---- what makes no sense is refused before data is touched


@pytest.fixture
def no_data(monkeypatch):
    """A corpus that must not be read."""
    monkeypatch.setattr("diffusion_text.data.text_files.TextFiles.lines", lambda *_: pytest.fail("data was touched"))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["precision=fp16", "trainer=cpu"], ["precision=fp16", "trainer=cpu", "precision=bf16"]),
        (["data.length=41"], ["data.length=41", "40 positions", "text_space=bart_base"]),
        (["loss=cosine_magnitude", "weighting=min_snr"], ["loss=cosine_magnitude", "weighting=min_snr"]),
        (["model=text_autoencoder"], ["model=text_autoencoder", "text_space=bart_mini", "text_space=bart_vae"]),
        (["preflight=perhaps"], ["preflight=perhaps", "stop, warn, only, off"]),
        (["report.trace_steps=1"], ["report.trace_steps=1", "2 or more"]),
        (["report.quality=-1"], ["report.quality"]),
        (["trainer.max_steps=-1"], ["trainer.max_steps", "trainer.max_epochs"]),
        (["route.self_conditioning=1.5"], ["route.self_conditioning", "1.5"]),
        (["model.width=wide"], ["model.width=wide", "narrow, full"]),
        (["schedule=cosine", "schedule.s=1.5"], ["schedule.s=1.5", "below 1"]),
        (["sampler.num_steps=0"], ["sampler.num_steps=0 is not a whole number of at least 1"]),
        (["sampler.spacing=even"], ["sampler.spacing=even", "angle, training, log_snr, time"]),
        (["data.length=2"], ["data.length", "2", "4"]),
        (["data.length=many"], ["data", "length", "many"]),
        (["trainer.max_steps=many"], ["trainer", "max_steps", "many"]),
        (["trainer.precision=17"], ["trainer: ", "17"]),
        (["callbacks.ema.decay=1.5"], ["decay", "1.5"]),
        (["trainer.accumulate_grad_batches=0"], ["accumulate_grad_batches"]),
        (["optimizer.lr=-1"], ["optimizer.lr=-1 is not a finite number"]),
        (["optimizer.lr=inf"], ["optimizer.lr=inf"]),
        (["optimizer.lr=much"], ["optimizer.lr=much"]),
        (["optimizer._partial_=abc"], ["optimizer: ", "_partial_"]),
        (["lr_schedule.name=cosin"], ["lr_schedule.name=cosin is none of linear, cosine, ", "did you mean cosine?"]),
        (["lr_schedule.name=reduce_lr_on_plateau"], ["lr_schedule.name=reduce_lr_on_plateau is none of"]),
        (["lr_schedule.name=cosine_with_min_lr"], ["lr_schedule: ", "min_lr"]),
        (["lr_schedule.num_warmup_steps=0.5"], ["lr_schedule.num_warmup_steps=0.5"]),
        (["callbacks.best.monitor=val/los"], ["callbacks.best.monitor=val/los", "did you mean val/loss?"]),
        (["callbacks.best.monitor=val/rounding"], ["callbacks.best.monitor=val/rounding: no figure of that name"]),
        (
            ["callbacks=early_stopping", "callbacks.early_stopping.monitor=val/noise_cosin"],
            ["callbacks.early_stopping.monitor=val/noise_cosin", "did you mean val/noise_cosine?"],
        ),
        (["callbacks=early_stopping", "callbacks.early_stopping.patience=nan"], ["early_stopping.patience=nan"]),
        (["callbacks.samples.sampler=7"], ["callbacks.samples.sampler=7 is not a Sampler"]),
        (["callbacks.best=7"], ["callbacks.best: "]),
        (["num_samples=-1"], ["num_samples=-1"]),
        (["seed=1e30"], ["seed=1e+30 is not a whole number of at most 4,294,967,295"]),
        (["seed=99999999999999999999999"], ["seed=99999999999999999999999 is not a whole number of at most"]),
        (["sampler.clip=nan"], ["sampler.clip"]),
        (["model.blocks=99999999999999999999999"], ["model.blocks=99999999999999999999999"]),
        (["route.self_conditioning=[1,2]"], ["route.self_conditioning=[1,2] is not a share"]),
        (["route.linear_path=7"], ["route.linear_path=7 is neither true nor false, nor null"]),
        (
            ["schedule._target_=diffusion_text.diffusion.losses.HuberLoss", "~schedule.s"],
            ["schedule=", "a NoiseSchedule"],
        ),
        (["schedule._target_=7"], ["schedule: ", "7"]),
        (["route._target_=LatentDiffusion"], ["route._target_=LatentDiffusion is not a class with its module"]),
        (["text_space._target_=nowhere.Nothing"], ["text_space: ", "nowhere"]),
        (["+schedule._partial_=true"], ["schedule=", "is not a NoiseSchedule"]),
        (["report=7"], ["report=7 is no group of settings"]),
        (["trainer.compile=7"], ["trainer.compile=7 is neither true nor false"]),
        (["model=text_autoencoder", "trainer.compile=true"], ["trainer.compile=true", "model=text_autoencoder"]),
        (["+report.pages=7"], ["report=pages is none of quality"]),
        (["~trainer.max_steps"], ["trainer.max_steps: "]),
        (["trainer.devices=1000000000"], ["trainer.devices=1000000000 is not a whole number of at most 1,024"]),
        (["trainer.gradient_clip_val=nan"], ["trainer.gradient_clip_val=nan"]),
        (["data.length=${nowhere}"], ["data.length: ", "nowhere"]),
        (["data.streaming=true", "text_space.cache=disk"], ["data.streaming=true", "leave out text_space.cache=disk"]),
        (["text_space.cache=tape"], ["text_space.cache=tape is none of disk, memory, none"]),
        (["data.streaming=maybe"], ["data.streaming=maybe is neither true nor false"]),
        (["data.bucket=2"], ["data.bucket=2 is neither true nor false"]),
        (["data.streaming=true", "data.bucket=true"], ["data.streaming=true", "leave out data.bucket=true"]),
        (["data.buffer=0"], ["data.buffer=0 is not a whole number of at least 1"]),
        (["objective.direction=up"], ["objective.direction=up is none of maximize, minimize"]),
    ],
    ids=lambda value: value[0].split(" ")[0] if isinstance(value, list) else None,
)
def test_nonsense_is_refused_naming_both_sides(composed, settings, no_data, overrides, says):
    with pytest.raises(UserError) as refusal:
        compose_training(composed(*settings, *overrides))
    message = str(refusal.value)
    assert "\n" not in message
    assert not [part for part in says if part not in message], message


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["text_space=embedding"], "text_space=embedding and route=diffusion_lm go together: model=diffusion_lm"),
        (["model=diffusion_lm", "text_space=bart_mini"], "text_space=embedding and route=diffusion_lm go together"),
        (["model=diffusion_lm", "~tokenizer"], "text_space=embedding needs tokens: choose tokenizer=bpe"),
        (["tokenizer=bpe"], "a BART brings its own tokenizer: leave out tokenizer="),
        (["model=text_autoencoder", "tokenizer=bpe"], "a BART brings its own tokenizer: leave out tokenizer="),
        (["prediction=logits"], "prediction=logits needs learned embeddings: use model=diffusion_lm"),
        (["loss=cross_entropy"], "prediction=logits and loss=cross_entropy go together"),
        (
            ["model=diffusion_lm", "prediction=logits", "loss=mse"],
            "prediction=logits and loss=cross_entropy go together",
        ),
        (["model=diffusion_lm", "text_space.tokenizer=2"], "text_space.tokenizer=2 is not a TokenizerRecipe"),
        (["model=diffusion_lm", "text_space.std=nan"], "text_space.std=nan is not a finite number above 0, nor null"),
        (["model=diffusion_lm", "route.rounding_weight=-1"], "route.rounding_weight=-1 is not a finite number"),
        (["text_space=bart_mini", "text_space.batch_size=0.5"], "text_space.batch_size=0.5 is not a whole number"),
        (["text_space=bart_mini", "text_space.layers=nan"], "text_space.layers=nan is not a whole number"),
        (["model=diffusion_lm", "text_space.rounding=nearset"], "text_space.rounding=nearset is none of"),
        (["condition=attributes"], "model=textunet cannot be told a condition: use model=diffusion_lm"),
        (
            ["model=autoregressive", "condition=attributes"],
            "condition=attributes needs texts of which something is known",
        ),
        (
            ["model=diffusion_lm", "condition=attributes"],
            "condition=attributes needs texts of which something is known, and data=text_files has none: use data=e2e",
        ),
        (
            ["model=diffusion_lm", "condition=text"],
            "condition=text needs pairs of texts, and data=text_files has none: use data=pairs data.dir=FILE",
        ),
        *(
            (
                ["model=diffusion_lm", "data.streaming=true", epochs],
                "data.streaming=true has no epochs: set trainer.max_st",
            )
            for epochs in ("trainer.max_epochs=1", "trainer.val_check_interval=0.5")
        ),
        (
            ["model=diffusion_lm", "data.streaming=true", "data.label=folder"],
            "data.streaming=true brings texts alone: leave out data.label=",
        ),
        (["schedule=learned"], "schedule=learned goes where the cross-entropy falls: it needs prediction=logits"),
        (["model=diffusion_lm", "route.self_conditioning=-1"], "route.self_conditioning=-1 is not a share"),
        (
            ["model=diffusion_lm", "callbacks.collapse.action=ring"],
            "callbacks.collapse.action=ring is none of warn, stop",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_parts_of_different_routes_are_refused_naming_what_goes_together(composed, settings, no_data, overrides, says):
    with pytest.raises(UserError, match=rf"^[^\n]*{re.escape(says)}[^\n]*$"):
        compose_training(composed(*settings[2:], *overrides))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("route.x_0_time=1.5", r"route\.x_0_time=1\.5 "),
        ("route.rounding_of=noisy", r"route\.rounding_of=noisy "),
        ("text_space.pretrained_embeddings=/nowhere", r"text_space\.pretrained_embeddings=/nowhere is not"),
    ],
)
def test_a_wrong_value_of_the_embedding_route_is_one_line(composed, settings, override, says):
    small = ["model=diffusion_lm", "model.depth=1", "tokenizer=characters", *settings[2:]]
    with pytest.raises(UserError, match=rf"^{says}[^\n]*$"):
        compose_training(composed(*small, override))


@pytest.mark.parametrize("choice", ["trainer=gpu", "trainer.accelerator=cuda", "precision=fp16"])
def test_without_a_gpu_what_needs_one_is_refused(composed, monkeypatch, choice):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="GPU"):
        check_machine(composed(choice))


@pytest.mark.parametrize("choice", ["trainer=gpu", "precision=fp16", "precision=bf16"])
def test_with_a_gpu_it_is_not(composed, monkeypatch, choice):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_machine(composed(choice))


def test_a_cpu_has_no_fp16_even_beside_a_gpu(composed, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match="precision=fp16 needs a GPU and trainer=cpu has none"):
        check_machine(composed("trainer=cpu", "precision=fp16"))


def test_a_setting_that_is_only_right_here_is_named_as_it_was_written(composed, settings, no_data):
    """The sampler of a callback, and a callback by another name."""
    wrong = [
        "callbacks.collapse.sampler.num_steps=0",
        "+callbacks.later={_target_:${callbacks.best._target_},filename:7}",
    ]
    with pytest.raises(UserError, match=r"^callbacks\.collapse\.sampler: sampler\.num_steps=0 is not a whole number"):
        compose_training(composed("callbacks=collapse", *settings, wrong[0]))
    with pytest.raises(UserError, match=r"^callbacks\.later: callbacks\.best\.filename=7 is not a text$"):
        compose_training(composed(*settings, wrong[1], "+callbacks.later.dirpath=x", "+callbacks.later.monitor=x"))


def test_a_mistake_in_a_class_is_one_line_with_a_way_to_its_traceback(composed, settings, monkeypatch, caplog):
    monkeypatch.setattr(TextUNet1D, "__init__", lambda self, **settings: {}[0])
    with caplog.at_level("DEBUG", "diffusion_text"), pytest.raises(UserError) as refusal:
        compose_training(composed(*settings))
    assert str(refusal.value) == "model: KeyError: 0 (hydra.verbose=diffusion_text shows where)"
    assert isinstance(refusal.value.__cause__.__cause__, KeyError)
    assert "in <lambda>" in caplog.text


@pytest.mark.parametrize("route", ["latent", "embedding"])
def test_numbers_with_an_exponent_are_whole_where_they_are(composed, settings, small_lm, route):
    overrides = settings if route == "latent" else [*small_lm, settings[-1]]
    training = compose_training(composed(*overrides, "trainer.max_steps=1e2", "seed=1e3", "num_samples=1e1"))
    numbers = (training.trainer.max_steps, training.seed, training.model.seed, training.data.seed, training.num_samples)
    assert numbers == (100, 1000, 1000, 1000, 10)
    assert all(isinstance(number, int) for number in numbers)


# ---- what sample.py makes of a checkpoint


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {"num_steps": 50, "clip": 8.0, "spacing": "angle", "eta": 0.0}),
        (["sampler.num_steps=3"], {"num_steps": 3, "clip": 8.0, "spacing": "angle", "eta": 0.0}),
        (["sampler.clip=null", "sampler.spacing=time"], {"num_steps": 50, "clip": None, "spacing": "time"}),
        (["sampler=ddim", "sampler.eta=0.5"], {"num_steps": 50, "clip": 8.0, "spacing": "angle", "eta": 0.5}),
    ],
)
def test_a_samplers_values_are_the_runs_unless_changed(sampled, checkpoint, overrides, expected):
    assert vars(sampled(checkpoint(), *overrides)[1].sampler).items() >= expected.items()


def test_another_sampler_takes_over_what_both_have(sampled, checkpoint):
    sampler = sampled(checkpoint(), "sampler=ddpm", "sampler.num_steps=7")[1].sampler
    assert type(sampler).__name__ == "DDPMSampler"
    assert (sampler.num_steps, sampler.clip, sampler.spacing) == (7, 8.0, "angle")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("sampler.num_steps=0", r"sampler\.num_steps=0 is not a whole number of at least 1"),
        ("sampler.clip=nan", r"sampler\.clip"),
        ("num_samples=-1", r"num_samples=-1 is not"),
        ("num_samples=many", r"num_samples=many is not"),
        ("batch_size=0", r"batch_size=0 is not"),
        ("temperature=-1", r"temperature=-1 is not"),
        ("temperature=inf", r"temperature=inf is not"),
        ("seed=1e30", r"seed=1e\+30 is not"),
        ("length=0", r"length=0 is not a whole number of at least 1"),
        ("length=13", r"length=13 is not a whole number of at most 12"),
    ],
)
def test_a_wrong_value_is_one_line(sampled, checkpoint, override, says):
    with pytest.raises(UserError, match=rf"^[^\n]*{says}[^\n]*$"):
        sampled(checkpoint(), override)


@pytest.mark.parametrize(
    ("route", "task"),
    [("latent", task) for task in TASKS if task not in ("infill", "nll", *ELSEWHERE)]
    + [("embedding", task) for task in TASKS if task not in ELSEWHERE],
)
def test_every_task_runs_and_leaves_a_file_each_time(sampled, checkpoint, lm_checkpoint, local, route, task):
    file = checkpoint() if route == "latent" else lm_checkpoint
    overrides = [f"task={task}", "num_samples=2", "sampler.num_steps=2", local[-1]]
    overrides += ["task.nfe=[2]"] if task == "frontier" else []
    overrides += ["text='apple _ sto'"] if task == "infill" else []
    samples = file.parents[1] / "samples"
    counts = []
    for _ in range(2):
        run, session = sampled(file, *overrides)
        run(session)
        counts.append(len(list(samples.iterdir())))
    assert counts[0] > 0
    assert counts[1] == 2 * counts[0], "what was there before is kept"


# ---- what differs from the defaults


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {}),
        (["seed=3", "optimizer.lr=0.5"], {"seed": 3, "optimizer.lr": 0.5}),
        (["schedule=sqrt", "model.width=full"], {"schedule": "sqrt", "model.width": "full"}),
        (  # values that come with a choice are not listed beside it
            ["model=diffusion_lm", "model.depth=2"],
            {
                "model": "diffusion_lm",
                "route": "diffusion_lm",
                "text_space": "embedding",
                "tokenizer": "bpe",
                "model.depth": 2,
            },
        ),
        (  # but those of an experiment are
            ["experiment=latent_diffusion"],
            {
                "experiment": "latent_diffusion",
                "model": "latent_transformer",
                "schedule": "sqrt",
                "weighting": "min_snr",
                "trainer.max_steps": 2000,
                "trainer.val_check_interval": 500,
            },
        ),
        (["callbacks.samples=null"], {"callbacks.samples": None}),
        (["run_dir=elsewhere", "cache_dir=there", "name=mine"], {}),
    ],
)
def test_what_differs_from_the_defaults(composed, overrides, expected):
    assert changes(composed(*overrides)) == expected
