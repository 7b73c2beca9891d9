"""What every test shares: one thread, array shapes checked at each call, draws that repeat, one of each part."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"

import hypothesis
import jaxtyping
import pytest
import torch

torch.set_num_threads(1)

# Before anything imports these packages: from here on a wrong shape in a call to them is an error.
jaxtyping.install_import_hook(
    [
        "diffusion_text.denoisers",
        "diffusion_text.diagnostics",
        "diffusion_text.diffusion",
        "diffusion_text.metrics",
    ],
    "beartype.beartype",
)

hypothesis.settings.register_profile("repeatable", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _same_draws_every_run():
    torch.manual_seed(0)


@pytest.fixture(scope="session", params=["linear", "cosine", "sqrt", "log_snr_linear"])
def schedule(request):
    """Each noise schedule, as published."""
    from diffusion_text.diffusion import schedules

    return {
        "linear": schedules.LinearSchedule,
        "cosine": schedules.CosineSchedule,
        "sqrt": schedules.SqrtSchedule,
        "log_snr_linear": schedules.LogSNRLinearSchedule,
    }[request.param]()


@pytest.fixture(scope="session", params=["epsilon", "x0", "v"])
def prediction(request):
    """Each meaning of a network's output."""
    from diffusion_text.diffusion import predictions

    return {
        "epsilon": predictions.EpsilonPrediction,
        "x0": predictions.X0Prediction,
        "v": predictions.VPrediction,
    }[request.param]()


# ---- Corpora, backbones, the hub and configurations, small enough for tests


def pytest_configure(config):
    # torchdata, which datasets imports where it happens to be installed, with torch 2.13
    config.addinivalue_line("filterwarnings", "ignore:'set_vital' is deprecated:UserWarning")
    # Lightning's advice on machines with many cores
    config.addinivalue_line("filterwarnings", "ignore:The '.*_dataloader' does not have many workers:UserWarning")


WORDS = "apple river stone cloud light green seven table horse paper music north glass winter bread silver".split()


@pytest.fixture(scope="session")
def words_file(tmp_path_factory):
    """A corpus of 400 paragraphs over sixteen words, which a tiny BART learns to copy in seconds."""
    import random

    draw = random.Random(0)
    paragraphs = (" ".join(draw.choice(WORDS) for _ in range(9)) for _ in range(400))
    file = tmp_path_factory.mktemp("corpus") / "words.txt"
    file.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tokenizer(words_file):
    """Byte-level BPE of 320 tokens, learned from the words."""
    from diffusion_text.models.space_recipes import train_tokenizer

    return train_tokenizer([words_file.read_text(encoding="utf-8")], 320)


@pytest.fixture(scope="session")
def bart_directory(tmp_path_factory, tokenizer):
    """An untrained BART, 16 wide with 1 + 1 layers and 40 positions, and its tokenizer, as `save_pretrained` writes."""
    from transformers import BartConfig, BartForConditionalGeneration

    sides = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in (("layers", 1), ("ffn_dim", 32))}
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_position_embeddings=40,
        dropout=0.0,
        init_std=0.5,  # wide enough that what is decoded depends on the latents
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
        **sides,
    )
    directory = tmp_path_factory.mktemp("bart")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BartForConditionalGeneration(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture
def unreachable_hub(monkeypatch, tmp_path):
    """A hub at a port where nobody listens, and nothing downloaded before."""
    import datasets.config
    from huggingface_hub import constants

    from diffusion_text.hub import prepare_hub

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    for library in (constants, datasets.config):  # so that what prepare_hub sets is undone
        monkeypatch.setattr(library, "HF_HUB_OFFLINE", False)
    prepare_hub.cache_clear()
    yield
    prepare_hub.cache_clear()


@pytest.fixture
def composed():
    """A function from overrides to the configuration that train.py's job would get."""
    from pathlib import Path

    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict, read_write

    def compose(*overrides):
        with hydra.initialize_config_dir(str(Path(__file__).parents[1] / "conf"), version_base="1.3"):
            whole = hydra.compose("train", list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(whole)
        cfg = whole.copy()
        with read_write(cfg), open_dict(cfg):
            del cfg["hydra"]
        return cfg

    yield compose
    HydraConfig.instance().cfg = None
