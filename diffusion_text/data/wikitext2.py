"""WikiText-2: two million words of good and featured Wikipedia articles (Merity et al. 2016)."""

import logging
from functools import cache
from pathlib import Path

from diffusion_text.data.base import SPLITS, TextDataModule
from diffusion_text.data.reading import hub_lines, read_lines, split_by_position
from diffusion_text.errors import UserError

log = logging.getLogger(__name__)


class WikiText2(TextDataModule):
    """From the hub (`Salesforce/wikitext`, wikitext-2-raw-v1), or from `dir`: a folder with one file a split.

    The splits are the published ones, of different articles. File names contain train, valid and test. A folder
    without a training file trains on the first 90 % of the validation file and validates on the rest, and says so.
    """

    licence = "CC BY-SA 3.0, and the GFDL"

    def lines(self, split):
        if self.dir is None:
            return hub_lines("Salesforce/wikitext", "wikitext-2-raw-v1", None, "wikitext2", split)
        files = split_files(self.dir)
        if "train" in files:
            return read_lines(files[split])
        if split == "test":
            return read_lines(files["test"])
        parts = ("train",) if split == "train" else ("validation", "test")
        return (line for part in parts for line in split_by_position(lambda: read_lines(files["validation"]), part))


@cache
def split_files(folder: Path) -> dict[str, Path]:
    """The file of each split that a folder has."""
    if not folder.is_dir():
        raise UserError(f"data.dir={folder} is not a folder; WikiText-2 is three files, one for each split")
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
