"""What every test shares: one thread, array shapes checked at each call, draws that repeat, one of each part."""

import gc
import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"

import hypothesis
import jaxtyping
import published
import pytest
import restaurants
import torch

torch.set_num_threads(1)
gc.set_threshold(20_000)  # else a tenth of the time of composing goes into looking for garbage

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
hypothesis.settings.register_profile("thorough", hypothesis.settings.get_profile("repeatable"), max_examples=3_000)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _same_draws_every_run():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def shapes_unchecked():
    """For modules that train whole runs, a tenth of whose time the checks would take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        yield


@pytest.fixture(scope="session", params=["linear", "cosine", "sqrt", "log_snr_linear", "tan"])
def schedule(request):
    """Each noise schedule, as published."""
    from diffusion_text.diffusion import schedules

    return {
        "linear": schedules.LinearSchedule,
        "cosine": schedules.CosineSchedule,
        "sqrt": schedules.SqrtSchedule,
        "log_snr_linear": schedules.LogSNRLinearSchedule,
        "tan": schedules.TanSchedule,
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
    # Lightning 2.6 with torch 2.13
    config.addinivalue_line("filterwarnings", "ignore:.*LeafSpec.* is deprecated:FutureWarning")
    # Lightning's advice on machines with many cores
    config.addinivalue_line("filterwarnings", "ignore:The '.*_dataloader' does not have many workers:UserWarning")


LONG = ("composition", "distributed", "docs", "end_to_end", "failures", "faults")


def pytest_collection_modifyitems(items):
    """The long files first, so that others fill up the time beside them."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONG)


WORDS = ["apple", "river", "stone", "cloud", "light", "green", "seven", "table", "horse", "paper", "music", "north"]


@pytest.fixture(scope="session")
def words_file(tmp_path_factory):
    """A corpus of 400 paragraphs of nine words each, out of twelve."""
    import random

    draw = random.Random(0)
    paragraphs = (" ".join(draw.choice(WORDS) for _ in range(9)) for _ in range(400))
    file = tmp_path_factory.mktemp("corpus") / "words.txt"
    file.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tokenizer(words_file):
    """Byte-level BPE of at most 320 tokens, learned from the words."""
    from diffusion_text.models.tokenizers import train_tokenizer

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
def hub(monkeypatch, tmp_path):
    """A stand-in for the hub's data sets: a function from the parquet files of one, columns by name, to what is asked
    for while it is there.
    """
    import datasets

    def offer(files):
        asked, folder = [], tmp_path / "hub copy"
        for name, columns in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            datasets.Dataset.from_dict(columns).to_parquet(folder / name)

        def download(repository, *, repo_type, revision, allow_patterns):
            asked.append((repository, repo_type, revision, allow_patterns))
            return str(folder)

        def listed(self, repository, *, repo_type, revision):
            asked.append((repository, repo_type, revision, None))
            return list(files)

        def opened(self, address):
            return (folder / next(name for name in files if address.endswith(name))).open("rb")

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", listed)
        monkeypatch.setattr("huggingface_hub.HfFileSystem.open", opened)
        monkeypatch.setattr("diffusion_text.hub.prepare_hub", lambda: True)
        return asked

    return offer


def compose(*overrides, config="train"):
    """The configuration that the job of train.py, or sample.py, would get."""
    from pathlib import Path

    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict, read_write

    with hydra.initialize_config_dir(str(Path(__file__).parents[1] / "conf"), version_base="1.3"):
        whole = hydra.compose(config, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(whole)
    cfg = whole.copy()
    with read_write(cfg), open_dict(cfg):
        del cfg["hydra"]
    return cfg


@pytest.fixture
def composed():
    """`compose`, which leaves nothing behind."""
    from hydra.core.hydra_config import HydraConfig

    yield compose
    HydraConfig.instance().cfg = None


@pytest.fixture(scope="module")
def composed_once():
    """The same, for trainings that a module's tests share."""
    from hydra.core.hydra_config import HydraConfig

    yield compose
    HydraConfig.instance().cfg = None


@pytest.fixture(scope="session")
def local(words_file, tmp_path_factory):
    """Overrides under which every corpus is local and small, with one cache for all tests."""
    corpus = tmp_path_factory.mktemp("corpora")
    for name in ("input.txt", "wiki.train.txt", "wiki.valid.txt", "wiki.test.txt"):
        (corpus / name).write_bytes(words_file.read_bytes())
    restaurants.write(corpus.parent / f"{corpus.name}-e2e")
    restaurants.write_pairs(corpus.parent / f"{corpus.name}-pairs.jsonl")
    published.write(corpus.parent / f"{corpus.name}-published", words_file.read_text(encoding="utf-8").split("\n\n"))
    cache = tmp_path_factory.mktemp("cache")
    small = ["data.length=12", "data.batch_size=8", "data.eval_texts=24"]
    return ["data=text_files", f"data.dir={corpus}", *small, f"cache_dir={cache}"]


@pytest.fixture
def settings(local, bart_directory, tmp_path):
    """The same, on the untrained BART, in a run directory of its own."""
    (tmp_path / "run").mkdir()
    return ["text_space=bart_base", f"text_space.pretrained={bart_directory}", *local, f"run_dir={tmp_path}/run"]


def save(training):
    """The checkpoint of a model that was not trained."""
    training.trainer.strategy.connect(training.model)
    training.trainer.save_checkpoint(training.run.best, weights_only=True)
    return training.run.best


@pytest.fixture(scope="session")
def saved():
    """`save`, for tests."""
    return save


@pytest.fixture
def sampled(composed):
    """A function from a checkpoint and overrides to the task and the session that sample.py would make of them."""
    from diffusion_text.composition import compose_task

    return lambda checkpoint, *overrides: compose_task(composed(f"ckpt={checkpoint}", *overrides, config="sample"))


@pytest.fixture(scope="session")
def untrained(local, bart_directory, tmp_path_factory):
    """The content of an untrained model's checkpoint."""
    from diffusion_text.composition import compose_training

    run = tmp_path_factory.mktemp("run")
    backbone = ["text_space=bart_base", f"text_space.pretrained={bart_directory}"]
    return torch.load(save(compose_training(compose(*backbone, *local, f"run_dir={run}"))), weights_only=True)


@pytest.fixture(scope="session")
def small_lm(local):
    """Overrides of the embedding route, local and small: characters in 16 dimensions, a layer."""
    small = ["tokenizer=characters", "text_space.dim=16", "model.width=16", "model.depth=1", "model.heads=2"]
    return ["model=diffusion_lm", *small, *local]


@pytest.fixture(scope="session")
def untrained_lm(small_lm, tmp_path_factory):
    """The checkpoint of an untrained Diffusion-LM."""
    from diffusion_text.composition import compose_training

    run = tmp_path_factory.mktemp("run")
    return save(compose_training(compose(*small_lm, f"run_dir={run}")))


@pytest.fixture
def lm_checkpoint(untrained_lm, tmp_path):
    """This checkpoint, in a run directory of its own."""
    import shutil

    return shutil.copytree(untrained_lm.parents[1], tmp_path / "lm") / "checkpoints" / untrained_lm.name


@pytest.fixture
def checkpoint(untrained, tmp_path):
    """A function that writes this checkpoint with some values of its configuration changed."""
    from diffusion_text.tensors import write_tensors

    def write(**changes):
        file = tmp_path / "written" / "checkpoints" / "best.ckpt"
        write_tensors(file, untrained | {"hyper_parameters": untrained["hyper_parameters"] | changes})
        return file

    return write


SHORT = [
    "trainer=cpu", "trainer.max_steps=6", "trainer.val_check_interval=3", "trainer.log_every_n_steps=1",
    "sampler.num_steps=4", "preflight=warn", "num_samples=2", "report.quality=8", "report.frontier=3",
    "report.garbled=3", "report.trace_steps=4",
]  # fmt: skip


@pytest.fixture(scope="session")
def finished(local, bart_directory, small_lm, tmp_path_factory):
    """A function from a route to the record of a training of six steps, which is run once."""
    from diffusion_text.composition import compose_training
    from diffusion_text.runs import Run
    from diffusion_text.tracking.records import Record
    from diffusion_text.training import train

    routes = {
        "latent": [
            "text_space=bart_base", f"text_space.pretrained={bart_directory}", "prediction=epsilon", "route.reads=0.5",
            *local,
        ],
        "embedding": [*small_lm, "callbacks.collapse.every_n_steps=2"],
        "autoencoder": [
            "model=text_autoencoder", "text_space.dim=16", "text_space.layers=1", "text_space.heads=2",
            "text_space.vocab_size=320", *local,
        ],
    }  # fmt: skip
    trained = {}

    def finished(route):
        if route not in trained:
            directory = tmp_path_factory.mktemp("runs") / f"{route}-run"
            directory.mkdir()
            train(compose_training(compose(*routes[route], *SHORT, f"run_dir={directory}")))
            trained[route] = Record(Run(directory))
        return trained[route]

    return finished


# ---- A real browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium, from Debian's packages chromium and chromium-driver."""
    import shutil

    from selenium.webdriver import Chrome, ChromeOptions, ChromeService
    from selenium.webdriver.support.wait import WebDriverWait

    class Patient(Chrome):
        """Has a page before it when the charts are drawn, which takes a busy machine longer than to load it."""

        def get(self, url):
            super().get(url)
            drawn = "return !document.querySelector('[data-chart]') || performance.getEntriesByName('drawn').length > 0"
            WebDriverWait(self, 60).until(lambda browser: browser.execute_script(drawn))

    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        pytest.skip("there is no Chromium: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    flags = [
        "headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update",
        "disable-sync", "no-first-run", "disable-quic", f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ]  # fmt: skip
    for flag in flags:
        options.add_argument(f"--{flag}")
    chrome = Patient(options, ChromeService(driver))
    yield chrome
    chrome.quit()
