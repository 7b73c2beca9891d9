"""Samples, printed and kept: unconditional, or going on from a prompt."""

from __future__ import annotations

from diffusion_text.models.writing import Given, Sampled
from diffusion_text.tasks.given import prompt
from diffusion_text.tasks.session import Session


class Generate:
    """Draw texts, which begin with `text=` if there is one; write them as .txt and .jsonl with seed, sampler and NFE,
    beside whatever was sampled before.
    """

    def __call__(self, session: Session) -> None:
        given = None if session.text is None else prompt(session, session.text)
        if sampled := write_samples(session, given):
            for number, text in enumerate(session.read(sampled), 1):
                print(f"[{number}] {' '.join(text.split())}\n")


def write_samples(session: Session, given: Given | None = None) -> Sampled | None:
    """Sample `num_samples` texts and write them to the run's samples."""
    if session.num_samples == 0:
        return None
    sampled = session.sample(given)
    texts = session.read(sampled)
    sampler = session.sampler
    name = type(sampler).__name__.removesuffix("Sampler").lower()
    facts = {"seed": session.seed, "sampler": name, "nfe": sampler.nfe, "step": session.step}
    facts |= {"temperature": session.temperature} if session.temperature else {}
    rows = [{"text": text, **facts} for text in texts]
    table = session.write_lines(f"{name}-{sampler.nfe}-seed-{session.seed}", rows)
    header = "  ".join(f"{key} {value}" for key, value in facts.items())
    table.with_suffix(".txt").write_text("\n\n".join([f"# {header}", *texts]) + "\n", encoding="utf-8")
    return sampled
