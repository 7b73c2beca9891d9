import pytest

from diffusion_text.data.text_files import TextFiles
from diffusion_text.errors import UserError
from diffusion_text.models import tokenizers
from diffusion_text.models.tokenizers import BytePairTokenizer, CharacterTokenizer, PretrainedTokenizer, written


@pytest.fixture(scope="module")
def data(words_file, tmp_path_factory):
    return TextFiles(str(tmp_path_factory.mktemp("cache")), length=12, dir=str(words_file))


def round_trip(tokenizer, text):
    return tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids, skip_special_tokens=True)


@pytest.mark.parametrize("recipe", [BytePairTokenizer(320), CharacterTokenizer()])
@pytest.mark.parametrize("text", ["apple river", " stone\n\ncloud  light ", "table."[:-1]])
def test_texts_come_back_to_the_letter(data, recipe, text):
    assert round_trip(recipe.build(data), text) == text


def test_a_character_is_a_token(data):
    tokenizer = CharacterTokenizer().build(data)
    characters = set((data.dir).read_text(encoding="utf-8")) | {"\n"}
    assert len(tokenizer) == len(characters) + 5
    assert len(tokenizer("apple river", add_special_tokens=False).input_ids) == 11


def test_an_unknown_character_is_said_to_be_one(data):
    tokenizer = CharacterTokenizer().build(data)
    assert tokenizer("é", add_special_tokens=False).input_ids == [tokenizer.unk_token_id]


@pytest.mark.parametrize("recipe", [BytePairTokenizer(320), CharacterTokenizer()])
def test_learned_once_then_cached(data, recipe, monkeypatch):
    first = recipe.build(data)
    monkeypatch.setattr(type(recipe), "learn", None)
    assert recipe.build(data).get_vocab() == first.get_vocab()


def test_another_size_is_another_tokenizer(data):
    assert len(BytePairTokenizer(310).build(data)) < len(BytePairTokenizer(320).build(data))


def test_a_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(ValueError, match="at least 300"):
        BytePairTokenizer(200)


def test_a_pretrained_one_is_taken_from_its_directory(data, bart_directory, tokenizer):
    assert PretrainedTokenizer(str(bart_directory)).build(data).get_vocab() == tokenizer.get_vocab()


def test_one_without_padding_gets_some(data, tokenizer, tmp_path):
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer).save_pretrained(tmp_path / "bare")
    assert PretrainedTokenizer(str(tmp_path / "bare")).build(data).pad_token_id is not None


def test_padding_adds_no_token_where_texts_have_an_end(data, tokenizer, tmp_path):
    from transformers import PreTrainedTokenizerFast

    like_gpt2 = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    like_gpt2.save_pretrained(tmp_path / "gpt2")
    built = PretrainedTokenizer(str(tmp_path / "gpt2")).build(data)
    assert (len(built), built.pad_token_id) == (len(like_gpt2), like_gpt2.eos_token_id)


def test_what_is_no_tokenizer_is_refused_in_one_line(data, tmp_path):
    with pytest.raises(UserError, match=r"^tokenizer\.pretrained=\S+ is not a model directory[^\n]*json$"):
        PretrainedTokenizer(str(tmp_path)).build(data)


def test_one_that_brings_code_is_refused_without_asking(data, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks whether to run the code"))
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["own.Own", null]}}')
    (tmp_path / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(UserError, match=r"^[^\n]*custom code[^\n]*tokenizer=bpe$"):
        PretrainedTokenizer(str(tmp_path)).build(data)


def test_one_that_needs_a_library_is_refused_in_one_line(data, tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ImportError("You need to install sacremoses\nto use XLMTokenizer")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", missing)
    (tmp_path / "tokenizer_config.json").touch()
    with pytest.raises(UserError, match=r"^[^\n]*install sacremoses[^\n]*tokenizer=bpe$"):
        PretrainedTokenizer(str(tmp_path)).build(data)


@pytest.mark.usefixtures("unreachable_hub")
def test_an_unreachable_hub_names_both_ways_out(data):
    with pytest.raises(UserError, match=r"^[^\n]*cannot be reached[^\n]*tokenizer\.pretrained=DIR[^\n]*tokenizer=bpe$"):
        PretrainedTokenizer("gpt2").build(data)


def test_tokens_as_they_read(data):
    tokenizer = CharacterTokenizer().build(data)
    tokens = written(tokenizer)
    assert tokens[: len(tokenizers.SPECIAL_TOKENS)] == [""] * 5
    assert set(tokens[5:]) == {token for token in tokenizer.get_vocab() if len(token) == 1}
