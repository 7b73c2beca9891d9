import pytest
import torch

from diffusion_text.metrics.reconstruction import exact_match, token_accuracy

TOKENS = torch.tensor([[1, 2, 3, 0]])
MASK = torch.tensor([[True, True, True, False]])


@pytest.mark.parametrize(("decoded", "share"), [([[1, 2, 3, 9]], 1.0), ([[1, 9, 3]], 2 / 3), ([[1]], 1 / 3)])
def test_token_accuracy(decoded, share):
    assert token_accuracy(torch.tensor(decoded), TOKENS, MASK) == pytest.approx(share)


def test_exact_match_is_a_share_of_texts():
    tokens, mask = TOKENS.repeat(4, 1), MASK.repeat(4, 1)
    decoded = torch.tensor([[1, 2, 3, 7], [1, 2, 9, 0], [1, 2, 3, 0], [0, 0, 0, 0]])
    assert exact_match(decoded, tokens, mask) == 0.5


def test_what_was_cut_off_is_no_match():
    assert exact_match(torch.tensor([[1, 2]]), TOKENS, MASK) == 0
