"""What n-grams restore by themselves."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from diffusion_text.data.garbling import Garbling
from diffusion_text.metrics.ngrams import KneserNey
from diffusion_text.tasks.comparison import alone, chrf
from diffusion_text.tasks.corrector import Corrector


@pytest.fixture
def judge(tokenizer, words_file):
    """As much of a judge as a corrector looks at, of a corpus of the same three sentences over and over."""
    sentences = ["apple river stone cloud", "light green seven table", "horse paper music north"]
    texts = [np.array(tokenizer(text, add_special_tokens=False).input_ids) for text in sentences * 20]
    return SimpleNamespace(texts=texts, reference=SimpleNamespace(judge=KneserNey(texts, len(tokenizer))))


@pytest.mark.parametrize("how", ["replace", "drop", "repeat", "shuffle"])
def test_what_was_spoilt_comes_back(judge, tokenizer, how):
    chance, pool = random.Random(0), np.concatenate(judge.texts).tolist()
    garbling = Garbling(how, 0.2, 3)
    originals = [text.tolist() for text in judge.texts]
    spoilt = [garbling(text, tokenizer, pool, chance) for text in originals]
    corrector = Corrector(judge, tokenizer)
    restored = [corrector(text, garbling) for text in spoilt]
    true = tokenizer.batch_decode(originals)
    before, after = (chrf(tokenizer.batch_decode(texts), alone(true)) for texts in (spoilt, restored))
    assert after > before + 0.3 * (1 - before)


def test_a_text_that_is_right_is_left_alone(judge, tokenizer):
    text = judge.texts[0].tolist()
    corrector = Corrector(judge, tokenizer)
    for how in ("replace", "drop", "repeat"):
        assert corrector(text, Garbling(how, 0.1, 3)) == text
    assert corrector([], Garbling("drop", 0.1, 3)) == []
