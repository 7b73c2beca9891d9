import pytest
import torch
from torch.testing import assert_close

from diffusion_text.text_spaces.embedding import EmbeddingSpace, LearnedEmbedding, LearnedRounding

VOCABULARY, DIM = 40, 16


@pytest.fixture
def make_space(tokenizer):
    def make(rounding="learned", tied=True, **settings):
        torch.manual_seed(0)
        return EmbeddingSpace(tokenizer, LearnedEmbedding(VOCABULARY, DIM, **settings), rounding, tied)

    return make


@pytest.fixture
def tokens():
    return torch.randint(5, VOCABULARY, (3, 7))


@pytest.fixture
def mask():
    return torch.arange(7) < torch.tensor([7, 4, 1])[:, None]


# ---- the table


@pytest.mark.parametrize("std", [0.02, 1.0, 3.0])
def test_rows_start_at_the_standard_deviation_asked_for(std):
    assert_close(LearnedEmbedding(2000, 64, std=std).table.std().item(), std, rtol=0.02, atol=0)


def test_normalised_rows_have_unit_scale_whatever_their_parameters():
    embedding = LearnedEmbedding(VOCABULARY, DIM, std=0.02, normalise=True)
    assert_close(embedding.table.square().mean(1), torch.ones(VOCABULARY), rtol=1e-2, atol=0)
    (embedding.rows.grad,) = torch.autograd.grad(embedding.table.square().sum(), embedding.rows)
    assert embedding.rows.grad.norm() < 1e-2 * embedding.table.square().sum()  # the scale cannot be trained


def test_pretrained_rows_are_taken_as_they_are():
    rows = 0.1 * torch.randn(VOCABULARY, DIM)
    assert_close(LearnedEmbedding(VOCABULARY, DIM, rows, std=None).table, rows)


def test_pretrained_rows_are_scaled():
    rows = 0.1 * torch.randn(VOCABULARY, DIM)
    table = LearnedEmbedding(VOCABULARY, DIM, rows, std=1.0).table
    assert_close(table.square().mean().sqrt().item(), 1.0)
    assert_close(table / rows, (table / rows)[:1, :1].expand(VOCABULARY, DIM))


def test_wider_pretrained_rows_keep_their_angles_about():
    rows = torch.randn(VOCABULARY, 400)
    rows[1] = rows[0] + 0.1 * torch.randn(400)
    table = LearnedEmbedding(VOCABULARY, 100, rows, std=None).table
    assert torch.cosine_similarity(table[0], table[1], dim=0) > 0.98
    assert torch.cosine_similarity(table[0], table[2], dim=0).abs() < 0.4


def test_narrower_pretrained_rows_keep_their_geometry_exactly():
    rows = torch.randn(VOCABULARY, 8)
    table = LearnedEmbedding(VOCABULARY, DIM, rows, std=None).table
    assert_close(table @ table.T, rows @ rows.T, atol=1e-4, rtol=1e-4)


def test_pretrained_rows_of_another_vocabulary_are_refused():
    with pytest.raises(ValueError, match=f"have 7 rows and the tokenizer {VOCABULARY} tokens: use"):
        LearnedEmbedding(VOCABULARY, DIM, torch.randn(7, DIM))


# ---- there and back


@pytest.mark.parametrize("rounding", ["learned", "cosine", "nearest"])
def test_clean_embeddings_round_to_their_tokens(make_space, tokens, mask, rounding):
    space = make_space(rounding, normalise=True)  # rows of one length: all three agree
    decoded = space.decode(space.encode(tokens, mask), mask)
    assert torch.equal(decoded[mask], tokens[mask])
    assert (decoded[~mask] == space.tokenizer.pad_token_id).all()


def test_cosine_ignores_the_length_and_nearest_does_not(make_space):
    space, mask = make_space("cosine"), torch.ones(1, 1, dtype=torch.bool)
    with torch.no_grad():
        space.embedding.rows[6] = 5 * space.embedding.rows[5] + 0.01
    x_0 = 4.9 * space.embedding.table[5].view(1, 1, -1)
    assert space.decode(x_0, mask).item() == 5
    space.rounding = "nearest"
    assert space.decode(x_0, mask).item() == 6


def test_padding_has_no_embedding(make_space, tokens, mask):
    assert not make_space().encode(tokens, mask)[~mask].any()


def test_only_the_first_tokens_are_decoded_when_asked(make_space, tokens, mask):
    space = make_space()
    assert space.decode(space.encode(tokens, mask), mask, limit=3).shape == (3, 3)


def test_an_unknown_rounding_is_refused(make_space):
    with pytest.raises(ValueError, match="nearset is none of learned, cosine, nearest"):
        make_space("nearset")


def test_snapping_returns_the_table_and_leaves_it_alone(make_space, tokens, mask):
    space = make_space()
    x_0 = space.encode(tokens, torch.ones_like(mask))
    assert_close(space.snap(x_0), x_0)
    assert_close(space.snap(x_0 + 0.05 * torch.randn_like(x_0)), x_0)


def test_confidence_is_the_probability_of_what_is_decoded(make_space, tokens, mask):
    space = make_space()
    x_0 = space.encode(tokens, mask)
    decoded, confidence = space.decode_with_confidence(x_0, mask)
    assert torch.equal(decoded, space.decode(x_0, mask))
    assert_close(confidence, space.logits(x_0).softmax(-1).max(-1).values)


def test_drawing_follows_the_temperature(make_space):
    space, mask = make_space(), torch.ones(1, 4000, dtype=torch.bool)
    x_0 = 0.1 * space.embedding.table[5].expand(1, 4000, DIM)
    for temperature in (0.5, 2.0):
        drawn = space.draw(x_0, mask, temperature, [torch.Generator().manual_seed(0)])
        expected = (space.logits(x_0)[0, 0] / temperature).softmax(-1)
        observed = torch.bincount(drawn[0], minlength=VOCABULARY) / 4000
        assert (observed - expected).abs().max() < 0.03
    cold = space.draw(x_0, mask, 1e-4, [torch.Generator().manual_seed(0)])
    assert torch.equal(cold, space.decode(x_0, mask))


# ---- the head


def test_a_tied_head_is_the_table(make_space):
    space = make_space(tied=True)
    x_0 = torch.randn(2, 3, DIM)
    assert_close(space.head(x_0), x_0 @ space.embedding.table.T)
    assert [name for name, _ in space.named_parameters()] == ["embedding.rows", "head.bias"]


def test_a_tied_head_stays_tied_in_a_copy(make_space):
    from copy import deepcopy

    copied = deepcopy(make_space(tied=True))
    with torch.no_grad():
        copied.embedding.rows.zero_()
    assert not copied.head(torch.randn(2, 3, DIM)).any()


def test_a_free_head_has_its_own_weight(make_space):
    space = make_space(tied=False)
    assert space.head.weight.shape == (VOCABULARY, DIM)
    assert not torch.equal(space.head.weight, space.embedding.table)


def test_rounding_stands_alone():
    assert LearnedRounding(DIM, VOCABULARY)(torch.randn(2, 3, DIM)).shape == (2, 3, VOCABULARY)
