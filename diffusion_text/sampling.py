"""Texts from a trained model, printed and kept."""

from __future__ import annotations

import json
from pathlib import Path

from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.runs import Run


def write_samples(
    model: TextDiffusion,
    sampler: Sampler,
    run: Run,
    num_samples: int,
    seed: int,
    length: int | None,
    step: int,
) -> list[str]:
    """Generate texts and write them as .txt and .jsonl, beside whatever was sampled before."""
    if num_samples == 0:
        return []
    texts = model.text_space.to_text(model.generate(sampler, num_samples, seed, length))
    name = type(sampler).__name__.removesuffix("Sampler").lower()
    facts = {"seed": seed, "sampler": name, "nfe": sampler.nfe, "step": step}
    run.samples.mkdir(exist_ok=True)
    stem = unused(run.samples, f"{name}-{sampler.nfe}-seed-{seed}")
    lines = [json.dumps({"text": text, **facts}, ensure_ascii=False) for text in texts]
    stem.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    header = "  ".join(f"{key} {value}" for key, value in facts.items())
    stem.with_suffix(".txt").write_text("\n\n".join([f"# {header}", *texts]) + "\n", encoding="utf-8")
    return texts


def unused(directory: Path, name: str) -> Path:
    """`directory/name`, or the first of `name-2`, `name-3`, … that is free."""
    path, number = directory / name, 1
    while path.with_suffix(".jsonl").exists():
        number += 1
        path = directory / f"{name}-{number}"
    return path


def print_samples(texts: list[str]) -> None:
    """One numbered paragraph a text."""
    for number, text in enumerate(texts, 1):
        print(f"[{number}] {' '.join(text.split())}\n")
