"""Texts as they come: every one once an epoch, in an order that goes on exactly where it was."""

from collections import Counter
from itertools import islice, takewhile
from types import SimpleNamespace

import pytest
import torch

from diffusion_text.data import files, streaming
from diffusion_text.data.base import SPLITS
from diffusion_text.data.published import OpenWebText
from diffusion_text.data.streaming import Place, Stream, portions
from diffusion_text.data.text_files import TextFiles
from diffusion_text.data.tokens import TextReader
from diffusion_text.errors import UserError

STEPS = 40
START = Place()


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Stretches and portions of some texts."""
    monkeypatch.setattr(files, "STRETCH", 2_000)
    monkeypatch.setattr(streaming, "PORTION", 500)


@pytest.fixture
def stream(words_file, tokenizer, tmp_path):
    """A function from settings to the words as a stream, of which a step takes three batches of four texts."""

    def stream(step=0, state=None, ranks=(1, 0), **settings):
        data = TextFiles(
            str(tmp_path), dir=str(words_file), length=12, batch_size=4, streaming=True, buffer=20, **settings
        )
        data.prepare(tokenizer)
        data.trainer = SimpleNamespace(
            max_steps=STEPS, accumulate_grad_batches=3, global_step=step, world_size=ranks[0], global_rank=ranks[1]
        )
        if state is not None:
            data.load_state_dict(state)
        return data

    return stream


def taken(data, batches):
    """The texts of so many batches."""
    found = islice(data.train_dataloader(), batches)
    return [tuple(ids[real].tolist()) for batch in found for ids, real in zip(*batch.values(), strict=True)]


def read(data, reader=0, readers=1, place=START):
    """The texts that one of several readers comes to, each with where it lies, before they are shuffled."""
    source = Stream(data, 4, [START] * readers, 0, 1, 0, 1)
    return ((where, tuple(text.tolist())) for where, text in source.texts(place, reader))


def epoch(data, number=0, **which):
    """The texts that it comes to in an epoch."""
    found = takewhile(lambda text: text[0].epoch <= number, read(data, **which))
    return [text for where, text in found if where.epoch == number]


# ---- order


def test_an_epoch_has_every_text_once_and_the_next_has_them_in_another_order(stream):
    data = stream()
    reader = TextReader(data.tokenizer)
    everything = [
        tuple(text)
        for stretch in data.stretches("train")
        for portion in portions(data.paragraphs_of("train", stretch))
        for text in data.packed(portion, reader)
    ]
    assert len(data.stretches("train")) > 3
    assert len(set(everything)) == len(everything) > 300
    first, second = epoch(data), epoch(data, 1)
    assert sorted(first) == sorted(second) == sorted(everything)
    assert first != second


def test_texts_are_shuffled_within_blocks_and_none_is_lost(stream):
    data = stream()
    whole, shuffled = epoch(data), taken(data, 20)
    for block in range(0, 80, 20):
        assert Counter(shuffled[block : block + 20]) == Counter(whole[block : block + 20])
        assert shuffled[block : block + 20] != whole[block : block + 20]


def test_the_seed_makes_the_order(stream):
    assert taken(stream(seed=1), 10) == taken(stream(seed=1), 10) != taken(stream(seed=2), 10)


@pytest.mark.parametrize("stretch", [2_000, 10**6], ids=["many stretches", "one stretch"])
@pytest.mark.parametrize("readers", [2, 3])
def test_readers_share_an_epoch(stream, monkeypatch, stretch, readers):
    monkeypatch.setattr(files, "STRETCH", stretch)
    parts = [epoch(stream(), reader=reader, readers=readers) for reader in range(readers)]
    assert sorted(text for part in parts for text in part) == sorted(epoch(stream()))
    assert min(map(len, parts)) > 50


def test_each_process_has_its_own_readers(stream):
    first, second = (set(taken(stream(ranks=(2, rank)), 10)) for rank in (0, 1))
    assert not first & second


def test_a_step_has_the_texts_that_are_given_globally(stream):
    data = stream(ranks=(2, 0), global_batch_size=18)
    assert {len(batch["tokens"]) for batch in islice(data.train_dataloader(), 9)} == {3}
    with pytest.raises(UserError, match="global_batch_size=16 is not shared evenly by the 6 batches of a step"):
        stream(ranks=(2, 0), global_batch_size=16).train_dataloader()


# ---- going on


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("step", [1, 7, 19])
def test_a_stream_goes_on_exactly_where_it_was(stream, workers, step):
    """From each of several places, in the middle of blocks and of turns, with one batch more fetched than made."""
    data = stream(num_workers=workers)
    whole = taken(stream(num_workers=workers), 3 * STEPS)
    list(islice(data.train_dataloader(), 3 * step + 1))
    data.trainer.global_step = step
    again = stream(step, data.state_dict(), num_workers=workers)
    assert taken(again, 3 * (STEPS - step)) == whole[12 * step :]


def test_a_stream_goes_on_in_a_later_epoch(stream):
    data = stream()
    whole = list(islice(read(data), 1_000))
    assert whole[899][0].epoch > 0
    assert list(islice(read(data, place=whole[899][0]), 101)) == whole[899:]


def test_what_a_checkpoint_has_is_plain(stream):
    data = stream(num_workers=2)
    list(islice(data.train_dataloader(), 3))
    data.trainer.global_step = 1
    [[first, second]] = data.state_dict()["places"]
    assert [type(number) for number in (*first, *second)] == [int] * 12


@pytest.mark.parametrize("other", [{"num_workers": 1}, {"ranks": (2, 0)}])
def test_other_processes_cannot_go_on(stream, other):
    data = stream(num_workers=2)
    with pytest.raises(UserError, match=r"^this stream was read by 1 × 2 processes, and \d × \d cannot go on[^\n]*$"):
        stream(1, data.state_dict() or {"places": [[[0] * 6] * 2]}, **{"num_workers": 2} | other)


def test_a_run_that_does_not_stream_keeps_no_places(words_file, tokenizer, tmp_path):
    data = TextFiles(str(tmp_path), dir=str(words_file), length=12)
    data.prepare(tokenizer)
    assert data.state_dict() == {}


# ---- what stands for all of it


def test_texts_from_all_over_each_split_stand_for_it(stream, tokenizer, words_file, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "KNOWN", 50)
    data = stream(eval_texts=8)
    assert {split: len(data.splits[split]) for split in SPLITS} == {"train": 50, "validation": 8, "test": 8}
    whole = TextFiles(str(tmp_path), dir=str(words_file), length=12)
    every = [text.tolist() for text in whole.tokens(tokenizer)["train"]["tokens"]]
    places = [every.index(text.tolist()) for text in data.splits["train"]["tokens"]]
    assert places[0] < 0.1 * len(every)
    assert places[-1] > 0.8 * len(every)
    lengths = [len(text) for text in data.splits["train"]["tokens"]]
    assert data.statistics["length_counts"].tolist() == torch.bincount(torch.tensor(lengths), minlength=13).tolist()
    assert data.statistics["token_counts"].sum() == sum(lengths)


def test_nothing_is_kept(stream, tmp_path):
    taken(stream(), 10)
    assert not list(tmp_path.iterdir())


def test_the_digest_follows_what_lies_where(stream, words_file, tmp_path):
    first = stream().digest
    (tmp_path / "moved").mkdir()
    moved = tmp_path / "moved" / words_file.name
    moved.write_bytes(words_file.read_bytes())
    assert TextFiles("unused", dir=str(moved), streaming=True).digest == first
    assert TextFiles("unused", dir=str(moved), streaming=True, column="other").digest != first
    moved.write_bytes(words_file.read_bytes() + b"more\n")
    assert TextFiles("unused", dir=str(moved), streaming=True).digest != first


def test_the_hub_is_read_where_it_is(hub, tokenizer, tmp_path):
    pages = [f"apple river {number} stone" for number in range(400)]
    asked = hub({"plain_text/train-00000-of-00001.parquet": {"text": pages}})
    data = OpenWebText(str(tmp_path / "cache"), held_out=100, streaming=True, length=12, buffer=4)
    data.prepare(tokenizer)
    [batch] = islice(data.train_dataloader(), 1)
    assert "apple river" in tokenizer.batch_decode(batch["tokens"])[0]
    assert {name for name, *_ in asked} == {"Skylion007/openwebtext"}
    assert {pattern for *_, pattern in asked} == {None}, "nothing is downloaded"


# ---- what goes wrong


def test_what_a_worker_is_refused_with_is_one_line(stream):
    data = stream(num_workers=1)
    data.paragraphs_of = lambda *_: (_ for _ in ()).throw(UserError("the disk is gone"))
    with pytest.raises(UserError, match=r"^the disk is gone$"):
        taken(data, 1)


def test_too_little_text_for_so_many_readers_is_refused(stream, monkeypatch):
    monkeypatch.setattr(files, "STRETCH", 10**6)
    monkeypatch.setattr(streaming, "PORTION", 10**6)
    with pytest.raises(
        UserError, match=r"^there is too little text for 2 processes to stream: lower data.num_workers$"
    ):
        taken(stream(num_workers=2), 4)
