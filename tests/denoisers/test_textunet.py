"""TextUNet1D: any length, blind to padding, as wide as it says, and it hears the time."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffusion_text.denoisers.textunet import Level, TextUNet1D

DIM = 48


def network(dim=DIM, **arguments):
    """Seeded, and with a last layer as large as training makes it: it starts near 0, where little would show."""
    torch.manual_seed(0)
    net = TextUNet1D(dim, **arguments).eval()
    torch.nn.init.normal_(net.leave.weight, std=(3 * net.output_width) ** -0.5)
    return net


def network_with_biases(**arguments):
    """As training leaves them: while the normalisations' are 0, as they are at first, some masks do nothing."""
    net = network(**arguments)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return net


def real(*lengths, padded_to=None):
    """The mask of texts of these lengths."""
    return torch.arange(padded_to or max(lengths)) < torch.tensor(lengths)[:, None]


def texts(*lengths, dim=DIM):
    """Noisy latents, times and a mask of texts of these lengths."""
    mask = real(*lengths)
    return torch.randn(*mask.shape, dim), torch.rand(len(lengths)), mask


@given(length=st.integers(1, 70), width=st.sampled_from(["narrow", "full"]))
def test_output_has_the_inputs_shape(length, width):
    output = network(width=width)(*texts(length, max(1, length // 2)))
    assert output.shape == (2, length, DIM)
    assert output.isfinite().all()


@given(lengths=st.lists(st.integers(0, 21), min_size=1, max_size=4), padding=st.integers(0, 9))
def test_padding_is_zero_in_the_output(lengths, padding):
    mask = real(*lengths, padded_to=max(lengths) + padding + 1)
    output = network_with_biases()(torch.randn(*mask.shape, DIM), torch.rand(len(lengths)), mask)
    assert (output[~mask] == 0).all()
    assert (output[mask].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("positions", ["none", "sinusoidal"])
@given(lengths=st.lists(st.integers(1, 21), min_size=2, max_size=4))
def test_content_of_padding_does_not_enter(positions, lengths):
    net = network_with_biases(positions=positions, estimates=1)
    x_t, t, mask = texts(*lengths)
    x_0 = torch.randn_like(x_t)
    padding = ~mask.unsqueeze(-1)
    changed = net(x_t.masked_fill(padding, 100.0), t, mask, x_0.masked_fill(padding, -100.0))
    assert_close(changed, net(x_t, t, mask, x_0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", ["none", "sinusoidal"])
@pytest.mark.parametrize("blocks", [1, 2])
@given(length=st.integers(1, 21), padding=st.integers(1, 21))
def test_more_padding_does_not_enter(positions, blocks, length, padding):
    net = network_with_biases(positions=positions, blocks=blocks)
    x_t, t, mask = texts(length)
    padded = net(F.pad(x_t, (0, 0, 0, padding), value=3.0), t, F.pad(mask, (0, padding)))
    assert_close(padded[:, :length], net(x_t, t, mask), rtol=0, atol=1e-4)


def test_texts_of_a_batch_do_not_meet():
    net = network_with_biases()
    x_t, t, mask = texts(9, 5, 1)
    together = net(x_t, t, mask)
    for text in range(3):
        alone = net(x_t[text : text + 1], t[text : text + 1], mask[text : text + 1])
        assert_close(together[text : text + 1], alone, rtol=0, atol=1e-5)


def test_eight_million_parameters_at_768():
    assert sum(p.numel() for p in TextUNet1D(768).parameters()) == pytest.approx(8e6, rel=0.05)


def test_channels_and_lengths_at_768():
    net = TextUNet1D(768)
    shapes = []
    for module in net.modules():
        if isinstance(module, Level):
            module.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    net(*texts(12, dim=768))
    assert shapes == [(256, 12), (384, 6), (512, 3), (384, 6), (256, 12)]
    assert net.output_width == 256


def test_full_width_is_nowhere_narrower_than_the_latent():
    net = network(width="full")
    assert net.output_width == DIM
    assert min(p.shape[0] for name, p in net.named_parameters() if "convolution" in name) >= DIM


def rank_of_outputs(net, length):
    """Dimensions that a text's outputs span around their mean, over many inputs."""
    mask = torch.ones(8 * DIM, length, dtype=torch.bool)
    with torch.no_grad():
        outputs = net(torch.randn(*mask.shape, DIM), torch.rand(len(mask)), mask).flatten(1)
    return torch.linalg.matrix_rank((outputs - outputs.mean(0)).double(), rtol=1e-5).item()


@pytest.mark.parametrize("length", [1, 2, 5])
def test_output_of_a_text_has_the_rank_of_the_last_layer(length):
    """A text's output is an affine map of `length` × `output_width` numbers: this makes the bound of √(1/3)."""
    net = network()
    assert net.output_width == DIM // 3
    assert rank_of_outputs(net, length) == length * net.output_width


@pytest.mark.parametrize("length", [1, 2, 5])
def test_output_at_full_width_has_full_rank(length):
    assert rank_of_outputs(network(width="full"), length) == length * DIM


@pytest.mark.parametrize("dim", [16, 32, DIM, 768])
@pytest.mark.parametrize("width", ["narrow", "full"])
def test_output_depends_on_t(dim, width):
    net = network(dim, width=width)
    x_t, _, mask = texts(9, 6, dim=dim)
    early, late = (net(x_t, torch.full((2,), t), mask) for t in (0.1, 0.9))
    assert (early - late).norm() > 0.01 * early.norm()


@pytest.mark.parametrize(
    "arguments",
    [{}, {"blocks": 2}, {"width": "full"}, {"estimates": 1}, {"magnitude_scale": True}],
    ids=str,
)
def test_gradient_reaches_every_parameter(arguments):
    net = network(**arguments)
    x_t, t, mask = texts(9, 6)
    (net(x_t, t, mask, torch.randn_like(x_t)) - torch.randn_like(x_t)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-7, name


def test_self_conditioning_reads_the_previous_estimate():
    net = network(estimates=1)
    x_t, t, mask = texts(9, 6)
    without = net(x_t, t, mask)
    assert net.estimates
    assert_close(net(x_t, t, mask, torch.zeros_like(x_t)), without)
    assert (net(x_t, t, mask, torch.randn_like(x_t)) - without).norm() > 0.01 * without.norm()


def test_without_self_conditioning_the_previous_estimate_is_ignored():
    net = network()
    x_t, t, mask = texts(9, 6)
    assert not net.estimates
    assert_close(net(x_t, t, mask, torch.randn_like(x_t)), net(x_t, t, mask))


def test_magnitude_scale_starts_at_one_and_multiplies():
    plain, scaled = network(), network(magnitude_scale=True)
    assert scaled.load_state_dict(plain.state_dict(), strict=False).missing_keys == ["scale"]
    inputs = texts(9, 6)
    assert_close(scaled(*inputs), plain(*inputs))
    scaled.scale.data.fill_(2.5)
    assert_close(scaled(*inputs), 2.5 * plain(*inputs))


@pytest.mark.parametrize(("positions", "tells_them_apart"), [("none", False), ("sinusoidal", True)])
def test_positions_tell_equal_tokens_apart(positions, tells_them_apart):
    """In the middle of one token repeated, four positions apart: what the two strides keep equal."""
    x_t = torch.randn(1, 1, DIM).expand(1, 200, DIM)
    output = network(positions=positions)(x_t, torch.full((1,), 0.5), torch.ones(1, 200, dtype=torch.bool))
    apart = (output[0, 100] - output[0, 104]).norm() / output[0, 100].norm()
    assert (apart > 1e-3).item() == tells_them_apart


@pytest.mark.parametrize("arguments", [{"width": "wide"}, {"positions": "learned"}], ids=str)
def test_bad_parameters_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        TextUNet1D(DIM, **arguments)
