from types import SimpleNamespace

import pytest
import torch

from diffusion_text.conditions.attributes import Attributes
from diffusion_text.diffusion.samplers import generators_of
from diffusion_text.errors import UserError

SPACE = SimpleNamespace(latent_length=lambda tokens: -(-tokens // 2))  # a position for every two
VALUES = {"area": ["city centre", "riverside"], "food": ["French", "Italian", "Thai"], "price": ["high"]}


@pytest.fixture
def condition():
    return Attributes(VALUES, 16, width=4)


def test_each_value_has_a_vector_of_its_own_and_none_is_not_seen(condition):
    context = condition(torch.tensor([[1, 3, 0], [2, 1, 1]]), SPACE)
    assert context.at.tolist() == [-3, -2, -1]
    assert context.where.tolist() == [[True, True, False], [True, True, True]]
    seen = context.vectors[context.where]
    assert torch.equal(seen, condition.embedding.weight[[0, 4, 1, 2, 5]])


def test_what_is_asked_for_is_found_in_any_case(condition):
    assert condition.asked({"food": "italian", "area": "Riverside"}, None).tolist() == [2, 2, 0]
    assert condition.asked({"food": None}, None).tolist() == [0, 0, 0]
    assert [condition.asked(target, None).tolist() for target in condition.targets()] == [
        [1, 0, 0], [2, 0, 0], [0, 1, 0], [0, 2, 0], [0, 3, 0], [0, 0, 1],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (
            {"foood": "Thai"},
            "condition.foood: there is no such attribute, did you mean food?; there are area, food, price",
        ),
        ({"food": "Tai"}, "condition.food=Tai was in no text, did you mean Thai?; there are French, Italian, Thai"),
        ({"food": 7}, "condition.food=7 was in no text; there are French, Italian, Thai"),
        ({"any": "Thai"}, "condition=Thai is of which attribute? condition.NAME=Thai, of area, food, price"),
    ],
)
def test_what_there_is_not_is_refused_with_the_nearest(condition, wanted, says):
    with pytest.raises(UserError) as refusal:
        condition.asked(wanted, None)
    assert str(refusal.value) == says


def test_of_one_attribute_the_value_says_enough():
    assert Attributes({"speaker": ["ROMEO", "JULIET"]}, 16).asked({"any": "juliet"}, None).tolist() == [2]


def test_in_training_a_share_is_told_nothing_and_a_share_of_the_others_a_part(condition):
    torch.manual_seed(0)
    told = torch.ones(40_000, 3, dtype=torch.long)
    hidden = condition.hidden(told, torch.rand(len(told), condition.draws))
    many = hidden.sum(1).bincount(minlength=4) / len(told)
    # a part: each of three is kept with a chance that is uniform itself, so 0 to 3 of them are equally likely
    expected = torch.tensor([0.1 + 0.45 / 4, 0.45 / 4, 0.45 / 4, 0.45 + 0.45 / 4])
    assert (many - expected).abs().max() < 0.01
    assert not condition.hidden(torch.zeros_like(told), torch.rand(len(told), condition.draws)).any()
    everything = Attributes(VALUES, 16, dropout=0, partial=0)
    assert torch.equal(everything.hidden(told, torch.rand(len(told), everything.draws)), told)


def test_texts_are_as_long_as_such_texts_are_in_training(condition):
    told = torch.tensor([[1, 1, 0], [1, 2, 0], [2, 2, 1]])
    texts = {"told": list(told), "tokens": [torch.zeros(length) for length in (9, 17, 59)]}
    condition.remember(texts, SPACE)
    assert set(condition.lengths_of(torch.tensor([1, 0, 0])).tolist()) == {5, 9}
    assert set(condition.lengths_of(torch.tensor([1, 2, 0])).tolist()) == {9}
    assert set(condition.lengths_of(torch.tensor([0, 3, 1])).tolist()) == {30}, "the most of it that there is"
    asked = torch.tensor([[1, 1, 0], [2, 0, 0]])
    assert condition.lengths(asked, SPACE, generators_of(0, range(2))).tolist() == [5, 30]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"width": 0}, "condition.width=0"),
        ({"dropout": 2}, "condition.dropout=2"),
        ({"partial": -1}, "condition.partial=-1"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, says):
    with pytest.raises(ValueError, match=says):
        Attributes(VALUES, 16, **setting)
