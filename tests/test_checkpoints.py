import contextlib
import csv
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.testing import assert_close

from diffusion_text.checkpoints import CONTRACTS, as_data, assemble, components, estimates_read
from diffusion_text.composition import compose_training
from diffusion_text.diffusion.samplers import DDIMSampler
from diffusion_text.errors import UserError
from diffusion_text.storage import write_sealed
from diffusion_text.tensors import write_tensors
from diffusion_text.training import fit


def test_the_allow_list_is_this_packages_components():
    found = components()
    assert found["DDIMSampler"] is DDIMSampler
    assert all(issubclass(cls, CONTRACTS) and cls.__module__.startswith("diffusion_text.") for cls in found.values())


def test_a_component_is_stored_by_name():
    node = {"_target_": "diffusion_text.diffusion.schedules.SqrtSchedule", "s": 1e-4, "list": [1, {"a": None}]}
    assert as_data(node) == {"component": "SqrtSchedule", "s": 1e-4, "list": [1, {"a": None}]}


def test_what_is_stored_is_built_again():
    node = {"_target_": "diffusion_text.diffusion.samplers.DDIMSampler", "num_steps": 7, "clip": None, "eta": 0.5}
    sampler = assemble({"sampler": as_data(node)}, "sampler", spacing="time")
    assert isinstance(sampler, DDIMSampler)
    assert vars(sampler).items() >= {"num_steps": 7, "clip": None, "eta": 0.5, "spacing": "time"}.items()


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
def test_nothing_that_a_checkpoint_says_is_run(sampled, checkpoint, tmp_path, name, place):
    victim = tmp_path / "victim"
    file = checkpoint(**{place: attacks(victim)[name]})
    with contextlib.suppress(Exception):  # whether the complaint is a clear one is another test's matter
        sampled(file)
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
        {"route": math.nan},
        {"route": {"component": "LatentDiffusion", "self_conditioning": ""}},
    ],
    ids=["unknown name", "no name", "wrong argument", "interpolation", "no schedule", "no sampler", "no route", "text"],
)
def test_a_configuration_that_is_not_ours_is_one_line(sampled, checkpoint, changes):
    with pytest.raises(UserError) as refusal:
        sampled(checkpoint(**changes))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schedule": {"component": "SqrtSchedule", "s": -1.0}}, r"^schedule\.s"),
        (
            {"schedule": {"component": "SqrtSchedule", "no": 1}},
            r"^schedule: cannot be built from \{.*SqrtSchedule.*\bno",
        ),
        ({"schedule": None}, r"schedule"),
        ({"route": {"component": "TextAutoencoder"}}, r"text autoencoder, which .* python train\.py .*pretrained="),
        ({"route": {"component": "LatentDiffusion", "self_conditioning": 2}}, r"incomplete configuration: .*condition"),
    ],
    ids=["wrong argument", "unknown argument", "no schedule", "autoencoder", "no share"],
)
def test_a_configuration_that_is_not_ours_is_named(sampled, checkpoint, changes, says):
    with pytest.raises(UserError, match=says):
        sampled(checkpoint(**changes))


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("text_space", {"dim": 7}, r"^text_space: the weights are of no space of 7 channels$"),
        ("model", {"width": 24}, r"^model: the weights do not fit: \S+ would have shape \(.*24.*\)$"),
        ("model", {"depth": 2}, r"^model: cannot be built from .*: it has more parameters than the checkpoint$"),
    ],
)
def test_other_sizes_than_those_of_the_weights_are_named(sampled, lm_checkpoint, part, change, says):
    content = torch.load(lm_checkpoint, weights_only=True)
    content["hyper_parameters"][part] |= change
    write_tensors(lm_checkpoint, content)
    with pytest.raises(UserError, match=says):
        sampled(lm_checkpoint)


@pytest.fixture
def told_checkpoint(composed, small_lm, local, saved, tmp_path):
    """A function from changes of its configuration to the checkpoint of a model that is told labels."""
    place = next(setting for setting in local if setting.startswith("data.dir="))
    run = [f"{place}-e2e", "data=e2e", "condition=attributes", f"run_dir={tmp_path}"]
    checkpoint = saved(compose_training(composed(*small_lm, *run)))

    def changed(**changes):
        content = torch.load(checkpoint, weights_only=True)
        for part, change in changes.items():
            kept = content["hyper_parameters"][part]
            content["hyper_parameters"][part] = kept | change if isinstance(change, dict) else change
        write_tensors(checkpoint, content)
        return checkpoint

    return changed


def test_a_model_that_is_told_something_comes_back_with_it(sampled, told_checkpoint):
    checkpoint = told_checkpoint()
    stored = torch.load(checkpoint, weights_only=True)
    model = sampled(checkpoint)[1].model
    assert model.condition.named.values == stored["hyper_parameters"]["attributes"]
    assert_close(model.condition.embedding.weight, stored["state_dict"]["condition.embedding.weight"])
    assert_close(model.denoiser.prefix.enter.weight, stored["state_dict"]["denoiser.prefix.enter.weight"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"attributes": {"food": ["Thai"]}}, r"^condition: the weights do not fit: embedding\.weight would have shape"),
        ({"attributes": None}, r"^condition: cannot be built from .*Attributes"),
        (
            {"condition": {"width": 24}},
            r"^model: the weights do not fit: prefix\.enter\.weight would have shape \(16, 24",
        ),
        ({"condition": None}, r"does not fit the model"),
    ],
    ids=["values", "no values", "width", "none"],
)
def test_another_condition_than_that_of_the_weights_is_named(sampled, told_checkpoint, changes, says):
    with pytest.raises(UserError, match=says):
        sampled(told_checkpoint(**changes))


@pytest.mark.parametrize(
    ("route", "many"),
    [
        ({}, 0),
        ({"self_conditioning": 0.5}, 1),
        ({"self_conditioning": 0, "reads_reference": True}, 1),
        ({"self_conditioning": 1e-9, "reads_reference": True}, 2),
        ({"self_conditioning": 2}, "route.self_conditioning=2 is not a share"),
        ({"reads_reference": 2}, "route.reads_reference=2 is neither true nor false"),
    ],
)
def test_a_denoiser_reads_the_estimates_that_its_route_gives_it(route, many):
    if isinstance(many, int):
        assert estimates_read(route) == many
        return
    with pytest.raises(ValueError, match=f"^{many}"):
        estimates_read(route)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint\n", b"PK\3\4 neither"], ids=["empty", "text", "zip"])
def test_a_file_that_is_no_checkpoint_is_one_line(sampled, tmp_path, content):
    file = tmp_path / "checkpoints" / "best.ckpt"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"^[^\n]*best\.ckpt is not a checkpoint of this project[^\n]*$"):
        sampled(file)


@pytest.mark.parametrize("content", [{}, [1], torch.zeros(2)], ids=["no configuration", "list", "tensor"])
def test_other_peoples_tensors_are_no_checkpoint(sampled, tmp_path, content):
    file = tmp_path / "checkpoints" / "best.ckpt"
    file.parent.mkdir()
    write_sealed(file, partial(torch.save, content))
    with pytest.raises(UserError, match=r"is not a checkpoint of this project"):
        sampled(file)


def test_a_checkpoint_with_code_in_it_is_refused(sampled, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "victim",))

    file = tmp_path / "checkpoints" / "best.ckpt"
    file.parent.mkdir()
    write_sealed(file, partial(torch.save, {"hyper_parameters": Bomb()}))
    with pytest.raises(UserError, match="is not a checkpoint of this project"):
        sampled(file)
    assert not (tmp_path / "victim").exists()


def test_another_versions_weights_are_one_line(sampled, checkpoint):
    file = checkpoint()
    content = torch.load(file, weights_only=True)
    content["state_dict"].popitem()
    write_tensors(file, content)
    with pytest.raises(UserError, match=r"^[^\n]*does not fit the model[^\n]*$"):
        sampled(file)


def test_without_its_text_space_a_run_cannot_be_sampled_and_says_so(sampled, checkpoint):
    file = checkpoint(text_space={"component": "BartMini"})
    with pytest.raises(UserError, match=r"text_space is missing: copy the whole run directory"):
        sampled(file)


# ---- learned embeddings


@pytest.fixture
def trained_lm(composed, small_lm, tmp_path):
    """A function that trains a Diffusion-LM for some steps, or goes on, in a run directory; returns the training."""

    def trained_lm(name, num_steps, *overrides):
        (tmp_path / name).mkdir(exist_ok=True)
        short = [
            "trainer=cpu", "time_sampling=adaptive", "route.self_conditioning=0.5", "lr_schedule=constant",
            f"trainer.max_steps={num_steps}", "trainer.val_check_interval=1", "trainer.log_every_n_steps=1",
            "+trainer.limit_val_batches=1", "sampler.num_steps=2", "num_samples=2", "preflight=off",
            "callbacks.samples=null", "callbacks.collapse.every_n_steps=1", "callbacks.collapse.num_samples=2",
            f"run_dir={tmp_path / name}",
        ]  # fmt: skip
        training = compose_training(composed(*small_lm, *short, *overrides))
        fit(training)
        return training

    return trained_lm


@pytest.mark.parametrize("prediction", ["x0", "logits"])
def test_a_trained_diffusion_lm_comes_back_and_writes_the_same_texts(trained_lm, sampled, prediction):
    training = trained_lm("run", 2, f"prediction={prediction}")
    _, session = sampled(training.run.best, "num_samples=2")
    assert session.step == 2
    assert session.model.time_sampling.losses.isfinite().any()
    assert_close(session.model.state_dict(), training.model.state_dict(), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(session.sample().tokens, training.model.eval().generate(training.sampler, 2, seed=0))


def test_a_diffusion_lm_in_two_halves_is_the_same_run(trained_lm):
    whole = trained_lm("whole", 2, "prediction=logits")
    trained_lm("halves", 1, "prediction=logits")
    halves = trained_lm("halves", 2, "prediction=logits")
    one, other = (torch.load(training.run.last, weights_only=True) for training in (whole, halves))
    for part in ("state_dict", "current_model_state"):
        assert_close(one[part], other[part], rtol=0, atol=0, equal_nan=True)


def test_the_best_checkpoint_may_be_that_of_the_best_text(trained_lm):
    quality = ["callbacks=early_stopping", "callbacks.early_stopping.monitor=quality/judge_nll"]
    training = trained_lm("run", 3, "prediction=logits", "callbacks.best.monitor=quality/judge_nll", *quality)
    with (training.run.directory / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        rows = [
            (float(row["quality/judge_nll"]), int(row["step"]) + 1)
            for row in csv.DictReader(stream)
            if row["quality/judge_nll"]
        ]
    assert [step for _, step in rows] == [1, 2, 3]
    assert torch.load(training.run.best, weights_only=True)["global_step"] == min(rows)[1]
