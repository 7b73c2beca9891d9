import math

import numpy as np
import pytest
import torch

from diffusion_text.errors import UserError
from diffusion_text.metrics.language_model import LanguageModel, mauve


@pytest.fixture(scope="module")
def gpt(tmp_path_factory, tokenizer):
    """A function that writes a small GPT-2, and its tokenizer, as `save_pretrained` does."""
    from transformers import GPT2Config, GPT2LMHeadModel

    def write(embedding_scale):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2))
        with torch.no_grad():
            model.transformer.wte.weight.mul_(embedding_scale)
        directory = tmp_path_factory.mktemp("gpt")
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        return str(directory)

    return write


def test_a_model_that_knows_nothing_has_the_vocabulary_for_its_perplexity(gpt, tokenizer):
    perplexity, features = LanguageModel(gpt(0)).judge(["apple river stone", "north"])
    assert perplexity == pytest.approx(len(tokenizer), rel=1e-4)
    assert features.shape == (2, 16)


def test_perplexity_is_over_tokens_not_texts(gpt, tokenizer):
    model = LanguageModel(gpt(30))
    texts = ["apple river stone cloud light green seven", "north paper"]
    sums = []
    for text in texts:
        tokens = tokenizer(text, return_tensors="pt").input_ids
        mean = model.model(tokens, labels=tokens).loss.item()  # transformers' own
        sums.append((mean * (tokens.shape[1] - 1), tokens.shape[1] - 1))
    total, count = map(sum, zip(*sums, strict=True))
    assert model.judge(texts)[0] == pytest.approx(math.exp(total / count), rel=1e-4)


def test_what_is_no_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"task\.language_model=.* is not a model directory"):
        LanguageModel(str(tmp_path))


def test_mauve_tells_near_from_far():
    pytest.importorskip("mauve", reason="mauve-text is an extra")
    draw = np.random.default_rng(0)
    first, second = (draw.normal(size=(100, 8)).astype(np.float32) for _ in range(2))
    assert mauve(first, second) > 0.8 > 0.1 > mauve(first, second + 5)


def test_mauve_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mauve", None)
    with pytest.raises(UserError, match=r"pip install"):
        mauve(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32))
