"""A student, and the way of its teacher."""

import copy
import re

import pytest
import torch
from torch.testing import assert_close

from diffusion_text.denoisers.transformer import Transformer
from diffusion_text.diffusion.losses import CrossEntropyLoss, MSELoss, UniformWeighting
from diffusion_text.diffusion.predictions import EpsilonPrediction, LogitsPrediction, VPrediction
from diffusion_text.diffusion.samplers import DDIMSampler, towards
from diffusion_text.diffusion.schedules import CosineSchedule, SqrtSchedule
from diffusion_text.diffusion.time_sampling import AdaptiveTimes
from diffusion_text.models.diffusion_lm import DiffusionLM
from diffusion_text.models.distillation import DistilledLatents, DistilledLM, stride
from diffusion_text.models.latent_diffusion import LatentDiffusion
from diffusion_text.models.step_draws import StepDraws
from diffusion_text.text_spaces.bart import BartSpace
from diffusion_text.text_spaces.embedding import EmbeddingSpace, LearnedEmbedding

MASK = torch.arange(8) < torch.tensor([8, 5, 2])[:, None]


@pytest.fixture(params=["latent", "embedding"])
def taught(request, bart_directory, tokenizer):
    """A function from the steps of both to a student and its teacher, whose network is not untrained; the sampler of
    the teacher has a bound that is felt.
    """
    network = Transformer(16, width=16, depth=1, heads=2, gates=1.0, estimates=1)
    torch.nn.init.normal_(network.leave.weight, std=0.2)
    times = AdaptiveTimes(8)
    times.losses.copy_(torch.arange(8) ** 2)
    parts = {"weighting": UniformWeighting(), "time_sampling": times, "self_conditioning": 0.5, "max_length": 12}
    if request.param == "latent":
        kinds = LatentDiffusion, DistilledLatents
        parts |= {"text_space": BartSpace.from_pretrained(bart_directory), "schedule": CosineSchedule()}
        parts |= {"prediction": VPrediction(), "loss": MSELoss()}
        statistics = [torch.randn(16), torch.eye(16, dtype=torch.float64), torch.ones(13, dtype=torch.long)]
    else:
        kinds = DiffusionLM, DistilledLM
        parts |= {"text_space": EmbeddingSpace(tokenizer, LearnedEmbedding(len(tokenizer), 16, normalise=True))}
        parts |= {"schedule": SqrtSchedule(), "prediction": LogitsPrediction(), "loss": CrossEntropyLoss()}
        statistics = [torch.ones(len(tokenizer), dtype=torch.long), torch.ones(13, dtype=torch.long)]

    def made(steps, teacher_steps):
        teacher = kinds[0](**parts, denoiser=network).eval()
        teacher.set_statistics(*statistics)
        own = {name: copy.deepcopy(part) for name, part in parts.items()}
        untrained = Transformer(16, width=16, depth=1, heads=2, gates=1.0, estimates=1)
        student = kinds[1](**own, denoiser=untrained, steps=steps, teacher_steps=teacher_steps)
        temperature = 1.0 if request.param == "latent" else 0.8
        student.learn_from(teacher, DDIMSampler(teacher_steps, 1.5, "training", score_temperature=temperature))
        return student, teacher

    return made


@pytest.fixture
def batch():
    tokens = torch.randint(10, 100, (3, 8)) * MASK
    return {"tokens": tokens, "mask": MASK, "latents": torch.randn(3, 8, 16), "latent_mask": MASK}


def at(student, places):
    """A batch of pure noise, taken to be at these places of the way."""
    places = torch.as_tensor(places).expand(3)
    noise = torch.randn(3, 8, 16)
    return student.noised(torch.zeros_like(noise), noise, student.way[places], MASK), places


def stepped(student, noisy, x_0, to):
    """Where a step that takes x_0 for this ends."""
    return towards(noisy.x_t, x_0, (noisy.alpha, noisy.sigma), student.levels(student.way[to].expand(3)))


@torch.no_grad()
def test_it_starts_as_its_teacher(taught, batch):
    student, teacher = taught(2, 8)
    noisy, _ = at(student, 3)
    assert_close(student.output(noisy.x_t, noisy.t, MASK), teacher.output(noisy.x_t, noisy.t, MASK))


def walked(student, teacher, x, place, previous):
    """Where the teacher's sampler comes to from this place, at the student's next time: x_s, and the last estimate."""
    for at in range(place, (place // student.stride + 1) * student.stride):
        now, after = (student.levels(student.way[to].expand(3)) for to in (at, at + 1))
        previous = teacher.predict_x0(x, student.way[at].expand(3), MASK, previous, student.sampler.score_temperature)
        previous = previous.clamp(-1.5, 1.5)
        x = towards(x, previous, now, after)
    return x, previous


@torch.no_grad()
def test_that_way_is_the_samplers(taught):
    student, teacher = taught(2, 8)
    x = torch.randn(3, 8, 16)
    run = list(teacher.reverse(student.sampler, x, MASK, torch.Generator()))
    for place in (0, 4):
        x, _ = walked(student, teacher, x, place, run[place - 1].x_0 if place else None)
        assert_close(x, run[place + 3].x_s, atol=1e-3, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("place", [0, 2, 5])
def test_who_knows_the_way_from_the_next_place_is_taught_that_from_this_one(taught, monkeypatch, place):
    """A perfect student stays as it is."""
    student, teacher = taught(2, 8)
    noisy, places = at(student, place)
    previous = teacher.predict_x0(noisy.x_t, noisy.t, MASK)
    end, _ = walked(student, teacher, noisy.x_t, place, previous)

    def perfect(x, t, mask, previous, context=None):
        there, _ = walked(student, teacher, x, place + 1, previous)
        (alpha_m, sigma_m), (alpha_s, sigma_s) = student.levels(t), student.levels(student.way[stop].expand(3))
        return (there - sigma_s / sigma_m * x) / (alpha_s - alpha_m * sigma_s / sigma_m)

    stop = (place // 4 + 1) * 4
    monkeypatch.setattr(student, "predict_x0", perfect)
    monkeypatch.setattr(student.sampler, "clip", 1.5)
    target = student.target(noisy, places, previous, None)
    assert_close(stepped(student, noisy, target, stop), end, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_of_two_steps_the_target_is_where_both_lead(taught):
    """Progressive distillation: the second step is the student's, who starts as the teacher is."""
    student, teacher = taught(4, 8)
    student.sampler.score_temperature = 1.0
    for places in (0, 2, 6):
        noisy, places = at(student, places)
        previous = teacher.predict_x0(noisy.x_t, noisy.t, MASK)
        target = student.target(noisy, places, previous, None)
        first = teacher.predict_x0(noisy.x_t, noisy.t, MASK, previous).clamp(-1.5, 1.5)
        x_m = stepped(student, noisy, first, places[0] + 1)
        second = teacher.predict_x0(x_m, student.way[places + 1], MASK, first).clamp(-1.5, 1.5)
        now = student.levels(student.way[places + 1])
        both = towards(x_m, second, now, student.levels(student.way[places + 2]))
        assert_close(stepped(student, noisy, target, places[0] + 2), both, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_before_a_time_that_the_student_visits_the_target_is_the_teachers_own(taught):
    student, teacher = taught(2, 8)
    for places in (3, 7):
        noisy, places = at(student, places)
        student.denoiser.leave.weight.zero_()  # whatever it says, it is not asked
        teachers = teacher.predict_x0(noisy.x_t, noisy.t, MASK, score_temperature=1.0)
        student.sampler.score_temperature = 1.0
        assert_close(student.target(noisy, places, None, None), teachers.clamp(-1.5, 1.5))


def test_half_of_the_texts_are_where_its_steps_begin(taught):
    student, _ = taught(4, 32)
    places = student.places(torch.linspace(0, 1, 641)[:-1])
    assert places[:320].unique().tolist() == [0, 8, 16, 24]
    assert places[320:].unique().tolist() == list(range(32))
    assert (places[320:].bincount() == 10).all()


def test_only_its_denoiser_learns(taught, batch):
    student, teacher = taught(2, 8)
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    optimizer = torch.optim.SGD([*student.named_parameters()], lr=1.0)
    student.trained_on(batch, StepDraws(0, 0, 12, 3))[2]["loss"].mean().backward()
    optimizer.step()
    changed = {
        name.split(".")[0] for name, weight in student.state_dict().items() if not torch.equal(weight, before[name])
    }
    assert changed == {"denoiser"}
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())
    assert not student.time_sampling.learns


def test_what_it_reads_as_its_earlier_estimate_is_the_teachers_and_at_the_first_step_none(taught, batch, monkeypatch):
    student, teacher = taught(1, 2)
    read = []
    output = student.output
    monkeypatch.setattr(teacher, "earlier_estimates", lambda noisy, *_: torch.ones_like(noisy.x_t))
    monkeypatch.setattr(student, "output", lambda *args: read.append(args[3]) or output(*args))
    monkeypatch.setattr(student, "places", lambda chances: torch.tensor([0, 1, 0]))
    student.trained_on(batch, StepDraws(0, 0, 12, 3))
    assert read[-1].sum((1, 2)).tolist() == [0, 8 * 16, 0]


def test_what_errs_where_little_noise_is_counts_more(taught):
    student, _ = taught(2, 8)
    x_0 = torch.zeros(3, 8, 16)
    t = torch.tensor([0.9, 0.2, 0.05])
    noisy = student.noised(x_0, torch.randn_like(x_0), t, MASK)
    output = torch.zeros(3, 8, len(student.text_space.tokenizer)) if isinstance(student, DistilledLM) else x_0
    said = student.prediction.to_x0(output, noisy.x_t, noisy.alpha, noisy.sigma)
    snr = student.schedule.log_snr(t).exp()
    assert_close(student.distance(output, said + 0.5, noisy), 0.25 * snr.clamp(min=1), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_validation_is_the_loss_of_training_always_drawn_alike(taught, batch, monkeypatch):
    student, _ = taught(2, 8)
    logged = []
    monkeypatch.setattr(student, "log", lambda name, value, **_: logged.append((name, float(value))))
    monkeypatch.setattr(type(student).__mro__[2], "evaluate", lambda *_: None)
    for number in (0, 1, 0):
        student.evaluate("val", batch, number)
    assert logged[0] == logged[2] != logged[1]
    assert logged[0] == ("val/loss", float(student.trained_on(batch, StepDraws(0, 0, 12, 3))[2]["loss"].mean()))


@pytest.mark.parametrize(
    ("steps", "teacher_steps", "says"),
    [
        (4, 6, "route.teacher_steps=6 is no multiple of route.steps=4"),
        (4, 4, "route.teacher_steps=4 is no multiple of route.steps=4"),
        (0, 4, "route.steps=0 is not a whole number of at least 1"),
        (1, 1.5, "route.teacher_steps=1.5 is not a whole number"),
    ],
)
def test_steps_that_are_no_share_of_the_teachers_are_refused(steps, teacher_steps, says):
    with pytest.raises(ValueError, match=f"^{re.escape(says)}"):
        stride(steps, teacher_steps)


def test_epsilon_is_refused():
    with pytest.raises(ValueError, match=r"^run= predicts epsilon"):
        DistilledLatents.check(EpsilonPrediction(), MSELoss(), UniformWeighting())
