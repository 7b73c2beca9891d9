"""TinyTransformer: torch's encoder as published, its raw LayerNorm, and the repairs."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from diffusion_text.denoisers.tiny_transformer import TinyTransformer

DIM = 48
MASK = torch.arange(11) < torch.tensor([[4], [11], [1]])


def torchs_encoder(dropout=0.1):
    layer = nn.TransformerEncoderLayer(DIM, 4, dropout=dropout, batch_first=True)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


@pytest.mark.parametrize(("dropout", "texts"), [(0.0, 3), (0.1, 1)])
def test_is_torchs_encoder_with_the_time_added(dropout, texts):
    """Equal seeds drop the same numbers, of one text: torch draws them in another order for several."""
    net, encoder = TinyTransformer(DIM, dropout=dropout), torchs_encoder(dropout)
    for mine, theirs in zip(net.layers.parameters(), encoder.parameters(), strict=True):
        mine.data.copy_(nn.init.normal_(theirs, std=0.3))
    x_t, t, mask = torch.randn(texts, 11, DIM), torch.rand(texts), MASK[:texts]
    torch.manual_seed(1)
    expected = encoder(x_t + net.time(t[:, None]).unsqueeze(1), src_key_padding_mask=~mask) * mask.unsqueeze(-1)
    torch.manual_seed(1)
    assert_close(net(x_t, t, mask), expected, rtol=0, atol=1e-4)


def test_starts_as_torchs_encoder_does():
    for mine, theirs in zip(TinyTransformer(DIM).layers.parameters(), torchs_encoder().parameters(), strict=True):
        assert_close(
            torch.stack([mine.mean(), mine.std()]), torch.stack([theirs.mean(), theirs.std()]), rtol=0, atol=0.03
        )


def test_size_at_256():
    assert sum(p.numel() for p in TinyTransformer(256).parameters()) == pytest.approx(3.9e6, rel=0.02)


@pytest.mark.parametrize("head", [False, True])
def test_every_output_has_one_norm_until_a_head_follows(head):
    net = TinyTransformer(DIM, head=head).eval()
    norms = net(torch.randn(3, 11, DIM), torch.rand(3), MASK)[MASK].norm(dim=-1)
    assert (norms.std() < 1e-3).item() != head


@pytest.mark.parametrize(("dim", "positions", "fits"), [(12, "none", True), (12, "rotary", False), (14, "none", False)])
def test_heads_divide_the_width(dim, positions, fits):
    if fits:
        TinyTransformer(dim, positions=positions)
    else:
        with pytest.raises(ValueError, match=f"not {dim}"):
            TinyTransformer(dim, positions=positions)


def test_unknown_positions_are_refused():
    with pytest.raises(ValueError, match="positions"):
        TinyTransformer(DIM, positions="absolute")
