"""Two processes sample together: each its share, and what one of them fails of is raised on the first."""

import forked
import pytest

from diffusion_text.models.together import processes, together

SCRIPT = """
import gloo
import torch

from diffusion_text.errors import UserError
from diffusion_text.models.together import processes, together
from diffusion_text.models.writing import Sampled

RANK = gloo.connect()
assert processes() == 2


class Model:
    shares, done = None, 0

    def draw(self, texts, done, what, told):
        if what == "refused":
            raise UserError("it makes no sense")
        if what == "broken" and RANK == 1:
            raise KeyError("worse luck")
        done(len(texts))
        return Sampled(torch.tensor([[text, RANK, int(told[text])] for text in texts]))


model = Model()


def drawn(texts, what="fine"):
    parts = together(model, lambda: model.shares(texts, seen.append, what, torch.arange(9) * 10))
    return None if parts is None else torch.cat([part.tokens for part in parts]).tolist()


seen = []
for texts, second in ((5, 2), (2, 1), (1, 0)):
    all_of_them = [[text, int(text >= second), 10 * text] for text in range(texts)]
    assert drawn(texts) == (None if RANK else all_of_them), drawn
assert seen == ([] if RANK else [2, 1]), seen  # it is told of its own share alone

BROKEN = (RuntimeError, "KeyError: 'worse luck'")
for what, raised, says in (("refused", UserError, "it makes no sense"), ("broken", *BROKEN)):
    try:
        assert drawn(5, what) is None
        assert RANK
    except raised as error:
        assert RANK == 0
        assert says in str(error)
    assert model.shares is None

try:
    assert together(model, lambda: 1 / 0) is None, "the others come out when the first fails by itself"
except ZeroDivisionError:
    assert RANK == 0
assert together(model, lambda: "made") == (None if RANK else "made")
"""


def test_each_process_draws_its_share_and_the_first_has_them_all(tmp_path):
    forked.come_through(SCRIPT, tmp_path)


def test_one_process_does_it_all():
    assert processes() == 1
    assert together(None, lambda: "made") == "made"
    with pytest.raises(ZeroDivisionError):
        together(None, lambda: 1 / 0)
