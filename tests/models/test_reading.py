"""A denoiser that reads its x_0 itself."""

import copy

import pytest
import torch
from torch.testing import assert_close

from diffusion_text.denoisers.textunet import TextUNet1D
from diffusion_text.diffusion.samplers import DDIMSampler
from diffusion_text.metrics.reconstruction import token_accuracy
from diffusion_text.models.distillation import DistilledLatents
from diffusion_text.models.latent_diffusion import READING
from diffusion_text.models.step_draws import StepDraws
from diffusion_text.text_spaces.bart import BartSpace
from diffusion_text.text_spaces.bart_autoencoder import BartAutoencoder, Bottleneck

TEXTS, LENGTH = 6, 8


@pytest.fixture
def model(make_model):
    denoiser = TextUNet1D(16, width="full", time_dim=16, estimates=1)
    return make_model(reads=0.5, reading_noise=0.2, denoiser=denoiser, reads_reference=True)


@pytest.fixture
def read_batch():
    """Texts of tokens that each have a latent of their own."""
    tokens = torch.randint(5, 40, (TEXTS, LENGTH), generator=torch.Generator().manual_seed(3))
    table = torch.randn(40, 16, generator=torch.Generator().manual_seed(4))
    mask = torch.arange(LENGTH) < torch.tensor([8, 8, 5, 8, 3, 8])[:, None]
    return {"tokens": tokens, "mask": mask, "latents": table[tokens] * mask[..., None], "latent_mask": mask}


def reading(model, batch, draws=None):
    x_0, mask = model.encode_batch(batch)
    return model.reading_losses(batch, x_0, mask, draws or StepDraws(0, 0, LENGTH, TEXTS))["reading"]


def test_it_learns_to_read_and_then_writes_what_it_reads(model, read_batch):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    for step in range(150):
        optimizer.zero_grad()
        reading(model, read_batch, StepDraws(0, step, LENGTH, TEXTS)).mean().backward()
        optimizer.step()
    model.eval()
    x_0, mask = model.encode_batch(read_batch)
    assert token_accuracy(model.reader.decode(x_0, mask), read_batch["tokens"], mask) > 0.95
    drawn = model.reader.draw(x_0, mask, 0.1, [torch.Generator().manual_seed(i) for i in range(TEXTS)])
    assert token_accuracy(drawn, read_batch["tokens"], mask) > 0.95
    tokens, confidence = model.reader.decode_with_confidence(x_0, mask)
    assert confidence[mask].mean() > 0.8
    assert (tokens[~mask] == model.text_space.tokenizer.pad_token_id).all()
    assert model.reader.decode(x_0, mask, limit=3).shape == (TEXTS, 3)


def test_samples_are_read_by_the_network(model, monkeypatch):
    monkeypatch.setattr(model.text_space, "decode", None)
    asked = []
    model.denoiser.register_forward_pre_hook(lambda network, given: asked.append(float(given[1][0])))
    assert model.generate(DDIMSampler(2), 3, seed=0, length=4).shape == (3, 4)
    assert asked[-1] == READING
    assert min(asked[:-1]) > 0


def test_its_share_of_the_texts_counts_as_much_as_all_would(model, read_batch):
    """Half of them, twice; and the same ones whoever has them."""
    model.train()
    each = reading(model, read_batch)
    chosen = StepDraws(0, 0, LENGTH, TEXTS).chosen(0.5, each.device)
    assert sorted(each.nonzero().flatten().tolist()) == chosen.tolist()
    assert len(chosen) == TEXTS // 2
    model.reads = 1.0
    assert_close(each[chosen] / 2, reading(model, read_batch)[chosen])
    model.reads = 0.5
    halves = [
        reading(model, {name: value[first : first + 3] for name, value in read_batch.items()}, draws)
        for first in (0, 3)
        for draws in [StepDraws(0, 0, LENGTH, 3, first, TEXTS)]
    ]
    assert_close(torch.cat(halves), each)


def test_it_is_part_of_what_is_minimised(model, read_batch):
    model.train()
    noisy, output, losses = model.trained_on(read_batch, StepDraws(0, 0, LENGTH, TEXTS))
    assert_close(losses["loss"], model.losses(read_batch, noisy, output)["loss"] + losses["reading"])
    losses["reading"].mean().backward()
    assert model.head.weight.grad.any()
    assert next(model.denoiser.parameters()).grad.any()


def test_a_student_does_not_forget_how_to_read(model, read_batch):
    names = ("denoiser", "text_space", "schedule", "prediction", "loss", "weighting", "time_sampling")
    parts = copy.deepcopy({name: getattr(model, name) for name in names})
    own = {"reads": 0.5, "reads_reference": True, "max_length": model.max_length, "steps": 1, "teacher_steps": 2}
    student = DistilledLatents(**parts, **own)
    student.learn_from(model, DDIMSampler(2))
    _, _, losses = student.train().trained_on(read_batch, StepDraws(0, 0, LENGTH, TEXTS))
    losses["reading"].mean().backward()
    assert next(student.denoiser.parameters()).grad.any()
    assert (losses["loss"] >= losses["reading"]).all()


def test_without_it_nothing_changes(make_model, read_batch):
    plain = make_model()
    assert plain.reader is plain.text_space
    assert "reading" not in plain.trained_on(read_batch, StepDraws(0, 0, LENGTH, TEXTS))[2]
    assert not [name for name in plain.state_dict() if name.startswith("head")]


@pytest.mark.parametrize("wrong", [{"reads": 1.5}, {"reading_noise": -1}, {"reading_noise": "much"}])
def test_what_is_no_share_is_refused(make_model, wrong):
    with pytest.raises(ValueError, match=rf"route\.{next(iter(wrong))}="):
        make_model(**wrong)


def test_positions_that_stand_for_several_tokens_are_refused(make_model):
    plain = make_model().text_space.frozen.module
    space = BartSpace(BartAutoencoder(plain.bart, plain.tokenizer, Bottleneck(16, 16, compression=2)))
    with pytest.raises(ValueError, match=r"route\.reads .* text_space\.compression=1"):
        make_model(reads=0.2, text_space=space)
