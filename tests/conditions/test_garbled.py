import math

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.testing import assert_close

from diffusion_text.conditions.garbled import MOST, CountGuess, Garbled, counts_of, per_position, tokens_of
from diffusion_text.conditions.text import LengthGuess, OtherText
from diffusion_text.data.tokens import NOTHING, ends
from diffusion_text.text_spaces.embedding import EmbeddingSpace, LearnedEmbedding


@pytest.fixture
def space(tokenizer):
    torch.manual_seed(0)
    return EmbeddingSpace(tokenizer, LearnedEmbedding(len(tokenizer), 16))


@pytest.fixture
def batch(tokenizer):
    """Two texts with what stands around them."""
    texts = tokenizer(["river stone glass", "north winter bread silver river stone"], add_special_tokens=False)
    start, end = ends(tokenizer)
    ids = [[*start, *text, *end] for text in texts.input_ids]
    longest = max(map(len, ids))
    tokens = torch.tensor([[*text, *[tokenizer.pad_token_id] * (longest - len(text))] for text in ids])
    return {"tokens": tokens, "mask": torch.arange(longest) < torch.tensor([len(text) for text in ids])[:, None]}


def remembering(batch, space, **settings):
    condition = Garbled({}, 16, **settings)
    texts = [tokens[real] for tokens, real in zip(batch["tokens"], batch["mask"], strict=True)]
    condition.remember({"tokens": texts}, space)
    return condition


def test_at_rate_zero_the_text_itself_is_told(batch, space):
    told = remembering(batch, space, ways=["drop"], rate=0).known(batch, space, torch.rand(2, 2))
    assert torch.equal(tokens_of(told), batch["tokens"].masked_fill(~batch["mask"], NOTHING))
    assert (counts_of(told)[batch["mask"]] == 1).all()


@pytest.mark.parametrize("way", ["drop", "repeat", "replace", "shuffle"])
def test_told_tokens_count_for_all_positions_of_the_text(batch, space, way):
    condition = remembering(batch, space, ways=[way], rate=1.0)
    for _ in range(10):
        told = condition.known(batch, space, torch.rand(2, 2))
        counts = counts_of(told)
        assert ((counts < 0) == (told == NOTHING)).all()
        assert counts.clamp(min=0).sum(1).tolist() == batch["mask"].sum(1).tolist()


def test_in_training_what_is_left_stands_where_it_stood(batch, space):
    """Whatever was dropped or repeated."""
    for way in ("drop", "repeat"):
        condition = remembering(batch, space, ways=[way], rate=0.9)
        told = condition.known(batch, space, torch.rand(2, 2))
        context = condition(told, space).along(batch["mask"])
        stood = space.encode(batch["tokens"], batch["mask"])
        assert_close(context.vectors[context.where], stood[context.where])
        assert context.where.sum() == (batch["mask"] if way == "repeat" else told != NOTHING).sum()
        assert context.beside


def test_what_it_takes_to_say_where_is_counted(batch, space):
    condition = remembering(batch, space, ways=["drop"], rate=0.9)
    told = condition.known(batch, space, torch.rand(2, 2))
    context = condition(told, space)
    of_each = -condition.guess(context.vectors, context.where).log_softmax(-1)
    for row, nats, counts in zip(of_each, context.nats, counts_of(told).tolist(), strict=True):
        known = [(place, min(count, MOST)) for place, count in enumerate(counts) if count >= 0]
        assert_close(nats, torch.stack([row[place] for place in known]).sum())
    lengths = batch["mask"].sum(1)
    assert_close(condition.losses(context, lengths)["counts"], context.nats / lengths)
    context.nats.sum().backward()
    assert space.embedding.rows.grad is None, "the text space is not drawn to what counts well"


def test_where_a_token_belongs_that_a_user_tells_is_guessed(batch, space, monkeypatch):
    told = batch["tokens"].masked_fill(~batch["mask"], NOTHING)
    condition = Garbled({}, 16)
    many = torch.tensor([2, 0, *[1] * (told.shape[1] - 2)]).expand(told.shape)
    logits = torch.nn.functional.one_hot(many, MOST + 1).float()
    monkeypatch.setattr(condition.guess, "forward", lambda vectors, where: logits)
    assert condition.lengths(told, space, []).tolist() == batch["mask"].sum(1).tolist()
    context = condition(told, space)
    assert context.nats.tolist() == [0, 0]
    beside, stood = context.along(batch["mask"]), space.encode(batch["tokens"], batch["mask"])
    assert torch.equal(beside.where, batch["mask"] & (torch.arange(told.shape[1]) != 1))
    assert_close(beside.vectors[beside.where], stood[beside.where])


def test_beyond_what_is_counted_nothing_is_told(batch, space):
    told = batch["tokens"].masked_fill(~batch["mask"], NOTHING)
    context = Garbled({}, 16)(told, space)
    longer, shorter = (
        context.along(torch.ones(2, told.shape[1] + 5, dtype=torch.bool)),
        context.along(batch["mask"][:, :4]),
    )
    assert torch.equal(longer.where, torch.nn.functional.pad(batch["mask"], (0, 5)))
    assert_close(shorter.vectors, context.vectors[:, :4])


def test_positions_that_stand_for_several_tokens_have_what_these_count_for_together():
    counts = torch.tensor([[1, 1, 3, 1, 0, 1, 1], [1, 1, 1, -1, -1, -1, -1]])
    assert torch.equal(per_position(counts, 1), counts)
    assert per_position(counts, 2).tolist() == [[1, 2, 1, 0], [1, 1, -1, -1]]
    assert per_position(counts, 3)[0].tolist() == [2, 1, 0]


def test_what_is_spoilt_follows_from_the_chances(batch, space):
    condition = remembering(batch, space, rate=1.0)
    chances = torch.rand(2, 2)
    told = condition.known(batch, space, chances)
    assert torch.equal(told, condition.known(batch, space, chances))
    draws = [condition.known(batch, space, torch.rand(2, 2)).tolist() for _ in range(5)]
    assert len({str(drawn) for drawn in draws}) == 5
    special = set(space.tokenizer.all_special_ids)
    for text in [text[text != NOTHING].tolist() for text in tokens_of(told)]:
        assert text[0] in special
        assert text[-1] in special
        assert special.isdisjoint(text[1:-1])


def test_a_text_of_which_nothing_is_left_is_told_as_nothing(batch, space):
    bare = {"tokens": batch["tokens"][:, 1:2], "mask": batch["mask"][:, 1:2]}
    condition = remembering(batch, space, ways=["drop"], rate=1.0)
    draws = [condition.known(bare, space, torch.rand(2, 2)) for _ in range(30)]
    tokens = tokens_of(torch.cat(draws)).flatten().tolist()
    assert {*tokens} == {NOTHING, *bare["tokens"].flatten().tolist()}
    assert any((told == NOTHING).all() for told in draws)
    assert all(condition(told, space).vectors.isfinite().all() for told in draws)


def test_what_replaces_tokens_stands_in_the_training_split(batch, space):
    condition = remembering(batch, space)
    real = {*batch["tokens"][batch["mask"]].tolist()} - {*space.tokenizer.all_special_ids}
    assert {*condition.pool} == real


def test_the_space_reads_what_is_told_position_by_position(batch, space):
    told = batch["tokens"].masked_fill(~batch["mask"], NOTHING)
    context = Garbled({}, 16)(told, space)
    assert torch.equal(context.where, batch["mask"])
    assert context.at.tolist() == list(range(told.shape[1]))
    assert_close(context.vectors, space.encode(batch["tokens"], batch["mask"]))
    nothing = Garbled({}, 16)(torch.full_like(told, NOTHING), space)
    assert not nothing.where.any()
    assert nothing.vectors.isfinite().all()


def test_a_share_of_the_texts_is_told_nothing():
    told = torch.ones(10_000, 3, dtype=torch.long)
    hidden = Garbled({}, 16, dropout=0.3).hidden(
        told, torch.rand(10_000, 2, generator=torch.Generator().manual_seed(0))
    )
    nothing = (hidden == NOTHING).all(1)
    assert nothing.float().mean() == pytest.approx(0.3, abs=0.02)
    assert (hidden[~nothing] == 1).all()


def test_a_text_counts_its_own_tokens_at_first(batch, space):
    told = batch["tokens"].masked_fill(~batch["mask"], NOTHING)
    for condition in (Garbled({}, 16), OtherText({}, 16)):
        assert condition.lengths(told, space, []).tolist() == batch["mask"].sum(1).tolist()
        assert condition.lengths(torch.full_like(told, NOTHING), space, []).tolist() == [1, 1]


def test_how_long_the_text_was_is_learned_from_what_is_left_of_it():
    """Every third vector says that two are missing behind it: no length of its own tells that."""
    torch.manual_seed(0)
    guess = LengthGuess(4)
    optimizer = torch.optim.Adam(guess.parameters(), 3e-3)

    def texts(many):
        vectors = torch.randn(many, 20, 4)
        lacking = torch.rand(many, 20) < 0.3
        vectors[..., 0] = lacking * 2.0 - 1
        where = torch.arange(20) < torch.randint(5, 21, (many, 1))
        return vectors, where, ((1 + 2 * lacking) * where).sum(1)

    for _ in range(100):
        vectors, where, lengths = texts(32)
        optimizer.zero_grad()
        ((guess(vectors, where) - lengths) ** 2 / lengths).mean().backward()
        optimizer.step()
    vectors, where, lengths = texts(500)
    assert (guess(vectors, where) - lengths).abs().mean() < 1
    assert (where.sum(1) - lengths).abs().float().mean() > 5


def test_what_was_said_twice_is_learned_to_count_for_nothing():
    torch.manual_seed(0)
    table = torch.randn(50, 32)
    guess = CountGuess(32)
    optimizer = torch.optim.Adam(guess.parameters(), 3e-3)

    def texts(many):
        tokens = torch.rand(many, 50).argsort(1)[:, :20]  # none twice by itself
        twice = torch.rand(many, 20) < 0.3
        told = [text.repeat_interleave(1 + often) for text, often in zip(tokens, twice.long(), strict=True)]
        ids = pad_sequence(told, batch_first=True, padding_value=NOTHING)
        where = ids != NOTHING
        again = ids == torch.nn.functional.pad(ids, (1, 0), value=NOTHING)[:, :-1]
        return table[ids.clamp(min=0)], where, (~again).long()

    for _ in range(150):
        vectors, where, counts = texts(32)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(guess(vectors, where)[where], counts[where]).backward()
        optimizer.step()
    vectors, where, counts = texts(200)
    guessed = guess(vectors, where).argmax(-1)
    assert (guessed == counts)[where].float().mean() > 0.97
    assert counts[where].float().mean() < 0.85


def test_only_a_text_that_is_told_says_how_long_it_was(batch, space):
    condition = OtherText({}, 16)
    told = batch["tokens"].masked_fill(~batch["mask"], NOTHING)
    told[1] = NOTHING
    context = condition(told, space)
    lengths = batch["mask"].sum(1) + 6
    losses = condition.losses(context, lengths)["length"]
    assert losses.tolist() == [pytest.approx(math.log1p(-6 / int(lengths[0])) ** 2, rel=0.1), 0]
    losses.sum().backward()
    assert space.embedding.rows.grad is None, "the text space is not drawn to what counts well"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"ways": ["eat"]}, r"condition\.ways=eat is none of shuffle, drop, repeat, replace"),
        ({"ways": []}, r"condition\.ways"),
        ({"rate": 2}, r"condition\.rate=2"),
        ({"window": 1}, r"condition\.window=1"),
        ({"dropout": -1}, r"condition\.dropout=-1"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, says):
    with pytest.raises(ValueError, match=says):
        Garbled({}, 16, **setting)
