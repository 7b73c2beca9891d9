import pytest
import torch
from safetensors.torch import save_file

from diffusion_text.data.text_files import TextFiles
from diffusion_text.errors import UserError
from diffusion_text.models.space_recipes import BartPretrained, LearnedSpace
from diffusion_text.models.tokenizers import BytePairTokenizer, train_tokenizer
from diffusion_text.models.trained_spaces import BartMini, BartVAE

SMALL = {"dim": 16, "layers": 1, "heads": 2, "vocab_size": 320, "max_length": 32, "max_steps": 3}


@pytest.fixture(scope="module")
def data(words_file, tmp_path_factory):
    return TextFiles(str(tmp_path_factory.mktemp("cache")), length=12, dir=str(words_file))


def build_anew(self, data, directory):
    raise RuntimeError("pretraining again")


def test_pretrained_once_then_cached(data, monkeypatch):
    first = BartMini(**SMALL).build(data)
    assert first.dim == 16
    assert first.frozen.module.bart.config.encoder_layers == first.frozen.module.bart.config.decoder_layers == 1
    assert len(first.tokenizer) <= 320
    monkeypatch.setattr(BartMini, "train", build_anew)
    assert BartMini(**SMALL).build(data).fingerprint == first.fingerprint


@pytest.mark.parametrize("change", [{"max_steps": 4}, {"seed": 1}, {"mask_probability": 0.2}, {"dim": 32}])
def test_another_setting_pretrains_anew(data, monkeypatch, change):
    BartMini(**SMALL).build(data)
    monkeypatch.setattr(BartMini, "train", build_anew)
    with pytest.raises(RuntimeError, match="pretraining again"):
        BartMini(**SMALL | change).build(data)


def test_another_corpus_pretrains_anew(data, words_file, monkeypatch, tmp_path):
    BartMini(**SMALL).build(data)
    monkeypatch.setattr(BartMini, "train", build_anew)
    changed = tmp_path / "changed.txt"
    changed.write_text(words_file.read_text(encoding="utf-8").replace("apple", "pear"), encoding="utf-8")
    with pytest.raises(RuntimeError, match="pretraining again"):
        BartMini(**SMALL).build(TextFiles(data.cache_dir, length=12, dir=str(changed)))


def test_pretraining_repeats_and_leaves_the_random_state_alone(data, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    fingerprints = set()
    for cache, seed in ((tmp_path / "a", 5), (tmp_path / "b", 6)):
        torch.manual_seed(seed)
        elsewhere = TextFiles(str(cache), length=12, dir=str(data.dir))
        fingerprints.add(BartMini(**SMALL).build(elsewhere).fingerprint)
        if seed == 5:
            assert torch.equal(torch.rand(3), expected)
    assert len(fingerprints) == 1


def test_pretraining_learns_to_reconstruct(data):
    space = BartMini(**SMALL | {"dim": 32, "max_steps": 150, "learning_rate": 5e-3}).build(data)
    data.prepare(space.tokenizer)
    batch = next(iter(data.val_dataloader()))
    labels = batch["tokens"].masked_fill(~batch["mask"], -100)
    with torch.no_grad():
        loss = space.frozen.module.bart(batch["tokens"], attention_mask=batch["mask"], labels=labels).loss
    frequencies = torch.bincount(labels[labels >= 0]).double()
    unigram = torch.distributions.Categorical(frequencies).entropy()
    assert loss < 0.75 * unigram, "no better than knowing how frequent each token is"


@pytest.mark.parametrize(
    ("change", "says"),
    [({"dim": 30, "heads": 4}, r"text_space\.dim=30 .*text_space\.heads=4"), ({"vocab_size": 100}, "at least 300")],
)
def test_settings_that_cannot_be_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        BartMini(**change)


def test_a_recipe_knows_its_width_and_positions_before_it_is_built(bart_directory):
    mini = BartMini(dim=24, heads=2, max_length=77)
    assert (mini.dim, mini.max_length) == (24, 77)
    pretrained = BartPretrained(str(bart_directory))
    assert (pretrained.dim, pretrained.max_length) == (16, 40)


def test_a_pretrained_bart_is_loaded_as_it_is(bart_directory, data):
    recipe = BartPretrained(str(bart_directory))
    space = recipe.build(data)
    assert (space.dim, space.max_length) == (recipe.dim, recipe.max_length)


def test_a_pretrained_bart_that_is_not_there_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="is not a model directory"):
        _ = BartPretrained(str(tmp_path / "nothing")).dim


def test_a_vae_is_trained_on_its_backbone_once_and_then_cached(data, monkeypatch):
    def make(**changes):
        return BartVAE(BartMini(**SMALL), **{"dim": 6, "compression": 2, "max_steps": 2, "batch_size": 4} | changes)

    space = make().build(data)
    assert (space.dim, space.compression) == (6, 2)
    monkeypatch.setattr(BartVAE, "train", build_anew)
    assert make().build(data).fingerprint == space.fingerprint
    for change in ({"kl_weight": 0.5}, {"compression": 1}, {"seed": 1}):
        with pytest.raises(RuntimeError, match="pretraining again"):
            make(**change).build(data)


def test_a_vae_encodes_a_corpus(data):
    space = BartVAE(BartMini(**SMALL), dim=6, compression=2, max_steps=2).build(data)
    data.prepare(space.tokenizer, space)
    batch = next(iter(data.val_dataloader()))
    assert batch["latents"].shape == (*batch["latent_mask"].shape, 6)
    assert torch.equal(batch["latent_mask"], space.latent_mask(batch["mask"]))
    assert data.statistics["mean"].shape == (6,)
    assert len(data.statistics["length_counts"].nonzero()) > 0


def test_a_vae_of_a_vae_is_refused(data, tmp_path):
    inner = BartVAE(BartMini(**SMALL), dim=6, max_steps=1)
    with pytest.raises(ValueError, match="bottleneck already"):
        BartVAE(inner, dim=4, max_steps=1).build(data)


def test_any_utf_8_survives_the_tokenizer(words_file):
    tokenizer = train_tokenizer([words_file.read_text(encoding="utf-8")], 320)
    text = "Grüße, 東京 🙂\n\ttab  two spaces ."
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len({*tokenizer.all_special_ids} & {*ids}) == 0
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2, 3, 4]


# ---- learned embeddings


def learned(**settings):
    return LearnedSpace(**{"tokenizer": BytePairTokenizer(320), "dim": 8} | settings)


def test_a_learned_space_has_a_row_for_each_token_of_its_tokenizer(data):
    space = learned(rounding="cosine", std=0.02, normalise=False).build(data)
    assert space.embedding.table.shape == (len(space.tokenizer), 8)
    assert space.embedding.table.std() < 0.03
    assert space.rounding == "cosine"


def test_a_learned_space_comes_back_with_its_tokenizer(data, tmp_path):
    space = learned().build(data)
    space.save(tmp_path / "space")
    again = learned(pretrained_embeddings=str(tmp_path / "gone")).load(tmp_path / "space")
    assert again.tokenizer.get_vocab() == space.tokenizer.get_vocab()
    assert again.tokenizer.pad_token_id == space.tokenizer.pad_token_id
    text = "apple  river\n\nstone"
    assert again.tokenizer(text).input_ids == space.tokenizer(text).input_ids
    again.load_state_dict(space.state_dict())
    assert torch.equal(again.embedding.table, space.embedding.table)


def test_a_learned_space_starts_from_the_rows_of_a_file(data, tmp_path):
    rows = torch.randn(len(BytePairTokenizer(320).build(data)), 8)
    save_file({"embeddings": rows, "other.weight": torch.zeros(3, 3)}, tmp_path / "rows.safetensors")
    recipe = learned(pretrained_embeddings=str(tmp_path / "rows.safetensors"), std=None, normalise=False)
    assert torch.equal(recipe.build(data).embedding.rows, rows)


def test_rows_of_another_tokenizer_are_one_line(data, tmp_path):
    save_file({"embeddings": torch.randn(7, 8)}, tmp_path / "rows.safetensors")
    with pytest.raises(UserError, match=r"^text_space\.pretrained_embeddings have 7 rows and the tokenizer \d+ "):
        learned(pretrained_embeddings=str(tmp_path / "rows.safetensors")).build(data)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dim": 0}, r"text_space\.dim=0 "),
        ({"std": 0.0}, r"text_space\.std=0\.0 "),
        ({"rounding": "nearset"}, r"text_space\.rounding=nearset "),
    ],
)
def test_learned_settings_that_cannot_be_are_refused_before_data_is_touched(change, says):
    with pytest.raises(ValueError, match=says):
        learned(**change)
