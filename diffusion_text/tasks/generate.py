"""Unconditional samples, printed and kept."""

from __future__ import annotations

import json
from typing import NamedTuple

from diffusion_text.models.text_diffusion import root_mean_square
from diffusion_text.tasks.session import Session


class Samples(NamedTuple):
    """Texts; root mean square of the x_0 they were decoded from, and the largest on the way there."""

    texts: list[str]
    rms: float
    peak_rms: float


class Generate:
    """Draw texts; write them as .txt and .jsonl with seed, sampler and NFE, beside whatever was sampled before."""

    def __call__(self, session: Session) -> None:
        if samples := write_samples(session):
            for number, text in enumerate(samples.texts, 1):
                print(f"[{number}] {' '.join(text.split())}\n")


def write_samples(session: Session) -> Samples | None:
    """Generate `num_samples` texts and write them to the run's samples."""
    if session.num_samples == 0:
        return None
    model, sampler = session.model, session.sampler
    sampled = model.sample(sampler, session.num_samples, session.seed, session.length)
    texts = model.text_space.to_text(model.text_space.decode(sampled.x_0, sampled.mask))
    name = type(sampler).__name__.removesuffix("Sampler").lower()
    facts = {"seed": session.seed, "sampler": name, "nfe": sampler.nfe, "step": session.step}
    lines = [json.dumps({"text": text, **facts}, ensure_ascii=False) for text in texts]
    table = session.file(f"{name}-{sampler.nfe}-seed-{session.seed}", ".jsonl")
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    header = "  ".join(f"{key} {value}" for key, value in facts.items())
    table.with_suffix(".txt").write_text("\n\n".join([f"# {header}", *texts]) + "\n", encoding="utf-8")
    return Samples(texts, root_mean_square(sampled.x_0, sampled.mask), sampled.peak)
