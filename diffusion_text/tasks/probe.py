"""The noising probe: how much noise on a clean latent can the decoder still read?"""

from __future__ import annotations

import csv

import torch
from rich.table import Table

from diffusion_text.metrics.reconstruction import token_accuracy
from diffusion_text.tasks.comparison import chrf, exact_match
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.charts import line_chart, save_picture
from diffusion_text.tracking.terminal import console
from diffusion_text.values import listed, number


class Probe:
    """Encode texts, add Gaussian noise of each standard deviation in `levels`, decode, compare.

    In two units: of the raw latent, as the encoder makes it, and of the standardised one, in which diffusion runs.
    """

    def __init__(self, levels: list[float] = (0.1, 0.5, 1.0)):  # type: ignore[assignment]
        self.levels = [float(level) for level in listed(levels, "task.levels", number, fewest=1, least=0)]

    def __call__(self, session: Session) -> None:
        space = session.diffusion.text_space
        tokens, mask = session.texts()
        originals = space.to_text(tokens)
        x_0 = space.encode(tokens, mask)
        rows = []
        shown = Table(title="The first text, decoded from its noisy latent", show_lines=True, title_justify="left")
        for column in ("unit", "noise", "decoded"):
            shown.add_column(column)
        shown.add_row("", "original", " ".join(originals[0].split()))
        for unit, scale in space.unit_scales.items():
            for level in [0.0, *self.levels]:
                generator = torch.Generator().manual_seed(session.seed)
                noise = torch.randn(x_0.shape, generator=generator).to(x_0)
                decoded = space.decode(x_0 + level * scale * noise, space.latent_mask(mask))
                texts = space.to_text(decoded)
                shown.add_row(unit, f"{level:g}", " ".join(texts[0].split()))
                rows.append(
                    {
                        "unit": unit,
                        "noise_std": level,
                        "token_accuracy": round(token_accuracy(decoded, tokens, mask), 4),
                        "exact_match": round(exact_match(texts, originals), 4),
                        "chrf": round(chrf(texts, originals), 4),
                    }
                )
        console().print(shown)
        self.report(session, rows, len(originals))

    def report(self, session: Session, rows: list[dict], count: int) -> None:
        """Print the table, write it as .csv, and plot it."""
        table = Table(title=f"Means over {count} texts", title_justify="left")
        for name in rows[0]:
            table.add_column(name)
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        console().print(table)
        path = session.file("probe", ".csv")
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        lines = {
            unit: [(row["noise_std"], row["chrf"]) for row in rows if row["unit"] == unit]
            for unit in ("raw", "standardised")
        }
        chart = line_chart(lines, "noise standard deviation", "chrF of the decoded text")
        save_picture(chart.properties(width=480, height=280), path.with_suffix(".png"))
        print(f"{path}\n{path.with_suffix('.png')}")
