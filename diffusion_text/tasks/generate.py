"""Samples, printed and kept: unconditional, or going on from a prompt."""

from __future__ import annotations

from diffusion_text.storage import write_text
from diffusion_text.tasks.given import prompt
from diffusion_text.tasks.session import Session


class Generate:
    """Draw texts, which begin with `text=` if there is one; write them as .txt and .jsonl with seed, sampler and NFE,
    beside whatever was sampled before.
    """

    def __call__(self, session: Session) -> None:
        if session.num_samples == 0:
            return
        texts = session.read(session.sample(None if session.text is None else prompt(session, session.text)))
        show(texts)
        keep(session, texts)


def show(texts: list[str]) -> None:
    """Print texts, each on a line."""
    for number, text in enumerate(texts, 1):
        print(f"[{number}] {' '.join(text.split())}\n")


def keep(session: Session, texts: list[str]) -> None:
    """Write texts with what they were drawn by."""
    sampler = session.sampler
    name = type(sampler).__name__.removesuffix("Sampler").lower()
    facts = {"seed": session.seed, "sampler": name, "nfe": sampler.nfe, "step": session.step}
    facts |= {"temperature": session.temperature} if session.temperature else {}
    facts |= {"condition": session.condition} if session.condition else {}
    if guide := session.guide:
        facts |= {"classifier": {"scale": guide.scale, "steps": guide.steps}}
    rows = [{"text": text, **facts} for text in texts]
    table = session.write_lines(f"{name}-{sampler.nfe}-seed-{session.seed}", rows)
    header = "  ".join(f"{key} {value}" for key, value in facts.items())
    write_text(table.with_suffix(".txt"), "\n\n".join([f"# {header}", *texts]) + "\n")
