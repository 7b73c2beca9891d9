"""The field's corpora, from copies in the layout that the hub has them in."""

import datasets
import pytest

from diffusion_text.data import files
from diffusion_text.data.base import SPLITS
from diffusion_text.data.detokenising import LM1B as LM1B_RULES
from diffusion_text.data.detokenising import WIKITEXT, detokenised
from diffusion_text.data.published import LM1B, AGNews, FineWebEdu, OpenWebText, ROCStories
from diffusion_text.data.text8 import Text8
from diffusion_text.data.wikitext import WikiText2, WikiText103
from diffusion_text.errors import UserError

TRAIN = [f"Text {number} of those to train on." for number in range(300)]
TEST = [f"Text {number} of those to test on." for number in range(100)]


def copy(folder, **tables):
    """A folder of parquet files, whose groups have 40 rows."""
    for name, columns in tables.items():
        file = folder / f"{name.replace('__', '/')}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(columns).to_parquet(file, batch_size=40)
    return str(folder)


def texts(corpus):
    return {split: list(corpus.paragraphs(split)) for split in SPLITS}


def halves(texts):
    return texts[: len(texts) // 2], texts[len(texts) // 2 :]


# ---- splits


@pytest.mark.parametrize("inner", ["plain_text__", ""], ids=["as on the hub", "its inner folder"])
def test_openwebtexts_last_pages_are_kept(tmp_path, inner):
    parts = {f"{inner}train-0000{n}-of-00003": {"text": TRAIN[100 * n : 100 * n + 100]} for n in range(3)}
    found = texts(OpenWebText("unused", dir=copy(tmp_path, **parts), held_out=130))
    assert found["train"] == TRAIN[:170]
    assert [found["validation"], found["test"]] == [TRAIN[170:235], TRAIN[235:]]


def test_fineweb_edus_last_pages_are_kept(tmp_path):
    parts = {f"sample__10BT__00{n}_00000": {"text": TRAIN[150 * n : 150 * n + 150], "score": [0] * 150} for n in (0, 1)}
    found = texts(FineWebEdu("unused", dir=copy(tmp_path, **parts), held_out=100))
    assert found == {"train": TRAIN[:200], "validation": TRAIN[200:250], "test": TRAIN[250:]}


def test_lm1bs_test_split_is_parted(tmp_path):
    tables = {"default__train__0000": {"text": TRAIN}, "default__test__0000": {"text": TEST}}
    found = texts(LM1B("unused", dir=copy(tmp_path, **tables)))
    assert found == {"train": TRAIN, "validation": TEST[:50], "test": TEST[50:]}


@pytest.mark.parametrize("corpus", [ROCStories, AGNews])
def test_the_last_training_texts_validate(tmp_path, corpus):
    tables = {
        "data__train-00000-of-00001": {"text": TRAIN, "label": [n % 4 for n in range(300)]},
        "data__test-00000-of-00001": {"text": TEST, "label": [0] * 100},
    }
    found = texts(corpus("unused", dir=copy(tmp_path, **tables), held_out=50))
    assert found == {"train": TRAIN[:250], "validation": TRAIN[250:], "test": TEST}


def test_of_news_the_topic_is_known(tmp_path):
    labels = {"text": TRAIN, "label": [n % 4 for n in range(300)]}
    folder = copy(tmp_path, train={**labels}, test={"text": TEST, "label": [3] * 100})
    corpus = AGNews("unused", dir=folder, held_out=50, label="topic")
    assert corpus.tells == "attributes"
    assert corpus.attributes == {"topic": ["Business", "Sci/Tech", "Sports", "World"]}
    assert list(corpus.described("train"))[:2] == [({"topic": "World"}, TRAIN[0]), ({"topic": "Sports"}, TRAIN[1])]
    assert [text for _, text in corpus.described("validation")] == TRAIN[250:]
    assert {known["topic"] for known, _ in corpus.described("test")} == {"Sci/Tech"}


def test_wikitext103_has_the_splits_of_its_files(tmp_path):
    lines = {"train": ["", " = A = \n", " one @-@ two \n"], "validation": [" three \n"], "test": [" four \n"]}
    tables = {f"wikitext-103-raw-v1__{split}-00000-of-00001": {"text": rows} for split, rows in lines.items()}
    folder = copy(tmp_path, **tables, **{"wikitext-2-raw-v1__train-00000-of-00001": {"text": ["other"]}})
    assert texts(WikiText103("unused", dir=folder))["train"] == ["= A =\none @-@ two"]
    assert texts(WikiText103("unused", dir=folder, detokenise=True)) == {
        "train": ["= A =\none-two"], "validation": ["three"], "test": ["four"],
    }  # fmt: skip


def test_a_copy_of_wikitext_in_text_files_is_detokenised_too(tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"wiki.{split}.raw").write_text(f" {split} , one @,@ two \n", encoding="utf-8")
    found = texts(WikiText2("unused", dir=str(tmp_path), detokenise=True))
    assert found == {"train": ["train, one,two"], "validation": ["valid, one,two"], "test": ["test, one,two"]}


# ---- text8


TEXT = "".join(chr(97 + n * n % 26) if n % 5 else " " for n in range(40_000))


@pytest.mark.parametrize("where", ["text8", "."], ids=["the file", "its folder"])
@pytest.mark.parametrize("stretch", [16_000_000, 12_000])
def test_text8_is_split_by_characters_and_nothing_is_put_between(tmp_path, monkeypatch, where, stretch):
    monkeypatch.setattr("diffusion_text.data.text8.STRETCH", stretch)
    monkeypatch.setattr(files, "STRETCH", stretch)
    (tmp_path / "text8").write_text(TEXT, encoding="utf-8")
    corpus = Text8("unused", dir=str(tmp_path / where))
    found = {split: "".join(corpus.paragraphs(split)) for split in SPLITS}
    assert found == {"train": TEXT[:36_000], "validation": TEXT[36_000:38_000], "test": TEXT[38_000:]}


def test_what_is_tokenised_of_text8_is_its_characters(tmp_path):
    from diffusion_text.models.tokenizers import CharacterTokenizer

    (tmp_path / "text8").write_text(TEXT, encoding="utf-8")
    corpus = Text8(str(tmp_path / "cache"), dir=str(tmp_path), packing="stream", length=64)
    tokenizer = CharacterTokenizer().build(corpus)
    assert "".join(tokenizer.batch_decode(list(corpus.tokens(tokenizer)["train"]["tokens"]))) == TEXT[:36_000]


@pytest.mark.parametrize("splits", [("train", "validation", "test"), ("train",)])
def test_the_hubs_text8_is_split_alike_whatever_its_splits(hub, tmp_path, splits):
    cut = {"train": TEXT[:36_000], "validation": TEXT[36_000:38_000], "test": TEXT[38_000:]}
    parts = cut if len(splits) == 3 else {"train": TEXT}
    asked = hub({f"data/{split}-00000-of-00001.parquet": {"text": [parts[split]]} for split in splits})
    corpus = Text8(str(tmp_path / "cache"))
    assert "".join(corpus.paragraphs("test")) == TEXT[38_000:]
    assert set(asked) == {("afmck/text8", "dataset", None, "*.parquet")}
    asked.clear()
    assert "".join(Text8(str(tmp_path / "cache")).paragraphs("validation")) == TEXT[36_000:38_000]
    assert not asked, "it is downloaded once"


# ---- words and marks


@pytest.mark.parametrize(
    ("tokenised", "written"),
    [
        ("He said : no , never .", "He said: no, never."),
        ("It 's John 's , is n't it ?", "It's John's, is n't it?"),
        ('" Go " ( now ) costs $ 5 / £ 3 !', '"Go" (now) costs $5/£3!'),
        ("See http : / / a.org [ here ]", "See http://a.org [here]"),
    ],
)
def test_sentences_of_lm1b_as_people_write_them(tokenised, written):
    assert detokenised(tokenised, LM1B_RULES) == written


@pytest.mark.parametrize(
    ("tokenised", "written"),
    [
        (" = = Early life = = \n", " == Early life ==\n"),
        ('the 10 @,@ 000 @-@ year @.@ old ( one ) , " two "', 'the 10,000-year.old (one), "two"'),
        ("the boys ' dog", "the boys' dog"),
        ("40 ° C , the dog 's", "40°C, the dog's"),
    ],
)
def test_lines_of_wikitext_as_people_write_them(tokenised, written):
    assert detokenised(tokenised, WIKITEXT) == written


# ---- the hub, and what is not there


@pytest.mark.parametrize(
    ("corpus", "names", "revision", "asked"),
    [
        (OpenWebText, ["plain_text/train-0"], None, "plain_text/*"),
        (FineWebEdu, ["sample/10BT/0"], None, "sample/10BT/*"),
        (LM1B, ["default/train/0", "default/test/0"], "refs/convert/parquet", "*"),
        (AGNews, ["data/train-0", "data/test-0"], None, "*"),
        (ROCStories, ["data/train-0", "data/test-0"], None, "*"),
        (WikiText103, [f"wikitext-103-raw-v1/{split}-0" for split in SPLITS], None, "wikitext-103-raw-v1/*"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_the_hub_is_asked_for(hub, corpus, names, revision, asked):
    said = hub({f"{name}.parquet": {"text": TRAIN} for name in names})
    settings = {"held_out": 100} if "held_out" in corpus.telling else {}
    assert all(texts(corpus("unused", **settings)).values())
    assert set(said) == {(corpus.repository, "dataset", revision, f"{asked}.parquet")}


@pytest.mark.usefixtures("unreachable_hub")
@pytest.mark.parametrize("corpus", [OpenWebText, FineWebEdu, LM1B, ROCStories, AGNews, WikiText103, Text8])
def test_an_unreachable_hub_names_both_ways_out(tmp_path, corpus):
    with pytest.raises(UserError, match=r"^\S+ is not to be had \(the Hugging Face hub cannot be reached\)[^\n]*$"):
        _ = corpus(str(tmp_path)).digest


def test_a_copy_without_a_splits_files_is_refused(tmp_path):
    folder = copy(tmp_path, train={"text": TRAIN})
    with pytest.raises(UserError, match=rf"^{folder} has no .parquet file with 'test' in its path$"):
        _ = LM1B("unused", dir=folder).digest
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"is not a folder; data=lm1b is several files$"):
        _ = LM1B("unused", dir=str(tmp_path / "file")).digest


def test_a_copy_with_other_columns_is_refused(tmp_path):
    folder = copy(tmp_path, train={"body": TRAIN}, test={"body": TEST})
    with pytest.raises(UserError, match=r"train.parquet has no column 'text', only body"):
        _ = LM1B("unused", dir=folder).digest


def test_a_broken_file_is_one_line(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"^cannot read \S+train.parquet: [^\n]+$"):
        _ = OpenWebText("unused", dir=str(tmp_path)).digest
