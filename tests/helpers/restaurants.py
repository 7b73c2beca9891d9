"""Eighty descriptions of restaurants, each with two texts: as a corpus in E2E's format, or as pairs of texts."""

import json
from itertools import product
from pathlib import Path

NAMES = [f"The {name}" for name in ("Mill", "Punter", "Eagle", "Vaults", "Phoenix")]
FOODS, AREAS = ("Italian", "French", "Chinese", "English"), ("riverside", "city centre")


def pairs() -> list[tuple[str, str]]:
    """Description and text."""
    found = []
    for name, food, area, friendly in product(NAMES, FOODS, AREAS, ("yes", "no")):
        described = f"name : {name} | area : {area} | food : {food} | family friendly : {friendly}"
        whom = "It is for families ." if friendly == "yes" else "It is not for families ."
        found.append((described, f"{name} in the {area} serves {food} food . {whom}"))
        found.append((described, f"{food} food is served at {name} , {area} . {whom}"))
    return found


def write(directory: Path) -> Path:
    """The corpus, a folder."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{described}||{text}\n" for described, text in pairs())
    (directory / "valid.txt").write_text(lines, encoding="utf-8")
    return directory


def write_pairs(file: Path) -> Path:
    """The pairs, a .jsonl of `source` and `target`."""
    lines = "".join(json.dumps({"source": described, "target": text}) + "\n" for described, text in pairs())
    file.write_text(lines, encoding="utf-8")
    return file
