import csv
import json

import pytest
import restaurants
import torch

from diffusion_text.data.base import SPLITS
from diffusion_text.data.pairs import Pairs
from diffusion_text.data.tokens import NOTHING
from diffusion_text.errors import UserError


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return restaurants.write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


def rows(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def read(file, **settings):
    """Source and target of every pair, split by split."""
    data = Pairs("unused", dir=str(file), **settings)
    return {split: [(pair.known["source"], pair.text) for pair in data.pairs[split]] for split in SPLITS}


def test_no_source_is_in_two_splits_and_no_pair_is_lost(file):
    splits = read(file)
    sources = [{source for source, _ in splits[split]} for split in SPLITS]
    assert [len(each) for each in sources] == [72, 4, 4]
    assert len(set.union(*sources)) == 80
    assert sorted(pair for pairs in splits.values() for pair in pairs) == sorted(
        (row["source"], row["target"]) for row in rows(file)
    )


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_any_two_columns_of_a_table_are_read(file, tmp_path, kind):
    with (tmp_path / f"pairs.{kind}").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, delimiter="," if kind == "csv" else "\t")
        table.writerow(["number", "de", "en"])
        table.writerows([number, row["source"], row["target"]] for number, row in enumerate(rows(file)))
        table.writerow([-1, "", "of nothing"])
    assert read(tmp_path / f"pairs.{kind}", source="de", target="en") == read(file)


def test_a_batch_tells_each_text_its_source(file, tmp_path, tokenizer):
    data = Pairs(str(tmp_path), dir=str(file), length=24, batch_size=4)
    data.prepare(tokenizer)
    batch = next(iter(data.val_dataloader()))
    told = [tokenizer.decode(text[text != NOTHING], skip_special_tokens=True) for text in batch["told"]]
    texts = tokenizer.batch_decode(batch["tokens"], skip_special_tokens=True)
    pairs = read(file)["validation"]
    for source, text in zip(told, texts, strict=True):
        assert any(s.startswith(source[:20]) and t.startswith(text[:20]) for s, t in pairs)
    assert batch["told"].shape[1] <= 24
    assert not torch.equal(batch["told"], batch["tokens"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"source": "de"}, r"pairs\.jsonl has no column 'de', only source, target: choose one with data\.source=$"),
        ({"target": "en"}, r"pairs\.jsonl has no column 'en', only source, target: choose one with data\.target=$"),
        ({"dir": None}, r"^data=pairs needs data\.dir=FILE, a \.jsonl, \.csv, \.tsv or \.parquet$"),
        ({"dir": __file__}, r"^data=pairs needs data\.dir=FILE"),
    ],
    ids=["source", "target", "no file", "no table"],
)
def test_what_cannot_be_read_is_one_line(file, settings, says):
    data = Pairs("unused", **{"dir": str(file)} | settings)
    with pytest.raises(UserError, match=says):
        data.pairs  # noqa: B018
