import copy
import shutil
import time

import pytest
import torch
from transformers import BartForConditionalGeneration

from diffusion_text.data.base import pad
from diffusion_text.data.statistics import LatentMoments
from diffusion_text.errors import UserError
from diffusion_text.text_spaces.bart import BartSpace
from diffusion_text.text_spaces.bart_autoencoder import pretrained_shape
from diffusion_text.text_spaces.base import weights_digest

TEXTS = ["river stone glass", "apple", "north winter bread silver table horse", "paper music"]


@pytest.fixture
def space(bart_directory):
    return BartSpace.from_pretrained(bart_directory)


@pytest.fixture
def batch(tokenizer):
    """Tokens and mask of four texts of different lengths."""
    return pad([torch.tensor(tokenizer(f"<s>{text}</s>").input_ids) for text in TEXTS], tokenizer.pad_token_id)


def standardised(space, batch):
    """Set the statistics of a batch's real tokens."""
    tokens, mask = batch
    moments = LatentMoments(space.dim, tokens.shape[1])
    moments.add(space.encode_raw(tokens, mask)[mask].numpy())
    found = moments.statistics()
    space.set_statistics(found["mean"], found["covariance"])
    return space


# ---- encoding


def test_latents_are_barts_encoder_states(space, batch, bart_directory):
    tokens, mask = batch
    with torch.no_grad():
        encoder = BartForConditionalGeneration.from_pretrained(bart_directory).eval().get_encoder()
        states = encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(space.encode_raw(tokens, mask)[mask], states[mask])
    assert (space.dim, space.max_length) == (16, 40)


def test_padding_does_not_leak_into_latents(space, batch):
    tokens, mask = batch
    together = space.encode(tokens, mask)
    garbage = space.encode(torch.where(mask, tokens, 77), mask)
    for i, length in enumerate(mask.sum(1)):
        alone = space.encode(tokens[i : i + 1, :length], mask[i : i + 1, :length])
        torch.testing.assert_close(together[i, :length], alone[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together[i, :length], garbage[i, :length], atol=1e-5, rtol=1e-5)


def test_standardised_latents_have_mean_0_and_std_1_on_real_tokens(space, batch):
    raw = space.encode(*batch)
    assert raw[batch[1]].std(0).sub(1).abs().max() > 0.05, "the raw latents need standardising"
    x_0 = standardised(space, batch).encode(*batch)[batch[1]].double()
    torch.testing.assert_close(x_0.mean(0), torch.zeros(16).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(x_0.std(0, correction=0), torch.ones(16).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(space.correlation.double(), torch.corrcoef(x_0.T), atol=1e-5, rtol=0)


# ---- decoding


def test_decoding_is_barts_greedy_generation(space, batch, bart_directory):
    tokens, mask = batch
    space = standardised(space, batch)
    reference = BartForConditionalGeneration.from_pretrained(bart_directory).eval()
    generated = reference.generate(
        input_ids=tokens, attention_mask=mask.long(), num_beams=1, do_sample=False, max_new_tokens=tokens.shape[1]
    )
    decoded = space.decode(space.encode(tokens, mask), mask)
    assert torch.equal(decoded, generated[:, 1:])
    assert len({tuple(text) for text in decoded.tolist()}) == len(TEXTS), "the texts should not all come out alike"


def test_decoding_gives_at_most_as_many_tokens_as_positions(space):
    x_0 = torch.randn(3, 7, 16)
    decoded = space.decode(x_0, torch.ones(3, 7, dtype=torch.bool))
    assert decoded.shape[0] == 3
    assert 1 <= decoded.shape[1] <= 7
    assert decoded.dtype == torch.long


def test_decoding_fills_every_position_of_the_backbone(space):
    full = torch.ones(1, space.max_length, dtype=torch.bool)
    assert space.decode(torch.randn(1, space.max_length, 16), full).shape[1] <= space.max_length


def test_decoding_repeats(space):
    x_0, mask = torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)
    first = space.decode(x_0, mask)
    torch.manual_seed(1)
    assert torch.equal(space.decode(x_0, mask), first)


def test_padding_does_not_leak_into_what_is_decoded(space, batch):
    tokens, mask = batch
    x_0 = space.encode(tokens, mask)
    garbage = torch.where(mask[..., None], x_0, 50.0)
    assert torch.equal(space.decode(x_0, mask), space.decode(garbage, mask))
    assert not torch.equal(space.decode(x_0, mask), space.decode(garbage, torch.ones_like(mask)))


def test_text_of_tokens_is_readable(space, batch):
    assert space.to_text(batch[0]) == TEXTS


def test_snapping_leaves_latents_alone(space):
    x_0 = torch.randn(2, 3, 16)
    assert torch.equal(space.snap(x_0), x_0)


# ---- what belongs to it


def test_a_checkpoint_holds_the_statistics_and_not_bart(space, batch):
    standardised(space, batch)
    assert set(space.state_dict()) == {"mean", "std", "correlation"}
    assert not list(space.parameters())
    assert space.mean.abs().sum() > 0


def test_bart_is_frozen(space):
    assert not any(weight.requires_grad for weight in space.frozen.module.parameters())
    assert not space.frozen.module.training
    space.train()
    assert not space.frozen.module.training


def test_a_copy_shares_bart_and_owns_its_statistics(space):
    twin = copy.deepcopy(space)
    assert twin.frozen.module is space.frozen.module
    twin.mean.add_(1)
    assert space.mean.abs().sum() == 0


def test_the_fingerprint_follows_the_weights(space, bart_directory):
    assert BartSpace.from_pretrained(bart_directory).fingerprint == space.fingerprint
    changed = BartSpace.from_pretrained(bart_directory)
    next(changed.frozen.module.parameters()).data.view(-1)[0] += 1e-3
    assert changed.fingerprint != space.fingerprint


def test_a_digest_sees_names_values_and_other_types():
    weights = torch.tensor([1.0, 2.0])
    digests = [
        weights_digest([("a", weights)]),
        weights_digest([("b", weights)]),
        weights_digest([("a", weights.flip(0))]),
        weights_digest([("a", weights.bfloat16())]),
    ]
    assert len(set(digests)) == 4


def test_a_saved_space_is_the_same_space(space, batch, tmp_path):
    space.save(tmp_path)
    again = BartSpace.from_pretrained(tmp_path)
    assert again.fingerprint == space.fingerprint
    assert torch.equal(again.encode_raw(*batch), space.encode_raw(*batch))
    assert again.tokenizer("river stone").input_ids == space.tokenizer("river stone").input_ids


# ---- what a user gets wrong


@pytest.mark.parametrize("content", ["nothing", "no config.json"])
@pytest.mark.parametrize("load", [BartSpace.from_pretrained, pretrained_shape])
def test_what_is_no_model_directory_is_refused(tmp_path, content, load):
    if content == "no config.json":
        (tmp_path / "bart").mkdir()
        (tmp_path / "bart" / "model.safetensors").touch()
    with pytest.raises(
        UserError, match=r"^text_space\.pretrained=\S+/bart is not a model directory[^\n]*config\.json$"
    ):
        load(tmp_path / "bart")


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json"])
def test_a_model_directory_that_lacks_a_file_is_refused(bart_directory, tmp_path, missing):
    broken = shutil.copytree(bart_directory, tmp_path / "bart")
    (broken / missing).unlink()
    with pytest.raises(UserError, match=r"^[^\n]*bart is not to be had [^\n]*text_space\.pretrained=DIR[^\n]*$"):
        BartSpace.from_pretrained(broken)


def test_a_model_that_is_no_bart_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5", "d_model": 16}')
    with pytest.raises(UserError, match=r"^[^\n]*t5[^\n]*$"):
        pretrained_shape(tmp_path)


@pytest.mark.usefixtures("unreachable_hub")
@pytest.mark.parametrize("load", [BartSpace.from_pretrained, pretrained_shape])
def test_an_unreachable_hub_names_both_ways_out_at_once(load):
    started = time.monotonic()
    with pytest.raises(UserError) as refusal:
        load("facebook/bart-base")
    assert time.monotonic() - started < 10
    message = str(refusal.value)
    assert "\n" not in message
    assert "the Hugging Face hub cannot be reached" in message
    assert "text_space.pretrained=DIR" in message
    assert "text_space=bart_mini" in message
