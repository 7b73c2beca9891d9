import contextlib
import re
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from diffusion_text.composition import (
    CONTRACTS,
    MACHINERY,
    as_config,
    as_data,
    check_machine,
    components,
    compose_training,
    restore,
)
from diffusion_text.diffusion.samplers import DDIMSampler
from diffusion_text.errors import UserError

CONF = Path(__file__).parents[1] / "conf"
OPTIONS = [str(file.relative_to(CONF).with_suffix("")) for file in sorted(CONF.glob("*/*.yaml"))]
NEED_A_GPU = {"trainer/gpu", "precision/fp16"}


@pytest.fixture(scope="module")
def small(words_file, tmp_path_factory):
    """Overrides under which every option is built in a second: a local corpus, a shared cache."""
    corpus = tmp_path_factory.mktemp("corpora")
    for name in ("input.txt", "wiki.train.txt", "wiki.valid.txt", "wiki.test.txt"):
        (corpus / name).write_bytes(words_file.read_bytes())
    cache = tmp_path_factory.mktemp("cache")
    return [f"data.dir={corpus}", f"cache_dir={cache}", "data.length=12", "data.batch_size=8", "trainer.max_steps=200"]


@pytest.fixture
def settings(small, bart_directory, tmp_path):
    """The same, on the tiny BART, in a run directory of its own."""
    (tmp_path / "run").mkdir()
    return ["text_space=bart_base", f"text_space.pretrained={bart_directory}", *small, f"run_dir={tmp_path}/run"]


def minimal(option, settings):
    """Overrides that choose an option with everything else small and local."""
    group, name = option.split("/")
    if option == "text_space/bart_mini":
        tiny = {"dim": 16, "layers": 1, "heads": 2, "vocab_size": 320, "num_steps": 2}
        return [*settings[2:], *(f"text_space.{key}={value}" for key, value in tiny.items())]
    if group == "text_space":
        return [f"text_space={name}", *settings[1:]]
    machine = ["trainer=cpu", "precision=fp32"] if group == "experiment" else []
    return [f"{group}={name}", *machine, *settings, *(["trainer.val_check_interval=10"] if machine else [])]


# ---- every file of conf/


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_built_and_comes_back_from_a_checkpoint(composed, settings, tmp_path, option):
    cfg = composed(*minimal(option, settings))
    if option in NEED_A_GPU and not torch.cuda.is_available():
        with pytest.raises(UserError, match=option.replace("/", "=")):
            compose_training(cfg)
        return
    if option == "callbacks/early_stopping":
        assert "EarlyStopping" in cfg.callbacks.early_stopping._target_
    chosen = OmegaConf.to_container(cfg, resolve=True)
    training = compose_training(cfg)
    stored = {name: as_data(node) for name, node in chosen.items() if name not in MACHINERY}
    for name, node in stored.items():
        if not isinstance(node, dict) or node.get("component") in components():
            assert as_config(node) == chosen[name]
    training.trainer.strategy.connect(training.model)
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    training.trainer.save_checkpoint(checkpoint, weights_only=True)
    model, sampler, step = restore(checkpoint, DictConfig({}))
    assert type(sampler) is type(training.sampler)
    assert vars(sampler) == vars(training.sampler)
    assert step == 0
    for part in ("denoiser", "schedule", "prediction", "loss", "weighting", "time_sampling"):
        assert type(getattr(model, part)) is type(getattr(training.model, part))
    assert all(map(torch.equal, model.state_dict().values(), training.model.state_dict().values()))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_as_its_file_says(composed, option):
    group, name = option.split("/")
    content = OmegaConf.load(CONF / f"{option}.yaml")
    first_line = (CONF / f"{option}.yaml").read_text(encoding="utf-8").splitlines()[0]
    package = re.match(r"# @package (\S+)", first_line)
    cfg = composed(f"{group}={name}")
    node = cfg if package and package[1] == "_global_" else cfg[package[1] if package else group]
    stated = OmegaConf.to_container(content)
    stated.pop("defaults", None)
    for key, value in stated.items():
        assert (key, OmegaConf.to_container(node)[key]) == (key, value) or isinstance(value, dict)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")
def test_the_loggers_and_callbacks_are_the_configured_ones(composed, settings):
    cfg = composed("callbacks=early_stopping", "logger=tensorboard", *settings)
    trainer = compose_training(cfg).trainer
    names = {type(part).__name__ for part in [*trainer.callbacks, *trainer.loggers]}
    assert names >= {"ModelCheckpoint", "SampleTexts", "WeightAveraging", "EarlyStopping", "RunCSVLogger"}
    assert "TensorBoardLogger" in names
    order = [type(callback).__name__ for callback in trainer.callbacks]
    assert order.index("SampleTexts") < order.index("WeightAveraging"), "samples need the averaged weights"


def test_a_callback_can_be_switched_off(composed, settings):
    trainer = compose_training(composed("callbacks.samples=null", "callbacks.ema=null", *settings)).trainer
    names = {type(callback).__name__ for callback in trainer.callbacks}
    assert not names & {"SampleTexts", "WeightAveraging"}


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


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["precision=fp16", "trainer=cpu"], ["precision=fp16", "trainer=cpu", "precision=bf16"]),
        (["data.length=41"], ["data.length=41", "40 positions", "text_space=bart_base"]),
        (["loss=cosine_magnitude", "weighting=min_snr"], ["loss=cosine_magnitude", "weighting=min_snr"]),
        (["preflight=perhaps"], ["preflight=perhaps", "stop, warn, only, off"]),
        (["trainer.max_steps=-1"], ["trainer.max_steps", "trainer.max_epochs"]),
        (["route.self_conditioning=1.5"], ["route.self_conditioning", "1.5"]),
        (["model.width=wide"], ["model: ", "narrow or full", "wide"]),
        (["schedule=cosine", "schedule.s=1.5"], ["schedule: ", "s must lie in [0, 1)", "1.5"]),
        (["sampler.num_steps=0"], ["sampler: ", "at least one step", "0"]),
        (["sampler.spacing=even"], ["sampler: ", "angle or time", "even"]),
        (["data.length=2"], ["data: ", "data.length", "2"]),
        (["data.length=many"], ["data", "length", "many"]),
        (["trainer.max_steps=many"], ["trainer", "max_steps", "many"]),
        (["trainer.precision=17"], ["trainer: ", "17"]),
        (["callbacks.ema.avg_fn.decay=1.5"], ["decay", "1.5"]),
        (["trainer.accumulate_grad_batches=0"], ["accumulate_grad_batches"]),
        (["optimizer.lr=-1"], ["optimizer", "-1"]),
        (["num_samples=-1"], ["num_samples", "-1"]),
    ],
    ids=lambda value: value[0].split(" ")[0] if isinstance(value, list) else None,
)
def test_nonsense_is_refused_naming_both_sides(composed, settings, monkeypatch, overrides, says):
    def touched(self, split):
        pytest.fail("data was touched")

    monkeypatch.setattr("diffusion_text.data.python_docs.PythonDocs.lines", touched)
    with pytest.raises(UserError) as refusal:
        compose_training(composed(*settings, *overrides))
    message = str(refusal.value)
    assert "\n" not in message
    assert not [part for part in says if part not in message], message


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


# ---- checkpoints are data


def test_the_allow_list_is_this_packages_components():
    found = components()
    assert found["DDIMSampler"] is DDIMSampler
    assert all(issubclass(cls, CONTRACTS) and cls.__module__.startswith("diffusion_text.") for cls in found.values())


def test_a_component_is_stored_by_name():
    node = {"_target_": "diffusion_text.diffusion.schedules.SqrtSchedule", "s": 1e-4, "list": [1, {"a": None}]}
    assert as_data(node) == {"component": "SqrtSchedule", "s": 1e-4, "list": [1, {"a": None}]}
    assert as_config(as_data(node)) == node


@pytest.fixture
def checkpoint(composed, settings, tmp_path):
    """A function that writes a checkpoint with some values of its configuration changed."""
    training = compose_training(composed(*settings))
    training.trainer.strategy.connect(training.model)
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    training.trainer.save_checkpoint(file, weights_only=True)
    content = torch.load(file, weights_only=True)

    def write(**changes):
        torch.save(content | {"hyper_parameters": content["hyper_parameters"] | changes}, file)
        return file

    return write


def attacks(victim):
    """Ways to smuggle a call that makes a directory into a checkpoint's configuration."""
    call = {"_target_": "os.mkdir", "path": str(victim)}  # os.system is a call that Hydra itself refuses by now
    named = {"component": "os.mkdir", "path": str(victim)}
    created = f"${{oc.create:{{_target_:os.mkdir,path:'{victim}'}}}}"
    return {
        "a target": call,
        "a component": named,
        "a bare name": named | {"component": "mkdir"},
        "os.system": {"_target_": "os.system", "component": "os.system", "command": f"mkdir {victim}"},
        "an argument": {"component": "SqrtSchedule", "s": call},
        "a list": {"component": "SqrtSchedule", "s": [call]},
        "a partial": {"_partial_": True, **call},
        "a resolver": created,
        "a resolver as argument": {"component": "SqrtSchedule", "s": created},
    }


@pytest.mark.parametrize("name", attacks("file"))
@pytest.mark.parametrize("place", ["schedule", "sampler", "route"])
def test_nothing_that_a_checkpoint_says_is_run(checkpoint, tmp_path, name, place):
    victim = tmp_path / "victim"
    file = checkpoint(**{place: attacks(victim)[name]})
    with contextlib.suppress(Exception):  # whether the complaint is a clear one is another test's matter
        restore(file, DictConfig({}))
    assert not victim.exists()


@pytest.mark.parametrize("name", ["a target", "a resolver"])
def test_the_attacks_would_work_on_hydra_alone(tmp_path, name):
    victim = tmp_path / "victim"
    instantiate(DictConfig({"schedule": attacks(victim)[name]})["schedule"])
    assert victim.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": {"component": "SomeoneElsesSchedule", "s": 1e-4}},
        {"schedule": {"component": ["SqrtSchedule"]}},
        {"schedule": {"component": "SqrtSchedule", "no_such_argument": 1}},
        {"schedule": {"component": "SqrtSchedule", "s": "${oc.env:HOME}"}},
        {"schedule": None},
        {"sampler": None},
        {"data": {}},
    ],
    ids=["unknown name", "no name", "wrong argument", "interpolation", "no schedule", "no sampler", "no length"],
)
def test_a_configuration_that_is_not_ours_is_one_line(checkpoint, changes):
    with pytest.raises(UserError) as refusal:
        restore(checkpoint(**changes), DictConfig({}))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint\n", b"PK\3\4 neither"], ids=["empty", "text", "zip"])
def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path, content):
    file = tmp_path / "checkpoints" / "best.ckpt"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"^[^\n]*best\.ckpt is not a checkpoint of this project[^\n]*$"):
        restore(file, DictConfig({}))


@pytest.mark.parametrize("content", [{}, [1], torch.zeros(2)], ids=["no configuration", "list", "tensor"])
def test_other_peoples_tensors_are_no_checkpoint(tmp_path, content):
    file = tmp_path / "checkpoints" / "best.ckpt"
    file.parent.mkdir()
    torch.save(content, file)
    with pytest.raises(UserError, match=r"is not a checkpoint of this project"):
        restore(file, DictConfig({}))


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "victim",))

    file = tmp_path / "checkpoints" / "best.ckpt"
    file.parent.mkdir()
    torch.save({"hyper_parameters": Bomb()}, file)
    with pytest.raises(UserError, match="is not a checkpoint of this project"):
        restore(file, DictConfig({}))
    assert not (tmp_path / "victim").exists()


def test_another_versions_weights_are_one_line(checkpoint):
    file = checkpoint()
    content = torch.load(file, weights_only=True)
    content["state_dict"].popitem()
    torch.save(content, file)
    with pytest.raises(UserError, match=r"^[^\n]*another version[^\n]*$"):
        restore(file, DictConfig({}))


# ---- another sampler than the run's


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"num_steps": 50, "clip": 8.0, "spacing": "angle", "eta": 0.0}),
        ({"num_steps": 3, "clip": "run", "spacing": "run"}, {"num_steps": 3, "clip": 8.0, "spacing": "angle"}),
        ({"num_steps": "run", "clip": None, "spacing": "time"}, {"num_steps": 50, "clip": None, "spacing": "time"}),
    ],
)
def test_a_samplers_values_are_the_runs_unless_changed(checkpoint, changes, expected):
    sampler = restore(checkpoint(), DictConfig(changes))[1]
    assert vars(sampler).items() >= expected.items()


def test_another_sampler_takes_over_what_both_have(checkpoint, composed):
    chosen = OmegaConf.to_container(composed("sampler=ddpm").sampler) | {"num_steps": 7, "clip": "run"}
    sampler = restore(checkpoint(), DictConfig(chosen))[1]
    assert type(sampler).__name__ == "DDPMSampler"
    assert (sampler.num_steps, sampler.clip, sampler.spacing) == (7, 8.0, "angle")


def test_a_samplers_wrong_value_is_one_line(checkpoint):
    with pytest.raises(UserError, match=r"^sampler: [^\n]*at least one step"):
        restore(checkpoint(), DictConfig({"num_steps": 0}))


def test_without_its_text_space_a_run_cannot_be_sampled_and_says_so(checkpoint):
    file = checkpoint(text_space={"component": "BartMini"})
    with pytest.raises(UserError, match=r"text_space is missing: copy the whole run directory"):
        restore(file, DictConfig({}))
