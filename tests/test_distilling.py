"""A student of a finished run: trained, gone on with, sampled, and an ordinary run in the end."""

import json
import re
import shutil

import pytest
import restaurants
import torch

from diffusion_text.composition import compose_task, compose_training
from diffusion_text.errors import UserError
from diffusion_text.models.distillation import Distilled
from diffusion_text.training import train

pytestmark = pytest.mark.usefixtures("shapes_unchecked")
SHORT = [
    "trainer=cpu", "trainer.max_steps=6", "trainer.val_check_interval=3", "trainer.log_every_n_steps=1",
    "lr_schedule=constant", "preflight=warn", "route.steps=2", "route.teacher_steps=4", "num_samples=2",
    "report.quality=4", "report.frontier=3", "report.garbled=2", "report.trace_steps=2",
]  # fmt: skip
UNREPORTED = ["report.quality=0", "report.frontier=0", "report.garbled=0", "report.trace_steps=0", "num_samples=0"]


@pytest.fixture(scope="module")
def cache(local):
    return local[-1]


@pytest.fixture(scope="module", params=["latent", "embedding"])
def teacher(request, composed_once, saved, local, bart_directory, tmp_path_factory):
    """The directory of an untrained run of each route, sampled at times of its own."""
    directory = tmp_path_factory.mktemp("teacher")
    small = ["model.width=16", "model.depth=1", "model.heads=2", "data.eval_texts=16", "sampler.spacing=time"]
    of_route = {
        "latent": ["experiment=latent_flow", "text_space=bart_base", f"text_space.pretrained={bart_directory}"],
        "embedding": ["experiment=embedding_flow", "text_space.dim=16"],
    }
    own = [*of_route[request.param], *local, *small, "sampler.clip=3.0", "trainer=cpu", f"run_dir={directory}"]
    saved(compose_training(composed_once(*own)))
    return directory


@pytest.fixture(scope="module")
def student(composed_once, shapes_unchecked, teacher, cache, tmp_path_factory):
    """The directory of a student that was trained for six steps."""
    directory = tmp_path_factory.mktemp("student")
    train(compose_training(composed_once("experiment=distil", f"run={teacher}", cache, f"run_dir={directory}", *SHORT)))
    return directory


def weights(directory, name="last"):
    stored = torch.load(directory / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
    return {name: weight.nan_to_num(-1.0) for name, weight in stored.items()}


def test_it_has_all_of_its_teacher_but_what_its_denoiser_learned(teacher, student):
    before, after = weights(teacher, "best"), weights(student)
    assert before.keys() == after.keys()
    changed = {name.partition(".")[0] for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed == {"denoiser"}


def test_its_directory_is_that_of_any_run(student):
    figures = json.loads((student / "metrics.json").read_text(encoding="utf-8"))
    assert figures["loss_verdict"].startswith("Validation loss ")
    assert figures["best_step"] == 6, "the last"
    assert (student / "report.html").stat().st_size > 10_000
    history = (student / "metrics.csv").read_text(encoding="utf-8").partition("\n")[0].split(",")
    assert {"val/loss", "train/loss"} <= set(history)
    assert not [name for name in history if "without_context" in name]


def test_what_it_may_follow_is_what_it_logs(composed, teacher, cache, student, tmp_path):
    history = (student / "metrics.csv").read_text(encoding="utf-8").partition("\n")[0].split(",")
    logged = {re.sub(r"/\d+$", "", name) for name in history} - {"step", "epoch"}
    training = compose_training(composed("experiment=distil", f"run={teacher}", cache, f"run_dir={tmp_path}", *SHORT))
    followed = set(type(training.model).LOGGED)
    assert {name for name in logged if not name.startswith("speed/")} == followed - {"train/bound", "val/bound"}


def test_it_is_sampled_in_its_steps_at_its_teachers_times_when_the_teacher_is_gone(composed, student, cache, tmp_path):
    alone = shutil.copytree(student, tmp_path / "alone")
    task, session = compose_task(composed(f"run={alone}", cache, "num_samples=3", config="sample"))
    assert isinstance(session.model, Distilled)
    assert session.model.teacher is None
    sampler = session.sampler
    assert (sampler.nfe, sampler.spacing, sampler.clip, sampler.eta) == (2, "time", 3.0, 0.0)
    task(session)
    assert len(session.read(session.sample())) == 3


def test_going_on_ends_where_never_stopping_does(composed, teacher, cache, student, tmp_path):
    usual = ["experiment=distil", f"run={teacher}", cache, f"run_dir={tmp_path}", *SHORT, *UNREPORTED]
    train(compose_training(composed(*usual, "trainer.max_steps=3")))
    train(compose_training(composed(*usual)))
    ours, whole = weights(tmp_path), weights(student)
    for name, weight in whole.items():
        assert torch.equal(ours[name], weight), name


def test_a_student_teaches_another(composed, student, cache, tmp_path):
    few = ["route.steps=1", "route.teacher_steps=2"]
    usual = ["experiment=distil", f"run={student}", cache, f"run_dir={tmp_path}", "trainer=cpu"]
    training = compose_training(composed(*usual, *few))
    assert (training.model.steps, training.model.stride) == (1, 2)
    assert training.sampler.nfe == 1
    assert type(training.model) is type(training.model.teacher.module)


@pytest.mark.parametrize(
    ("overrides", "texts"),
    [([], 8), (["data.batch_size=5"], 5), (["data.global_batch_size=6"], 6)],
    ids=["its teacher's", "batches of its own", "steps of its own"],
)
def test_a_step_has_its_teachers_texts_or_its_own(composed, saved, local, tmp_path, overrides, texts):
    small = ["text_space.dim=16", "model.width=16", "model.depth=1", "model.heads=2", "data.global_batch_size=8"]
    teacher = tmp_path / "teacher"
    base = ["experiment=embedding_flow", *local, *small, "trainer=cpu"]
    saved(compose_training(composed(*base, f"run_dir={teacher}")))
    run = ["experiment=distil", f"run={teacher}", local[-1], *SHORT]
    training = compose_training(composed(*run, f"run_dir={tmp_path}/student", *overrides))
    assert training.model.hparams.texts_per_step == texts


def test_its_steps_stay_what_they_were(composed, teacher, student, cache, tmp_path):
    again = shutil.copytree(student, tmp_path / "again")
    usual = ["experiment=distil", f"run={teacher}", cache, f"run_dir={again}", *SHORT]
    with pytest.raises(UserError, match=r"was trained with route\.steps=2, which route\.steps=1 cannot go on from"):
        compose_training(composed(*usual, "route.steps=1"))


def test_the_student_of_a_run_that_is_told_something_is_told_it_too(composed, saved, cache, tmp_path):
    corpus = restaurants.write(tmp_path / "e2e")
    for name in ("run", "new"):
        (tmp_path / name).mkdir()
    small = ["model.width=16", "model.depth=1", "model.heads=2", "text_space.dim=16", "tokenizer.vocab_size=320"]
    asked = ["experiment=e2e_control", *small, f"data.dir={corpus}", cache, f"run_dir={tmp_path}/run", "trainer=cpu"]
    teacher = saved(compose_training(composed(*asked))).parents[1]
    asked = ["experiment=distil", f"run={teacher}", cache, f"run_dir={tmp_path}/new", *SHORT, *UNREPORTED]
    train(compose_training(composed(*asked, "trainer.max_steps=2", "report.control=0")))
    one = ["++condition.food=Italian", "num_samples=2", cache, f"run={tmp_path}/new"]
    _, session = compose_task(composed(*one, config="sample"))
    assert session.sampler.score_temperature == 1.0, "it has learned its teacher's"
    assert session.model.condition.has("food")
    assert len(session.sample().tokens) == 2


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["run=null"], "experiment=distil teaches the sampler of a finished run: name it with run=RUN"),
        (["schedule=cosine"], r"schedule= is that of the run that experiment=distil teaches the sampler of"),
        (["model.width=8"], r"model\.width= is that of the run that experiment=distil"),
        (["route.steps=3"], r"route\.teacher_steps=128 is no multiple of route\.steps=3"),
        (["route.teacher_steps=few"], r"route\.teacher_steps=few is not a whole number of at least 2"),
        (["run=nowhere"], "run=nowhere is no run"),
    ],
)
def test_what_makes_no_sense_is_one_line(composed, lm_checkpoint, cache, tmp_path, overrides, says):
    asked = ["experiment=distil", f"run={lm_checkpoint.parents[1]}", cache, f"run_dir={tmp_path}", *overrides]
    with pytest.raises(UserError, match=rf"^[^\n]*{says}[^\n]*$"):
        compose_training(composed(*asked))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["model=masked_diffusion"], "is a MaskedDiffusion, which has no noise"),
        (["model=autoregressive"], "is a Autoregressive, which has no noise"),
        (["prediction=epsilon"], "run= predicts epsilon"),
    ],
    ids=["masked", "autoregressive", "epsilon"],
)
def test_what_cannot_be_taught_is_refused(composed, saved, small_lm, cache, tmp_path, overrides, says):
    for name in ("run", "new"):
        (tmp_path / name).mkdir()
    saved(compose_training(composed(*small_lm, *overrides, f"run_dir={tmp_path}/run")))
    with pytest.raises(UserError, match=rf"^[^\n]*{says}[^\n]*$"):
        compose_training(composed("experiment=distil", f"run={tmp_path}/run", cache, f"run_dir={tmp_path}/new"))


def test_a_text_autoencoder_cannot_be_taught(composed, finished, cache, tmp_path):
    run = finished("autoencoder").run.directory
    with pytest.raises(UserError, match="is a text autoencoder, which generates nothing by itself"):
        compose_training(composed("experiment=distil", f"run={run}", cache, f"run_dir={tmp_path}"))
