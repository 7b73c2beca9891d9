"""Unconditional samples, printed and kept."""

from __future__ import annotations

import json

from diffusion_text.tasks.session import Session


class Generate:
    """Draw texts; write them as .txt and .jsonl with seed, sampler and NFE, beside whatever was sampled before."""

    def __call__(self, session: Session) -> None:
        for number, text in enumerate(write_samples(session), 1):
            print(f"[{number}] {' '.join(text.split())}\n")


def write_samples(session: Session) -> list[str]:
    """Generate `num_samples` texts and write them to the run's samples."""
    if session.num_samples == 0:
        return []
    model, sampler = session.model, session.sampler
    texts = model.text_space.to_text(model.generate(sampler, session.num_samples, session.seed, session.length))
    name = type(sampler).__name__.removesuffix("Sampler").lower()
    facts = {"seed": session.seed, "sampler": name, "nfe": sampler.nfe, "step": session.step}
    lines = [json.dumps({"text": text, **facts}, ensure_ascii=False) for text in texts]
    table = session.file(f"{name}-{sampler.nfe}-seed-{session.seed}", ".jsonl")
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    header = "  ".join(f"{key} {value}" for key, value in facts.items())
    table.with_suffix(".txt").write_text("\n\n".join([f"# {header}", *texts]) + "\n", encoding="utf-8")
    return texts
