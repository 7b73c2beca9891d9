"""A corpus in E2E's format: eighty descriptions, each with two texts; and the same as pairs of texts."""

import json
from itertools import product
from pathlib import Path

NAMES = [f"The {name}" for name in ("Mill", "Punter", "Eagle", "Vaults", "Phoenix")]
FOODS, AREAS = ("Italian", "French", "Chinese", "English"), ("riverside", "city centre")


def write(directory: Path) -> Path:
    """Write it."""
    lines = []
    for name, food, area, friendly in product(NAMES, FOODS, AREAS, ("yes", "no")):
        described = f"name : {name} | area : {area} | food : {food} | family friendly : {friendly}"
        whom = "It is for families ." if friendly == "yes" else "It is not for families ."
        lines.append(f"{described}||{name} in the {area} serves {food} food . {whom}")
        lines.append(f"{described}||{food} food is served at {name} , {area} . {whom}")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "valid.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


def write_pairs(file: Path) -> Path:
    """Descriptions as `source`, texts as `target`."""
    pairs = [line.split("||") for line in (write(file.parent / "e2e") / "valid.txt").read_text("utf-8").splitlines()]
    rows = [json.dumps({"source": source, "target": target}) for source, target in pairs]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file
