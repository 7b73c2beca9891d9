import pytest
import restaurants

from diffusion_text.data.e2e import E2E
from diffusion_text.errors import UserError
from diffusion_text.models.tokenizers import train_tokenizer


@pytest.fixture
def folder(tmp_path):
    return restaurants.write(tmp_path / "e2e")


def test_descriptions_are_not_shared_between_splits(folder, caplog):
    pairs = E2E("unused", dir=str(folder)).pairs
    assert {split: len(found) for split, found in pairs.items()} == {"train": 144, "validation": 8, "test": 8}
    described = [{tuple(pair.known.items()) for pair in found} for found in pairs.values()]
    assert len(set.union(*described)) == sum(map(len, described)) == 80
    assert "has no training file: training on nine tenths of the descriptions" in caplog.text


def test_the_published_splits_are_kept(folder):
    for name, line in (("train", "name : A B||a"), ("test", "food : Thai | customer rating : 5 out of 5||b")):
        (folder / f"{name}.txt").write_text(line + "\n", encoding="utf-8")
    pairs = E2E("unused", dir=str(folder)).pairs
    assert pairs["train"] == [({"name": "A B"}, "a")]
    assert pairs["test"] == [({"food": "Thai", "customer_rating": "5 out of 5"}, "b")]
    assert len(pairs["validation"]) == 160


def test_texts_bring_the_numbers_of_their_values(folder, tmp_path):
    corpus = E2E(str(tmp_path / "cache"), dir=str(folder), length=48, batch_size=4)
    assert corpus.attributes == {
        "area": ["city centre", "riverside"], "family_friendly": ["no", "yes"],
        "food": sorted(restaurants.FOODS), "name": sorted(restaurants.NAMES),
    }  # fmt: skip
    tokenizer = train_tokenizer(corpus.paragraphs("train"), 320)
    corpus.prepare(tokenizer)
    texts = corpus.splits["validation"]
    for text, (described, written) in zip(texts, corpus.pairs["validation"], strict=True):
        assert tokenizer.decode(text["tokens"], skip_special_tokens=True) == written
        told = dict(zip(corpus.attributes, text["told"].tolist(), strict=True))
        assert {name: corpus.attributes[name][number - 1] for name, number in told.items() if number} == described
    batch = next(iter(corpus.train_dataloader()))
    assert batch["told"].shape == (4, 4)


def test_other_attributes_make_another_corpus(folder):
    first = E2E("unused", dir=str(folder)).digest
    file = folder / "valid.txt"
    file.write_text(file.read_text(encoding="utf-8").replace("food : Italian", "food : Thai"), encoding="utf-8")
    assert E2E("unused", dir=str(folder)).digest != first


def test_what_cannot_be_read_is_one_line(folder, tmp_path):
    with pytest.raises(UserError, match=r"is not a folder; E2E is a file for each split"):
        _ = E2E("unused", dir=str(folder / "valid.txt")).pairs
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no train\.txt, valid\.txt or test\.txt"):
        _ = E2E("unused", dir=str(tmp_path / "empty")).pairs
    (folder / "test.txt").write_text("name : A||a\nno bars\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"test\.txt, line 2: not `attribute : value"):
        _ = E2E("unused", dir=str(folder)).pairs


def test_the_hubs_copy_is_the_published_one(hub):
    row = {
        "meaning_representation": ["name[The Mill], eatType[pub], customer rating[5 out of 5]"],
        "human_reference": ["Go."],
    }
    asked = hub({f"default/{split}/0000.parquet": row for split in ("train", "validation", "test")})
    pairs = E2E("unused").pairs
    assert pairs["test"] == [({"name": "The Mill", "type": "pub", "customer_rating": "5 out of 5"}, "Go.")]
    assert set(asked) == {("tuetschek/e2e_nlg", "dataset", "refs/convert/parquet", "*.parquet")}


@pytest.mark.parametrize(
    ("text", "name", "value", "said"),
    [
        ("Aromi serves Italian food .", "food", "Italian", True),
        ("Aromi serves food .", "food", "Italian", False),
        ("near Raja Indian Cuisine .", "food", "Indian", False),
        ("Indian food near Raja Indian Cuisine .", "food", "Indian", True),
        ("highly rated", "customer_rating", "high", False),
        ("north of the river", "family_friendly", "no", False),
        ("It is kid friendly .", "family_friendly", "yes", True),
        ("It is not really kid friendly .", "family_friendly", "yes", False),
        ("It is not really kid friendly .", "family_friendly", "no", True),
        ("It is n't for families .", "family_friendly", "no", True),
        ("It is kid friendly .", "family_friendly", "no", False),
        ("in the center of the city", "area", "city centre", True),
        ("by the river", "area", "riverside", True),
        ("Meals cost under £ 20 .", "price", "less than £ 20", True),
        ("between £ 20 and £ 25", "price", "£ 20 - 25", True),
        ("above £ 30", "price", "more than £ 30", True),
        ("a five star place", "customer_rating", "5 out of 5", True),
        ("a five star place", "customer_rating", "1 out of 5", False),
        ("1 of 5", "customer_rating", "1 out of 5", True),
    ],
)
def test_ways_of_saying_a_value(text, name, value, said):
    assert E2E("unused").says(text.lower(), name, value) is said
