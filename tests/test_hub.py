"""What comes from the hub, or from a file in its stead: embedding rows and exports, or one line that says why not."""

import fake_hub
import pytest
import torch
from safetensors.torch import save_file

from diffusion_text.composition import compose_task
from diffusion_text.errors import UserError
from diffusion_text.hub import download, load_rows, prepare_hub
from diffusion_text.runs import find_checkpoint

ROWS = torch.randn(11, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "others",
    [{}, {"bias": torch.zeros(11), "cube": torch.zeros(2, 2, 2)}, {"position_embeddings.weight": torch.zeros(5, 6)}],
    ids=["alone", "the one matrix", "named as embeddings"],
)
def test_the_rows_of_a_file(tmp_path, others):
    save_file({"bert.embeddings.word_embeddings.weight": ROWS, **others}, tmp_path / "rows.safetensors")
    assert torch.equal(load_rows(str(tmp_path / "rows.safetensors")), ROWS)


@pytest.mark.parametrize("kind", ["Bert", "GPT2"])
def test_the_rows_of_a_model_directory_and_of_its_weights_file(tmp_path, kind):
    import transformers

    sizes = {
        "Bert": {"hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8},
        "GPT2": {"n_embd": 6, "n_layer": 1, "n_head": 1, "n_positions": 8, "bos_token_id": 0, "eos_token_id": 0},
    }
    config = getattr(transformers, f"{kind}Config")(vocab_size=11, **sizes[kind])
    model = getattr(transformers, f"{kind}Model")(config)
    model.get_input_embeddings().weight.data.copy_(ROWS)
    model.save_pretrained(tmp_path)
    for source in (tmp_path, tmp_path / "model.safetensors"):
        rows = load_rows(str(source))
        assert torch.equal(rows, ROWS)
        assert not rows.requires_grad


@pytest.mark.parametrize(
    ("names", "number"),
    [(["first", "second"], 2), (["wte.weight", "shared.weight"], 2), ([], 0)],
    ids=["two matrices", "two embeddings", "no matrix"],
)
def test_a_file_that_leaves_a_choice_is_refused(tmp_path, names, number):
    save_file({"bias": torch.zeros(3)} | {name: torch.zeros(3, 2) for name in names}, tmp_path / "rows.safetensors")
    with pytest.raises(UserError, match=rf"^[^\n]*rows\.safetensors has {number} matrices [^\n]*embeddings$"):
        load_rows(str(tmp_path / "rows.safetensors"))


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    (tmp_path / "rows.txt").write_text("the 0.1 0.2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^text_space\.pretrained_embeddings=\S+rows\.txt is not a safetensors file"):
        load_rows(str(tmp_path / "rows.txt"))


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^text_space\.pretrained_embeddings=\S+ is not a model directory"):
        load_rows(str(tmp_path))


@pytest.mark.usefixtures("unreachable_hub")
def test_an_unreachable_hub_is_one_line():
    with pytest.raises(UserError, match=r"^[^\n]*cannot be reached[^\n]*text_space\.pretrained_embeddings=DIR[^\n]*$"):
        load_rows("someone/some-model")


# ---- an export on the hub


@pytest.fixture
def hub(lm_checkpoint, sampled, monkeypatch, tmp_path):
    """A hub at which `someone/words` is the export of an untrained model; the paths that it was asked for."""
    from huggingface_hub import constants

    task, session = sampled(lm_checkpoint, "task=export", f"to={tmp_path / 'there'}")
    task(session)
    (tmp_path / "there" / "pytorch_model.bin").write_bytes(b"not downloaded")
    with fake_hub.serving(tmp_path / "there", "someone/words") as (address, asked):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        url = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        prepare_hub.cache_clear()
        yield asked
    prepare_hub.cache_clear()


@pytest.mark.parametrize("name", ["someone/words", "someone/words@v1"])
def test_a_model_is_sampled_by_its_name(hub, composed, lm_checkpoint, name, tmp_path):
    few = ["num_samples=2", "sampler.num_steps=2", f"outputs={tmp_path / 'outputs'}"]
    (task, there), (_, here) = (
        compose_task(composed(*few, where, config="sample")) for where in (f"run={name}", f"ckpt={lm_checkpoint}")
    )
    assert there.read(there.sample()) == here.read(here.sample())
    assert any(path.endswith("/model.safetensors") for path in hub)
    assert not [path for path in hub if path.endswith((".bin", ".md"))], "what nothing reads"
    task(there)
    assert {file.suffix for file in (tmp_path / "outputs" / "samples" / name.partition("/")[2]).iterdir()} == {
        ".txt",
        ".jsonl",
    }


def test_what_was_downloaded_needs_no_hub(hub, monkeypatch):
    from huggingface_hub import constants

    first = download("someone/words", "run")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    prepare_hub.cache_clear()
    assert download("someone/words", "run") == first


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", ["someone/else", "someone/words@v2", "some..one/words"])
def test_what_the_hub_has_not_is_one_line(name):
    with pytest.raises(UserError, match=rf"^run={name} is neither a directory nor to be had from the [^\n]+$"):
        find_checkpoint(name, None, "outputs")


@pytest.mark.usefixtures("unreachable_hub")
def test_a_name_without_a_hub_is_one_line():
    with pytest.raises(UserError, match=r"^run=someone/words is neither [^\n]* hub: it cannot be reached$"):
        find_checkpoint("someone/words", None, "outputs")


def test_a_directory_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "someone" / "words" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert find_checkpoint("someone/words", None, "outputs").resolve() == weights.resolve()
