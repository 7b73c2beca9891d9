"""A trained model as an object: it writes, restores, scores and encodes as the commands do."""

import json
import subprocess
import sys

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import diffusion_text
from diffusion_text.composition import compose_task, compose_training
from diffusion_text.diffusion.samplers import DDIMSampler, DDPMSampler
from diffusion_text.diffusion.token_samplers import LeftToRightSampler
from diffusion_text.errors import UserError


@pytest.fixture
def run(lm_checkpoint):
    """The directory of an untrained Diffusion-LM over characters."""
    return lm_checkpoint.parents[1]


@pytest.fixture
def model(run):
    """It, in few steps."""
    model = diffusion_text.load(run)
    model.sampler.num_steps = 2
    return model


@pytest.fixture
def printed(composed, local, tmp_path):
    """A function from overrides to what sample.py writes: the texts, or the figures."""
    cache = next(setting for setting in local if setting.startswith("cache_dir="))

    def printed(run, *overrides):
        task, session = compose_task(
            composed(f"run={run}", cache, f"out={tmp_path / 'out'}", *overrides, config="sample")
        )
        task(session)
        [file] = (tmp_path / "out").glob("*.json*")
        lines = file.read_text(encoding="utf-8")
        return (
            json.loads(lines) if file.suffix == ".json" else [json.loads(line)["text"] for line in lines.splitlines()]
        )

    return printed


def test_the_package_is_imported_in_no_time():
    code = "import sys, diffusion_text; assert diffusion_text.load; assert not {'torch', 'hydra'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_needs_nothing_of_hydra(run):
    HydraConfig.instance().cfg = None
    assert len(diffusion_text.load(str(run)).sample(1, length=4)) == 1
    assert HydraConfig.instance().cfg is None
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        ({}, []),
        ({"seed": 7, "length": 9}, ["seed=7", "length=9"]),
        ({"text": "stone"}, ["text=stone"]),
        ({"temperature": 0.8}, ["temperature=0.8"]),
    ],
)
def test_the_same_seed_writes_what_sample_py_prints(model, run, printed, arguments, overrides):
    expected = printed(run, "sampler.num_steps=2", "num_samples=3", *overrides)
    assert model.sample(3, **arguments) == expected
    assert any(text.strip() for text in expected)


def test_blanks_are_filled_as_by_the_task(model, run, printed):
    expected = printed(run, "sampler.num_steps=2", "task=infill", "text='a __ r'", "num_samples=3", "seed=2")
    assert model.infill("a __ r", num_samples=3, seed=2) == expected
    assert model.infill("a ## r", blank="#", num_samples=3, seed=2) == expected
    with pytest.raises(UserError, match="needs a text with blanks"):
        model.infill("a r")


def test_another_sampler_takes_the_place_of_the_runs(model, run, printed):
    expected = printed(run, "sampler=ddpm", "sampler.num_steps=5", "num_samples=2")
    model.sampler = DDPMSampler(num_steps=5)
    assert model.sample(2) == expected
    model.sampler = LeftToRightSampler()
    with pytest.raises(UserError, match=r"^DiffusionLM is not sampled by LeftToRightSampler: leave out sampler=$"):
        model.sample(2)


def test_what_is_asked_for_is_told(composed, small_lm, local, saved, printed, tmp_path):
    place = next(setting for setting in local if setting.startswith("data.dir="))
    described = ["data=e2e", f"{place}-e2e", "condition=attributes", f"run_dir={tmp_path / 'told'}"]
    (tmp_path / "told").mkdir()
    saved(compose_training(composed(*small_lm, *described)))
    few = ["sampler.num_steps=2", "num_samples=2"]
    expected = printed(tmp_path / "told", *few, "++condition.food=Italian")
    model = diffusion_text.load(tmp_path / "told")
    model.sampler.num_steps = 2
    assert model.sample(2, condition={"food": "Italian"}) == expected
    with pytest.raises(UserError, match=r"condition=Italian is of which attribute\?"):
        model.sample(1, condition="Italian")
    with pytest.raises(UserError, match=r"condition\.food=Martian was in no text"):
        model.sample(1, condition={"food": "Martian"})


def test_nothing_is_asked_for_in_a_line(model):
    with pytest.raises(ValueError, match=r"^num_samples=0 is not a whole number of at least 1$"):
        model.sample(0)
    for of in (model.score, model.encode):
        with pytest.raises(UserError, match=r"^texts= has no text$"):
            of([])


# ---- likelihood


@pytest.mark.parametrize(("kind", "said"), [("diffusion_lm", "bound"), ("autoregressive", "exact")])
def test_texts_score_what_the_task_finds(composed, small_lm, saved, printed, local, tmp_path, kind, said):
    (tmp_path / "run").mkdir()
    saved(compose_training(composed(*small_lm, f"model={kind}", f"run_dir={tmp_path / 'run'}")))
    few = ["num_samples=4", "seed=3", "task.draws=2"]
    cache = next(setting for setting in local if setting.startswith("cache_dir="))
    _, session = compose_task(composed(f"run={tmp_path / 'run'}", cache, *few, "task=nll", config="sample"))
    texts = session.model.text_space.to_text(session.texts("test")[0])
    score = diffusion_text.load(tmp_path / "run").score(texts, seed=3, draws=2)
    written = printed(tmp_path / "run", "task=nll", *few)
    assert score.kind == written["kind"] == said
    assert sum(score.tokens) == written["tokens"]
    assert score.mean == pytest.approx((written["nats_per_token"]["total"]["value"], score.mean.standard_error))
    assert score.mean.standard_error == pytest.approx(written["nats_per_token"]["total"]["standard_error"])
    assert len(score.nats) == 4


def test_a_text_that_the_model_cannot_take_has_no_score(model, checkpoint):
    with pytest.raises(UserError, match=r"^texts= has 30 tokens: this run takes from 1 to 12$"):
        model.score("a" * 30)
    with pytest.raises(UserError, match=r"^texts= has 0 tokens"):
        model.score(["a", ""])
    with pytest.raises(UserError, match=r"^LatentDiffusion does not tell how likely a text is"):
        diffusion_text.load(checkpoint().parents[1]).score("a")


# ---- x_0


def test_what_is_encoded_is_decoded(model, run):
    texts = ["a stone", "river"]
    x_0, mask = model.encode(texts)
    assert x_0.shape == (2, 7, 16)
    assert mask.sum(1).tolist() == [7, 5]
    nearest = model.model.text_space.embedding(model.tokens(texts)[0]) * mask.unsqueeze(-1)
    torch.testing.assert_close(x_0, nearest)
    model.model.text_space.rounding = "nearest"
    assert model.decode(x_0, mask) == texts
    assert model.decode(model.encode("a stone")[0]) == ["a stone"]


def test_latents_are_those_of_the_space(checkpoint):
    model = diffusion_text.load(checkpoint().parents[1])
    x_0, mask = model.encode("stone river")
    tokens, real = model.tokens("stone river")
    torch.testing.assert_close(x_0, model.model.text_space.encode(tokens, real))
    assert x_0.shape[-1] == 16
    assert model.decode(x_0, mask) == model.model.text_space.to_text(model.model.text_space.decode(x_0, mask))


def test_a_position_may_stand_for_several_tokens(composed, settings, bart_directory, saved, tmp_path):
    backbone = ["text_space@text_space.backbone=bart_base", f"text_space.backbone.pretrained={bart_directory}"]
    small = ["text_space.dim=6", "text_space.compression=2", "text_space.max_steps=2"]
    saved(compose_training(composed("text_space=bart_vae", *backbone, *small, *settings[2:])))
    model = diffusion_text.load(tmp_path / "run")
    x_0, mask = model.encode(["stone", "river apple"])
    tokens = model.tokens(["stone", "river apple"])[1].sum(1)
    assert mask.sum(1).tolist() == [-(-int(many) // 2) for many in tokens]
    assert x_0.shape == (*mask.shape, 6)
    assert len(model.decode(x_0, mask)) == 2


# ---- publishing


@pytest.fixture
def published(monkeypatch):
    """What is uploaded: the repository, and its files."""
    from huggingface_hub import HfApi

    published = []

    def upload(self, *, repo_id, folder_path, **_):
        files = {file.relative_to(folder_path).as_posix(): file.read_bytes() for file in folder_path.rglob("*.*")}
        published.append((repo_id, files))
        return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **settings: published.append((repo_id, settings)))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    return published


def test_a_run_is_published_as_an_export(model, published):
    assert model.push_to_hub("someone/words", private=True) == "https://huggingface.co/someone/words"
    (created, settings), (name, files) = published
    assert created == name == "someone/words"
    assert settings == {"private": True, "exist_ok": True}
    assert {"README.md", "config.json", "model.safetensors", "text_space/tokenizer.json"} < {*files}


def test_an_export_is_published_as_it_lies_there(run, sampled, published, tmp_path):
    task, session = sampled(run / "checkpoints" / "best.ckpt", "task=export", f"to={tmp_path / 'out'}")
    task(session)
    (tmp_path / "out" / "README.md").write_text("# My words\n", encoding="utf-8")
    diffusion_text.load(tmp_path / "out").push_to_hub("someone/words")
    assert published[1][1]["README.md"] == b"# My words\n"


def test_it_says_what_it_is(model, run):
    told = repr(model)
    assert told.startswith(f"{run.name}, step 0\n  text space: EmbeddingSpace, 16 channels\n")
    assert "\n  sampler: DDIMSampler(num_steps=2, " in told
    assert isinstance(model.sampler, DDIMSampler)
