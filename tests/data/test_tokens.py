"""What tokenizers make of texts: special tokens that are text, what is unknown, tokenizers that lack something."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from diffusion_text.data.base import SPLITS, TextDataModule
from diffusion_text.data.tokens import TextReader, pack, stream, token_ids
from diffusion_text.errors import UserError
from diffusion_text.models.tokenizers import SPECIAL_TOKENS, BytePairTokenizer, CharacterTokenizer, PretrainedTokenizer

MARKUP = "a <s>b</s> <pad><unk>, <mask>\n</s>. "


class Corpus(TextDataModule):
    """The same text in each split."""

    def __init__(self, text, *args, **settings):
        super().__init__(*args, **settings)
        self.text = text

    def lines(self, split):
        return self.text.splitlines(keepends=True)


def text_of(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True)


@pytest.fixture(params=["bpe", "characters", "pretrained"])
def markup_tokenizer(request, tmp_path):
    """Tokenizers of a corpus full of special tokens."""
    recipe = CharacterTokenizer() if request.param == "characters" else BytePairTokenizer(300)
    tokenizer = recipe.build(Corpus(MARKUP * 20, str(tmp_path)))
    if request.param != "pretrained":
        return tokenizer
    tokenizer.save_pretrained(tmp_path / "saved")
    return PretrainedTokenizer(str(tmp_path / "saved")).build(None)


def unigrams(**special):
    """A pretrained tokenizer whose special tokens are pieces of text to its model, as T5's are; it knows no `<`."""
    pieces = ["<unk>", "<pad>", "</s>", "▁a", "▁b", "▁", "s"]
    backend = Tokenizer(models.Unigram([(piece, -1.0 * (place > 2)) for place, piece in enumerate(pieces)], 0))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", **special)


# ---- special tokens


def test_special_tokens_in_a_text_are_text(markup_tokenizer):
    [ids] = token_ids(markup_tokenizer, [MARKUP], "text=")
    assert text_of(markup_tokenizer, ids) == MARKUP
    assert not set(ids) & set(markup_tokenizer.all_special_ids)


@pytest.mark.parametrize("special", SPECIAL_TOKENS.values())
def test_each_alone_is_text_too_after_saving_and_loading(markup_tokenizer, special, tmp_path):
    markup_tokenizer.save_pretrained(tmp_path / "again")
    for tokenizer in (markup_tokenizer, AutoTokenizer.from_pretrained(tmp_path / "again")):
        [ids] = token_ids(tokenizer, [special], "text=")
        assert text_of(tokenizer, ids) == special


@pytest.mark.parametrize("packing", ["paragraphs", "stream"])
def test_a_corpus_of_special_tokens_comes_back(markup_tokenizer, packing, tmp_path):
    text = (MARKUP * 20).strip()
    corpus = Corpus(text, str(tmp_path / "cache"), length=16, packing=packing)
    for split, texts in corpus.tokens(markup_tokenizer).items():
        assert "".join(text_of(markup_tokenizer, ids) for ids in texts["tokens"]) == text, split


def test_a_special_token_that_its_model_takes_for_text_is_unknown_and_said(caplog):
    tokenizer = unigrams(unk_token="<unk>")
    [ids] = token_ids(tokenizer, ["a </s> b"], "text=")
    assert [tokenizer.convert_ids_to_tokens(token) for token in ids] == ["▁a", "▁", "<unk>", "▁b"]
    assert caplog.messages == ["The tokenizer does not know '</s>': 1 in text= read as <unk>"]


@pytest.mark.parametrize("before", ["", "a b\n\n" * 400], ids=["at once", "later"])
def test_where_nothing_can_stand_for_it_it_is_refused(tmp_path, before):
    with pytest.raises(UserError, match=r"^the tokenizer \S* ?has no token for '</s>', nor one[^\n]*$"):
        Corpus(before + "a </s> b" * 50, str(tmp_path)).tokens(unigrams())


# ---- what is unknown


def test_unknown_characters_of_a_split_are_said_once(tmp_path, caplog):
    class Foreign(Corpus):
        def lines(self, split):
            return [self.text, "\n", "é東 é" if split == "validation" else "a"]

    corpus = Foreign("a b\n\n" * 80, str(tmp_path))
    tokenizer = CharacterTokenizer().build(corpus)
    corpus.prepare(tokenizer)
    corpus.prepare(tokenizer)
    assert caplog.messages == ["The tokenizer does not know 'é', '東': 3 in the validation split read as <unk>"]


def test_only_so_many_are_named(caplog):
    tokenizer = CharacterTokenizer().learn(["a"])
    token_ids(tokenizer, ["abcdefghijklmnop" * 2], "text=")
    named = ", ".join(map(repr, "bcdefghijk"))
    assert caplog.messages == [f"The tokenizer does not know {named}, …: 30 in text= read as <unk>"]


def test_what_makes_a_backend_fail_is_one_line():
    backend = Tokenizer(models.WordLevel({"a": 0}))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(UserError, match=r"cannot read 'a é': [^\n]+$"):
        TextReader(tokenizer).ids("a é")


# ---- tokenizers that lack something


@pytest.mark.parametrize("lacks", [("bos",), ("eos",), ("bos", "eos")], ids="+".join)
def test_a_text_has_the_ends_that_its_tokenizer_has(tokenizer, lacks, tmp_path):
    names = {f"{name}_token": token for name, token in SPECIAL_TOKENS.items() if name not in lacks}
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **names)
    start, end = [bare.bos_token_id] * ("bos" not in lacks), [bare.eos_token_id] * ("eos" not in lacks)
    words = token_ids(bare, ["river stone"], "text=")[0]
    assert list(pack(["river stone"], TextReader(bare), 40)) == [[*start, *words, *end]]
    assert {len(text) for text in pack(["river stone " * 50], TextReader(bare), 12)} >= {12}
    corpus = Corpus("river stone " * 30, str(tmp_path), length=12)
    assert corpus.wrap(words, bare) == [*start, *words, *end]
    assert len(corpus.wrap(words * 50, bare)) == 12
    corpus.prepare(bare)
    assert all(corpus.statistics["length_counts"][13:] == 0)


def test_one_that_differs_in_its_ends_alone_has_tokens_of_its_own(tokenizer, tmp_path):
    corpus = Corpus("river stone " * 30, str(tmp_path), length=12)
    first = corpus.tokens(tokenizer)["test"][0]["tokens"].tolist()
    names = {"bos_token": "<mask>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    other = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **names)
    assert corpus.tokens(other)["test"][0]["tokens"].tolist() == [other.bos_token_id, *first[1:]]


def test_its_tokens_are_found_again_by_one_that_was_saved(tokenizer, tmp_path):
    corpus = Corpus("river stone " * 30, str(tmp_path / "cache"), length=12)
    corpus.tokens(tokenizer)
    tokenizer.save_pretrained(tmp_path / "saved")
    first, again = corpus.directory, corpus.tokens(AutoTokenizer.from_pretrained(tmp_path / "saved"))
    assert corpus.directory == first
    assert set(again) == set(SPLITS)


def test_one_without_padding_is_refused_by_name(tokenizer, tmp_path):
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer).save_pretrained(tmp_path / "bare")
    bare = AutoTokenizer.from_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match=r"^the tokenizer \S+bare has no padding: [^\n]*$"):
        Corpus("river stone " * 30, str(tmp_path)).prepare(bare)


def test_one_without_a_fast_backend_is_refused_by_name(tmp_path):
    ByT5Tokenizer().save_pretrained(tmp_path / "byt5")
    corpus = Corpus("river stone " * 30, str(tmp_path))
    with pytest.raises(UserError, match=r"^the tokenizer \S+byt5 is a ByT5Tokenizer, of which [^\n]* fast [^\n]*$"):
        corpus.prepare(PretrainedTokenizer(str(tmp_path / "byt5")).build(corpus))


def test_one_that_makes_nothing_of_a_text_is_refused(tmp_path):
    backend = Tokenizer(models.BPE({"é": 0, "<pad>": 1}, []))  # without an unknown token, a BPE drops what it lacks
    mute = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")
    with pytest.raises(UserError, match=r"makes no token of the train split: choose another$"):
        Corpus("river stone " * 30, str(tmp_path)).prepare(mute)


@pytest.mark.parametrize("cut", [pack, stream])
def test_a_tokenizer_without_a_token_for_blank_lines_still_packs(cut):
    reader = TextReader(unigrams(unk_token="<unk>"))
    assert len(list(cut(["a", "b"], reader, 40))) == 1
