import pytest
import torch

from diffusion_text.models.text_autoencoder import TextAutoencoder
from diffusion_text.text_spaces.bart_autoencoder import BartAutoencoder, Bottleneck


@pytest.fixture
def make(bart_directory):
    """A function that makes the training of a 16-wide BART, with a bottleneck or without."""

    def make(bottleneck=None, kl_weight=0.0):
        torch.manual_seed(0)
        plain = BartAutoencoder.from_pretrained(bart_directory)
        autoencoder = BartAutoencoder(plain.bart, plain.tokenizer, bottleneck)
        return TextAutoencoder(autoencoder, mask_probability=0.2, kl_weight=kl_weight)

    return make


@pytest.fixture
def batch(tokenizer):
    tokens = torch.tensor([tokenizer("<s>river stone</s>").input_ids, tokenizer("<s>paper music</s>").input_ids])
    return {"tokens": tokens, "mask": torch.ones_like(tokens, dtype=torch.bool)}


def test_the_loss_is_the_sum_of_its_parts(make, batch):
    losses = make(Bottleneck(16, 6), kl_weight=0.3).losses(batch, batch["tokens"], posterior_sample=False)
    torch.testing.assert_close(losses["loss"], losses["reconstruction"] + 0.3 * losses["kl"])
    assert losses["kl"] > 0.1


def test_a_sampled_latent_is_another_one_each_time(make, batch):
    module = make(Bottleneck(16, 6)).eval()
    first, second = (module.losses(batch, batch["tokens"], True)["reconstruction"] for _ in range(2))
    assert first != second
    first, second = (module.losses(batch, batch["tokens"], False)["reconstruction"] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("bottleneck", [None, Bottleneck(16, 6, compression=2)])
def test_preflight_finds_what_the_loss_does_not_train(make, batch, bottleneck):
    module = make(bottleneck, kl_weight=0.1)
    (check,) = module.preflight(batch, None)
    assert check.verdict == "ok"
    assert all(parameter.grad is None for parameter in module.parameters())
    module.unused = torch.nn.Parameter(torch.ones(1))
    assert "unused" in module.preflight(batch, None)[0].advice


def test_noise_is_measured_in_the_latents_own_standard_deviations(make, batch, monkeypatch):
    module = make()
    decoded = []
    monkeypatch.setattr(module.autoencoder, "generate", lambda z, mask: decoded.append(z) or Sequences(batch["tokens"]))
    posterior = module.autoencoder.encode(batch["tokens"], batch["mask"])
    big = posterior._replace(mean=posterior.mean.repeat(1, 500, 1) * torch.linspace(1, 9, 16))
    mask = torch.ones(big.mean.shape[:2], dtype=torch.bool)
    module.decode(big, mask, 0.5, torch.Generator().manual_seed(0))
    added = (decoded[0] - big.mean).flatten(0, 1)
    torch.testing.assert_close(added.std(0) / big.mean[mask].std(0), torch.full((16,), 0.5), atol=0.03, rtol=0)


class Sequences:
    """What generating returns."""

    def __init__(self, tokens):
        self.sequences = tokens


def test_the_decoder_learns_from_latents_of_which_at_most_so_much_is_noise(make, batch):
    module = make()
    module.decoder_noise = 0.5
    z, mask = torch.randn(400, 30, 3) * torch.tensor([1.0, 4.0, 9.0]) + 5, torch.ones(400, 30, dtype=torch.bool)
    noisy = module.noised(z, mask)
    kept = ((noisy - 5) * (z - 5)).mean((0, 1)) / z.var((0, 1))
    torch.testing.assert_close(kept, torch.full((3,), 0.862), atol=0.02, rtol=0)  # the mean of √(1 − ν)
    torch.testing.assert_close(noisy.std((0, 1)), z.std((0, 1)), atol=0, rtol=0.02)
    module.decoder_noise = 0.0
    assert module.noised(z, mask) is z
