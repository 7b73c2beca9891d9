"""Pretrained embedding rows: of a file, of a model, or one line that says why not."""

import pytest
import torch
from safetensors.torch import save_file

from diffusion_text.errors import UserError
from diffusion_text.hub import load_rows

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
