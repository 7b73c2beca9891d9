"""Latents of a corpus: the same in a batch wherever they are kept, and measured on the training split."""

import pickle
import shutil
from itertools import chain, islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_text.data import latents
from diffusion_text.data.latents import Latents, encode
from diffusion_text.data.statistics import LatentMoments
from diffusion_text.data.text_files import TextFiles
from diffusion_text.errors import UserError
from diffusion_text.failures.padding import PaddingCounted

KEPT = ("disk", "memory")


class TableEncoder:
    """Latents are rows of a table, one for two tokens, far off the scale on padding."""

    dim = 3

    def __init__(self, vocabulary, fingerprint="table"):
        self.table = torch.randn(vocabulary, self.dim, generator=torch.Generator().manual_seed(0))
        self.fingerprint, self.encoded = fingerprint, 0

    def latent_length(self, tokens):
        return -(-tokens // 2)

    def encode_raw(self, tokens, mask):
        self.encoded += len(tokens)
        return self.table[tokens].masked_fill(~mask[..., None], 1000.0)[:, ::2]


@pytest.fixture
def encoder(tokenizer):
    return TableEncoder(len(tokenizer))


@pytest.fixture
def prepared(words_file, tokenizer, encoder, tmp_path):
    """A function from where latents are kept, and settings, to the words with latents, 10 tokens a text."""

    def prepared(cache=None, **settings):
        settings = {"cache_dir": str(tmp_path / "cache"), "dir": str(words_file), "length": 10, **settings}
        data = TextFiles(batch_size=8, eval_texts=12, **settings)
        data.prepare(tokenizer, encoder, cache)
        return data

    return prepared


# ---- batches


@pytest.mark.parametrize("cache", KEPT)
def test_batches_bring_each_texts_latents_beside_its_tokens(prepared, encoder, cache):
    data = prepared(cache)
    loaders = data.train_dataloader(), data.val_dataloader(), [data.batch("validation", 3)]
    lengths = set()
    for batch in chain(*loaders):
        tokens, mask, found, real = (batch[name] for name in ("tokens", "mask", "latents", "latent_mask"))
        assert found.dtype == torch.float16
        assert torch.equal(real, mask[:, ::2])
        assert torch.equal(found[real], encoder.table[tokens[:, ::2][real]].half())
        assert (found[~real] == 0).all()
        lengths |= set(real.sum(1).tolist())
    assert len(lengths) > 1, "without texts of different lengths there is no padding to leak"


def test_in_memory_they_are_what_they_are_on_the_disk(prepared):
    disk, memory = (prepared(cache) for cache in KEPT)
    for split in disk.splits:
        assert np.array_equal(disk.store.splits[split].array, memory.store.splits[split].array)
    torch.testing.assert_close(disk.statistics, memory.statistics, rtol=0, atol=0)


def test_where_none_are_kept_batches_bring_texts_alone(prepared, encoder):
    [batch] = islice(prepared("none").train_dataloader(), 1)
    assert batch.keys() == {"tokens", "mask"}


def test_workers_bring_the_same(prepared):
    alone, shared = (
        [batch["latents"] for batch in prepared("disk", num_workers=workers).val_dataloader()] for workers in (0, 2)
    )
    assert len(alone) > 1
    assert all(map(torch.equal, alone, shared))


@pytest.mark.parametrize("cache", KEPT)
def test_other_processes_get_the_place_and_not_a_copy(prepared, cache):
    kept = prepared(cache).store.splits["train"].at([5, 0, 3])
    packed = pickle.dumps(kept)
    again = pickle.loads(packed)
    assert torch.equal(again.batch([0, 2])["latents"], kept.batch([0, 2])["latents"])
    assert isinstance(again.array, np.memmap) == (cache == "disk")
    if cache == "disk":
        assert len(packed) < kept.array.nbytes


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.data())
def test_any_texts_are_padded_as_one_by_one(lengths, data):
    rows = np.arange(2 * sum(lengths), dtype=np.float16).reshape(-1, 2)
    kept = Latents(rows, np.array(lengths))
    each = np.split(rows, np.cumsum(lengths)[:-1])
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=5))
    found = kept.batch(chosen)
    expected = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(each[i]) for i in chosen], batch_first=True)
    assert torch.equal(found["latents"], expected)
    assert found["latent_mask"].sum(1).tolist() == [lengths[i] for i in chosen]
    assert torch.equal(kept.at(chosen).batch(range(len(chosen)))["latents"], expected)


# ---- where they are kept


def test_they_are_encoded_once_on_the_disk_and_at_each_start_in_memory(prepared, encoder):
    prepared("disk")
    once = encoder.encoded
    prepared("disk")
    assert encoder.encoded == once == sum(map(len, prepared("disk").splits.values()))
    prepared("memory")
    prepared("memory")
    assert encoder.encoded == 3 * once


def test_another_encoder_or_length_encodes_anew(prepared, encoder, tokenizer):
    files = {prepared("disk").store.splits["train"].array.filename}
    encoder.fingerprint = "another table"
    files |= {prepared("disk").store.splits["train"].array.filename}
    files |= {prepared("disk", length=9).store.splits["train"].array.filename}
    assert len(files) == 3


def test_their_size_says_where_and_that_is_told(prepared, monkeypatch):
    data = prepared()
    size = sum(latents.array.nbytes for latents in data.store.splits.values())
    assert data.store.about == f"{size / 1e6:,.0f} MB on the disk"
    monkeypatch.setattr(latents, "MOST", size)
    assert prepared().store.splits
    monkeypatch.setattr(latents, "MOST", size - 1)
    assert prepared().store.about == f"encoded in the step, {size / 1e6:,.0f} MB of them in all"
    assert prepared("memory").store.about == f"{size / 1e6:,.0f} MB in memory"


def test_what_has_no_room_is_refused_before_it_is_encoded(prepared, encoder, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"^the latents in .* take up to .* MB and its disk has 0.0 MB free: .*=none$"):
        prepared("disk")
    monkeypatch.setattr("os.sysconf", lambda name: 10)
    with pytest.raises(UserError, match=r"^the latents take 0 MB of memory, .* has 0 MB: .*text_space.cache=none$"):
        prepared("memory")
    assert not encoder.encoded


def test_a_stream_keeps_none(prepared):
    data = prepared(streaming=True)
    assert data.store.about == "encoded in the step"
    assert not data.store.splits
    assert data.statistics["covariance"].shape == (3, 3)


# ---- statistics


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=4))
def test_moments_are_those_of_the_positions_laid_end_to_end(lengths):
    draw = np.random.default_rng(0)
    batches = [draw.normal(5.0, 2.0, (sum(batch), 3)).astype(np.float16) for batch in lengths]
    moments = LatentMoments(3, 9)
    for batch, counted in zip(batches, lengths, strict=True):
        moments.add(batch)
        moments.count(np.array(counted))
    everything = np.concatenate(batches).astype(np.float64)
    found = moments.statistics()
    np.testing.assert_allclose(found["mean"], everything.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["covariance"], np.cov(everything.T, bias=True), atol=1e-9)
    assert found["length_counts"].tolist() == np.bincount([*chain(*lengths)], minlength=10).tolist()


def real(data, encoder, texts):
    """Latents of so many texts from all over the training split, one after the other, in float64."""
    tokens = [text["tokens"].long()[::2] for text in data.batches("train", texts).texts]
    return encoder.table[torch.cat(tokens)].half().double()


@pytest.mark.parametrize(("cache", "texts"), [("disk", None), ("memory", None), ("none", 20)])
def test_statistics_are_of_the_training_splits_real_positions(prepared, encoder, monkeypatch, cache, texts):
    monkeypatch.setattr(latents, "MEASURED", 20)
    data = prepared(cache)
    expected = real(data, encoder, texts)
    torch.testing.assert_close(data.statistics["mean"], expected.mean(0))
    torch.testing.assert_close(data.statistics["covariance"], torch.cov(expected.T, correction=0))
    lengths = [encoder.latent_length(len(text["tokens"])) for text in data.splits["train"]]
    assert data.statistics["length_counts"].tolist() == np.bincount(lengths, minlength=11).tolist()


def test_texts_are_encoded_in_order_whatever_is_encoded_at_once(prepared, encoder, monkeypatch):
    data = prepared("none")
    texts = data.splits["validation"]
    whole = np.concatenate([*encode(texts, encoder, data.pad_token_id, "all")])
    monkeypatch.setattr(latents, "TOGETHER", 3)
    parts = [*encode(texts, encoder, data.pad_token_id, "all")]
    assert len(parts) == -(-len(texts) // 3)
    assert np.array_equal(np.concatenate(parts), whole)


# ---- a failure that pads them


def test_padding_that_is_counted_needs_latents_that_are_kept(tokenizer, encoder, tmp_path, words_file, monkeypatch):
    monkeypatch.setattr(PaddingCounted, "lines", lambda self, split: words_file.read_text().splitlines(keepends=True))
    data = PaddingCounted(16, cache_dir=str(tmp_path), length=10)
    data.prepare(tokenizer, encoder, "memory")
    batch = data.batch("validation", 5)
    assert batch["latents"].shape == (5, 16, 3)
    assert batch["latent_mask"].all()
    assert data.statistics["length_counts"].tolist() == [0] * 16 + [len(data.splits["train"])]
    kept = data.store.splits["train"].latents.array
    torch.testing.assert_close(
        data.statistics["mean"], torch.from_numpy(kept.astype(np.float64).sum(0)) / (16 * len(data.splits["train"]))
    )
    with pytest.raises(UserError, match=r"leave out text_space.cache=none"):
        data.prepare(tokenizer, encoder, "none")
