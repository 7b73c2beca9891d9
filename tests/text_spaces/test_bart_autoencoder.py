import pytest
import torch
from torch.distributions import Normal, kl_divergence
from transformers import BartForConditionalGeneration

from diffusion_text.data.tokens import pad
from diffusion_text.text_spaces.bart import BartSpace
from diffusion_text.text_spaces.bart_autoencoder import BartAutoencoder, Bottleneck, Posterior, pretrained_shape

TEXTS = ["river stone glass", "apple", "north winter bread silver table horse", "paper music"]


@pytest.fixture
def batch(tokenizer):
    """Tokens and mask of four texts of different lengths."""
    return pad([torch.tensor(tokenizer(f"<s>{text}</s>").input_ids) for text in TEXTS], tokenizer.pad_token_id)


@pytest.fixture
def make(bart_directory):
    """A function that puts a bottleneck of 6 channels on the 16-wide BART."""

    def make(compression):
        torch.manual_seed(0)
        plain = BartAutoencoder.from_pretrained(bart_directory)
        return BartAutoencoder(plain.bart, plain.tokenizer, Bottleneck(16, 6, compression)).eval()

    return make


def test_the_divergence_is_that_of_two_gaussians():
    mean, log_variance = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    mask = torch.arange(5) < torch.tensor([[5], [1], [3]])
    oracle = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(-1)[mask].mean()
    torch.testing.assert_close(Posterior(mean, log_variance).kl(mask), oracle)


def test_a_posterior_is_sampled_with_its_own_mean_and_variance():
    mean, log_variance = torch.tensor([0.5, -2.0]), torch.tensor([0.0, -3.0])
    shape = (100, 200, 2)
    torch.manual_seed(0)
    drawn = Posterior(mean.expand(shape), log_variance.expand(shape)).sample().flatten(0, 1)
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.var(0).log(), log_variance, atol=0.05, rtol=0)


def test_without_a_bottleneck_the_latent_is_known_exactly_and_the_loss_is_barts(bart_directory, batch):
    tokens, mask = batch
    autoencoder = BartAutoencoder.from_pretrained(bart_directory).eval()
    posterior = autoencoder.encode(tokens, mask)
    assert torch.equal(posterior.sample(), posterior.mean)
    assert posterior.kl(mask) == 0
    bart = BartForConditionalGeneration.from_pretrained(bart_directory).eval()
    oracle = bart(tokens, attention_mask=mask.long(), labels=tokens.masked_fill(~mask, -100)).loss
    torch.testing.assert_close(autoencoder.reconstruct(posterior.mean, mask, tokens, mask).loss, oracle)


@pytest.mark.parametrize("compression", [1, 2, 3])
def test_padding_does_not_reach_a_compressed_latent(make, batch, compression):
    autoencoder = make(compression)
    tokens, mask = batch
    together = autoencoder.encode(tokens, mask).mean
    for i, length in enumerate(mask.sum(1).tolist()):
        alone = autoencoder.encode(tokens[i : i + 1, :length], mask[i : i + 1, :length]).mean[0]
        assert len(alone) == -(-length // compression)
        torch.testing.assert_close(together[i, : len(alone)], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("compression", [1, 2, 3])
def test_a_compressed_space_is_saved_standardised_and_decoded(make, batch, tmp_path, compression):
    tokens, mask = batch
    make(compression).save(tmp_path)
    assert pretrained_shape(tmp_path) == (6, 40)
    space = BartSpace.from_pretrained(tmp_path)
    assert (space.dim, space.compression, space.latent_length(7)) == (6, compression, -(-7 // compression))
    x_0, latent_mask = space.encode(tokens, mask), space.latent_mask(mask)
    assert x_0.shape == (*latent_mask.shape, 6)
    assert latent_mask.sum(1).tolist() == [space.latent_length(n) for n in mask.sum(1).tolist()]
    torch.testing.assert_close(x_0, make(compression).encode(tokens, mask).mean)
    decoded = space.decode(x_0, latent_mask)
    assert decoded.shape[1] <= latent_mask.shape[1] * compression
    garbage = torch.where(latent_mask[..., None], x_0, 50.0)
    assert torch.equal(space.decode(garbage, latent_mask), decoded)


def test_two_spaces_differ_when_only_their_bottlenecks_do(make, tmp_path):
    autoencoder = make(1)
    before = BartSpace(autoencoder).fingerprint
    autoencoder.bottleneck.leave.bias.data += 1e-3
    assert BartSpace(autoencoder).fingerprint != before
