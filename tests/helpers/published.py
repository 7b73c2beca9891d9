"""A small copy of the field's corpora, in the layouts that they have on the hub."""

from pathlib import Path


def write(folder: Path, texts: list[str]) -> Path:
    """A folder of parquet files with these texts, and of text8's file."""
    import datasets

    folder.mkdir()
    (folder / "text8").write_text(" ".join(texts), encoding="utf-8")
    for split, part in (("train", texts[:-40]), ("test", texts[-40:])):
        rows = {"text": part, "label": [number % 4 for number in range(len(part))]}
        datasets.Dataset.from_dict(rows).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder
