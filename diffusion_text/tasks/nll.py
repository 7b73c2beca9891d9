"""The negative log-likelihood of real text, or a bound on it."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Int
from rich.table import Table
from torch import Tensor

from diffusion_text.diffusion.bound import Mean, mean_per
from diffusion_text.errors import UserError
from diffusion_text.models.writing import Writer
from diffusion_text.progress import counted, counting
from diffusion_text.shapes import Mask, PerText, Tokens
from diffusion_text.storage import write_json
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.terminal import console
from diffusion_text.values import number, or_null, whole


class NLL:
    """−log p of the test split's first `num_samples` texts: exact where the model has it, otherwise its variational
    bound, from `draws` noise levels, or masked counts, of each.

    Tokens embedded in noise are read at time `t_0`: with prediction=logits by the network, at 0.001 if it is not given;
    otherwise by Bayes' rule, each by itself, at 0.3: before that, a network's error in x_0 costs more than it tells.
    Latents of a variational encoder are known down to `t_0`, 0.001 if it is not given, and the decoder reads them.
    """

    def __init__(self, draws: int = 8, t_0: float | None = None):
        self.draws = whole(draws, "task.draws", 1)
        self.t_0 = or_null(number, t_0, "task.t_0", above=0, below=1)

    def __call__(self, session: Session) -> None:
        model = session.model
        check_tells(model)
        if session.text is not None or session.num_samples < 2:
            raise UserError("task=nll is for two texts or more of the test split: use num_samples=2 or more, no text=")
        tokens, mask = session.texts("test")
        nats = self.nats(session, tokens, mask)
        texts = model.text_space.to_text(tokens)
        counts = {"tokens": mask.sum(1).cpu(), "characters": torch.tensor([len(text) for text in texts])}
        figures = {name: mean_per(value, counts["tokens"]) for name, value in nats.items()}
        if source := session.corpus.source:
            figures["source"] = check_bound(nats["total"], [source.nats(text) for text in texts], counts["tokens"])
        bits = mean_per(nats["total"] / math.log(2), counts["characters"])
        facts: dict[str, Any] = {"texts": len(tokens), **{k: int(n.sum()) for k, n in counts.items()}}
        facts |= {"draws": self.draws, "t_0": self.t_0, "kind": model.likelihood}
        self.report(session, figures, bits, facts)

    def nats(self, session: Session, tokens: Tokens, mask: Mask) -> dict[str, PerText]:
        """Of each text, in parts and in `total`."""
        generator = torch.Generator().manual_seed(session.seed)
        batches = list(zip(tokens.split(session.batch_size), mask.split(session.batch_size), strict=True))
        with counting("Scoring batches", len(batches)) as done:
            terms = [session.model.nats(*batch, self.draws, self.t_0, generator) for batch in counted(batches, done)]
        nats = {name: torch.cat([term[name] for term in terms]).cpu().double() for name in terms[0]}
        return nats | {"total": torch.stack(list(nats.values())).sum(0)}

    def report(self, session: Session, figures: dict[str, Mean], bits: Mean, facts: dict[str, Any]) -> None:
        """Print the table and write it as .json."""
        sign = "=" if facts["kind"] == "exact" else "≤"
        title = f"−log p {sign} total, over {facts['texts']} texts, {facts['tokens']:,} tokens"
        table = Table("", title=title, title_justify="left")
        for column in ("nats a token", "standard error"):
            table.add_column(column, justify="right")
        for name, mean in figures.items():
            table.add_row(name, *(f"{number:.4f}" for number in mean), end_section=name in ("reconstruction", "total"))
        table.add_row("bits a character", *(f"{number:.4f}" for number in bits))
        console().print(table)
        path = session.file("nll", ".json")
        nats = {name: mean._asdict() for name, mean in figures.items()}
        written = {"nats_per_token": nats, "bits_per_character": bits._asdict()} | facts
        written |= {"seed": session.seed, "step": session.step}
        write_json(path, written)
        print(path)


def check_tells(model: Writer) -> None:
    """Raise UserError where a model does not tell how likely a text is."""
    if model.likelihood is None:
        told = "model=diffusion_lm, a baseline, or text_space=bart_vae, whose encoder is variational"
        raise UserError(f"{type(model).__name__} does not tell how likely a text is: that takes {told}")


def check_bound(nats: PerText, exact: list[float], tokens: Int[Tensor, batch]) -> Mean:
    """−log p of the texts under the source that they come from; raises UserError where the bound lies below it."""
    true = torch.tensor(exact, dtype=torch.float64)
    excess = mean_per(nats - true, tokens)
    if excess.value < -4 * excess.standard_error:
        raise UserError(
            f"the bound lies {-excess.value:.3f} ± {excess.standard_error:.3f} nats a token below the entropy of the "
            "source that the texts come from: it is no bound"
        )
    return mean_per(true, tokens)
