"""The E2E NLG challenge: restaurants, each described by attributes, and by several people in a sentence or two."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path

from diffusion_text.data.base import SPLITS, TextDataModule
from diffusion_text.data.described import Described, as_setting, split_by_description
from diffusion_text.data.reading import read_lines
from diffusion_text.data.tables import hub_rows
from diffusion_text.errors import UserError

log = logging.getLogger(__name__)
FILES = {"train": "train", "validation": "valid", "test": "test"}
OTHERWISE = {"eattype": "type", "pricerange": "price", "familyfriendly": "family_friendly"}  # on the hub

NOT = r"\b(?:not|no|non|never|isn|n't|doesn|aren|without|un)\b"
FRIENDLY = r"(?:famil|kid|child)"
NUMBERS = {"1": "one", "3": "three", "5": "five"}
SAID = {  # the ways in which people say a value, where these are not the value itself
    ("area", "city centre"): r"(?:city|town) cent(?:re|er)|cent(?:re|er) of (?:the )?(?:city|town)",
    ("area", "riverside"): r"river ?side|(?:by|near|beside|along|next to|on|at) the (?:\w+ )?river",
    ("family_friendly", "no"): rf"{NOT}\W+(?:\w+\W+){{0,5}}{FRIENDLY}|adult",
    ("family_friendly", "yes"): rf"^(?!.*(?:{NOT}\W+(?:\w+\W+){{0,5}}{FRIENDLY}|adult)).*{FRIENDLY}",
    ("food", "Indian"): r"\bindian\b(?! cuisine)",  # Raja Indian Cuisine is a place
    ("price", "less than £ 20"): r"(?:less|lower|under|below|cheaper|up to)\W+(?:than\W+)?£ ?20",
    ("price", "£ 20 - 25"): r"20 ?(?:-|to|and|–) ?(?:£ ?)?25",
    ("price", "more than £ 30"): r"(?:more|over|above|higher|exceed\w*|upwards of)\W+(?:than\W+)?£ ?30",
} | {
    ("customer_rating", f"{n} out of 5"): rf"\b(?:{n}|{word})(?:(?: out)? of (?:5|five)|[ -]*star| ?/ ?5)"
    for n, word in NUMBERS.items()
}


class E2E(TextDataModule):
    """Texts about restaurants with the attributes that they tell of (Novikova et al. 2017), each a text of its own.

    From the hub (`tuetschek/e2e_nlg`), or from `dir`: a folder with one file a split, in lines such as
    `name : Aromi | area : riverside||Aromi is in the riverside area .` (as Li et al. 2022 have it). The splits are the
    published ones, of different descriptions. Of a folder without a training file, all descriptions but a tenth are
    trained on, and it says so.
    """

    licence = "CC BY-SA 4.0"

    def lines(self, split):
        return chain.from_iterable((pair.text, "\n") for pair in self.pairs[split])

    @cached_property
    def pairs(self) -> dict[str, list[Described]]:
        """Those of each split."""
        if self.dir is None:
            return {split: [*published(split)] for split in SPLITS}
        if not self.dir.is_dir():
            raise UserError(f"data.dir={self.dir} is not a folder; E2E is a file for each split")
        files = {split: self.dir / f"{name}.txt" for split, name in FILES.items()}
        pairs = {split: [*read_pairs(file)] if file.is_file() else [] for split, file in files.items()}
        if not any(pairs.values()):
            raise UserError(f"data.dir={self.dir} has no train.txt, valid.txt or test.txt")
        if pairs["train"]:
            return pairs
        log.warning("%s has no training file: training on nine tenths of the descriptions of the others", self.dir)
        return split_by_description([*chain.from_iterable(pairs.values())])

    def described(self, split):
        return self.pairs[split]

    def says(self, text, name, value):
        way = SAID.get((name, value))
        return super().says(text, name, value) if way is None else bool(re.search(way, text, re.DOTALL))


def published(split: str) -> Iterator[Described]:
    """The hub's pairs: `name[Aromi], area[riverside]`, and the text."""
    columns = ("meaning_representation", "human_reference")
    for meaning, text in hub_rows("tuetschek/e2e_nlg", "refs/convert/parquet", "e2e", split, columns):
        described = re.findall(r"([\w ]+)\[([^\]]*)\]", meaning)
        yield Described({named(name): value for name, value in described}, text)


def read_pairs(file: Path) -> Iterator[Described]:
    """The pairs of a file."""
    for number, line in enumerate(read_lines(file), 1):
        described, bars, text = line.strip().partition("||")
        parts = [part.partition(" : ") for part in described.split(" | ")]
        if not bars or not all(value for _, _, value in parts):
            raise UserError(f"{file}, line {number}: not `attribute : value | attribute : value||text`")
        yield Described({named(name): value.strip() for name, _, value in parts}, text.strip())


def named(attribute: str) -> str:
    """An attribute's name, the same from the hub as from files."""
    name = as_setting(attribute)
    return OTHERWISE.get(name, name)
