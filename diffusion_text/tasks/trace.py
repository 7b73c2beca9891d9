"""The denoising trace: how a text comes out of noise, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from diffusion_text.diffusion.gaussian import noise_from
from diffusion_text.diffusion.samplers import ReverseStep, draw_like, generators_of
from diffusion_text.storage import write_text
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.pages import render
from diffusion_text.tracking.terminal import console
from diffusion_text.values import whole


class Trace:
    """Sample one text and keep at `steps` evenly chosen steps: time, levels, norms, and the text that x̂_0 decodes to.

    Written as .jsonl, and as a page with a slider over the steps, each token coloured by the decoder's confidence.
    """

    def __init__(self, steps: int = 12):
        self.steps = whole(steps, "task.steps", 2)

    def __call__(self, session: Session) -> None:
        rows = self.measure(session)
        self.show(session, rows)
        lines = self.write(session, rows)
        print(f"{lines}\n{lines.with_suffix('.html')}")

    @torch.no_grad()
    def measure(self, session: Session) -> list[dict[str, Any]]:
        """The kept steps of one text's reverse run."""
        model, sampler = session.diffusion, session.sampler
        generators = generators_of(session.seed, range(1))
        told = session.wish(session.condition).repeated(1).told
        mask = model.draw_mask(generators, session.length, told).to(model.device)
        x_t = draw_like(torch.empty(*mask.shape, model.text_space.dim, device=model.device), generators)
        kept = set(torch.linspace(0, sampler.num_steps - 1, self.steps).round().long().tolist())
        rows: list[dict[str, Any]] = []
        for step, state in enumerate(session.reverse(x_t, mask, generators)):
            if step in kept:
                rows.append({"step": step, **describe(session, state, mask)})
        mark_changes(rows)
        return rows

    def show(self, session: Session, rows: list[dict[str, Any]]) -> None:
        """Print the table."""
        table = Table(
            title=f"One text in {session.sampler.nfe} evaluations, seed {session.seed}",
            title_justify="left",
            expand=True,
        )
        for column in ("step", "t", "noise %", "alpha", "‖x‖", "‖ε̂‖"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("x̂_0 decodes to", ratio=1, no_wrap=True, overflow="ellipsis")
        for row in rows:
            numbers = (f"{row['t']:.3f}", f"{row['noise_percent']:.1f}", f"{row['alpha']:.3f}")
            norms = (f"{row['x_norm']:.1f}", f"{row['noise_hat_norm']:.1f}")
            table.add_row(str(row["step"]), *numbers, *norms, " ".join(row["text"].split()))
        console().print(table)

    def write(self, session: Session, rows: list[dict[str, Any]]) -> Path:
        """A line a step, as .jsonl, and the page beside it; returns the former."""
        path = session.write_lines("trace", rows)
        told = [f"{name} {value}" for name, value in session.condition.items()]
        title = ", ".join([session.run.directory.resolve().name, *told, f"seed {session.seed}"])
        write_text(path.with_suffix(".html"), render("trace.html", name=title, trace=rows))
        return path


def describe(session: Session, state: ReverseStep, mask: torch.Tensor) -> dict[str, Any]:
    """One step's figures, and the tokens of x̂_0 with the decoder's confidence in each."""
    model = session.diffusion
    alpha, sigma = model.levels(state.t.to(state.x_t).expand(1))
    noise_hat = noise_from(state.x_t, state.x_0, alpha, sigma)
    tokens, confidence = model.reader.decode_with_confidence(state.x_0, mask)
    tokenizer = model.text_space.tokenizer
    special = set(tokenizer.all_special_ids)
    pieces = [
        {"text": tokenizer.decode([token]), "confidence": round(probability, 4)}
        for token, probability in zip(tokens[0].tolist(), confidence[0].tolist(), strict=True)
        if token not in special
    ]
    return {
        "t": round(state.t.item(), 6),
        "noise_percent": round(100 * sigma.item() ** 2, 3),
        "alpha": round(alpha.item(), 6),
        "x_norm": round(state.x_t[mask].norm().item(), 3),
        "noise_hat_norm": round(noise_hat[mask].norm().item(), 3),
        "text": model.text_space.to_text(tokens)[0],
        "tokens": pieces,
    }


def mark_changes(rows: list[dict[str, Any]]) -> None:
    """Note for each token at which kept step it last became what it is."""
    before: list[dict[str, Any]] = []
    for row in rows:
        for position, piece in enumerate(row["tokens"]):
            same = position < len(before) and before[position]["text"] == piece["text"]
            piece["since"] = before[position]["since"] if same else row["step"]
        before = row["tokens"]
