"""WikiText: good and featured Wikipedia articles (Merity et al. 2017)."""

import logging
from functools import cache
from pathlib import Path

from diffusion_text.data import detokenising
from diffusion_text.data.detokenising import detokenised
from diffusion_text.data.files import cut, in_split
from diffusion_text.data.published import Published
from diffusion_text.data.reading import SPLITS, read_lines, within
from diffusion_text.errors import UserError
from diffusion_text.values import flag

log = logging.getLogger(__name__)


class WikiText2(Published):
    """Two million words, `Salesforce/wikitext`, wikitext-2-raw-v1. With `detokenise` words and marks stand together as
    SEDD and MDLM have them.

    A copy in `dir` may also be a text file for each split, with train, valid and test in its name. A folder without a
    training file trains on the first 90 % of the validation file and validates on the rest, and says so.
    """

    licence = "CC BY-SA 3.0, and the GFDL"
    group, repository, folder, end = "wikitext2", "Salesforce/wikitext", "wikitext-2-raw-v1", ()
    telling = ("detokenise",)

    def __init__(self, cache_dir: str, detokenise: bool = False, **settings):
        super().__init__(cache_dir, **settings)
        self.detokenise = flag(detokenise, "data.detokenise")
        self.rules = detokenising.WIKITEXT if self.detokenise else ()

    @property
    def texts(self) -> dict[str, Path]:
        """The text file of each split that a copy has, if it is one in text files."""
        return split_files(self.dir) if self.dir and not self.found[1] else {}

    @property
    def read_from(self):
        return [*self.texts.values()] or super().read_from

    def pieces(self, split):
        if not self.texts:
            return super().pieces(split)
        if "train" in self.texts or split == "test":
            return cut(self.texts[split])
        parts = ("train",) if split == "train" else ("validation", "test")
        held_out = [*cut(self.texts["validation"])]
        return [piece for part in parts for piece in in_split(held_out, part)]

    def piece_lines(self, piece):
        if not self.texts:
            return super().piece_lines(piece)
        lines = read_lines(Path(piece.file), piece.first, piece.last)
        own = lines if piece.window is None else within(lines, piece.position, piece.window)
        return (detokenised(line, self.rules) for line in own)


class WikiText103(WikiText2):
    """A hundred million words, `Salesforce/wikitext`, wikitext-103-raw-v1; the same validation and test splits."""

    group, folder = "wikitext103", "wikitext-103-raw-v1"


@cache
def split_files(folder: Path) -> dict[str, Path]:
    """The file of each split that a folder has."""
    stems = {"train": "train", "validation": "valid", "test": "test"}
    found = {
        split: sorted(f for f in folder.iterdir() if f.is_file() and stem in f.name) for split, stem in stems.items()
    }
    for split in ("validation", "test"):
        if not found[split]:
            raise UserError(f"{folder} has no file with '{stems[split]}' in its name for the {split} split")
    if not found["train"]:
        log.warning("%s has no training file: training on %s", folder, found["validation"][0].name)
    return {split: found[split][0] for split in SPLITS if found[split]}
