"""Samples, printed and kept: unconditional, or going on from a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from diffusion_text.sampled_texts import in_words
from diffusion_text.storage import write_text
from diffusion_text.tasks.given import prompt
from diffusion_text.tasks.session import Session
from diffusion_text.tasks.targets import Target


class Generate:
    """Draw texts, which begin with `text=` if there is one; write them as .txt and .jsonl with seed, sampler and NFE,
    beside whatever was sampled before.
    """

    def __call__(self, session: Session) -> None:
        if session.num_samples == 0:
            return
        texts = session.read(session.sample(None if session.text is None else prompt(session, session.text)))
        show(texts, session.asked if session.conditions else [])
        keep(session, texts)


def show(texts: list[str], asked: Sequence[Target] = ()) -> None:
    """Print texts, each on a line, after what each was asked to be."""
    for number, (text, what) in enumerate(zip_longest(texts, asked), 1):
        told = f"{in_words(what)}: " if what else ""
        print(f"[{number}] {told}{' '.join(text.split())}\n")


def keep(session: Session, texts: list[str], asked: Sequence[Target] = ()) -> None:
    """Write texts with what they were drawn by, and what they were `asked` to be: by the session, or otherwise."""
    sampler = session.sampler
    name = type(sampler).__name__.removesuffix("Sampler").lower()
    facts = {"seed": session.seed, "sampler": name, "nfe": sampler.nfe, "step": session.step}
    facts |= {"temperature": session.temperature} if session.temperature else {}
    if guide := session.guide:
        facts |= {"classifier": {"scale": guide.scale, "steps": guide.steps}}
    told = asked or session.asked
    rows = [
        {"text": text, **facts} | ({"condition": dict(what)} if what else {})
        for text, what in zip(texts, told, strict=True)
    ]
    table = session.write_lines(f"{name}-{sampler.nfe}-seed-{session.seed}", rows)
    header = "  ".join(f"{key} {value}" for key, value in facts.items())
    said = [f"# {in_words(what)}\n{text}" if what else text for text, what in zip(texts, told, strict=True)]
    write_text(table.with_suffix(".txt"), "\n\n".join([f"# {header}", *said]) + "\n")
