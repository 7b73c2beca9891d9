"""The noising probe: how much noise on a clean latent can the decoder still read, and how much once it is denoised?"""

from __future__ import annotations

import csv
from collections.abc import Iterator

import torch
from rich.table import Table

from diffusion_text.diagnostics.preflight import relative_change
from diffusion_text.metrics.reconstruction import token_accuracy
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.shapes import Latents, Mask
from diffusion_text.tasks.comparison import alone, chrf, exact_match
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.charts import line_chart, save_picture
from diffusion_text.tracking.terminal import console
from diffusion_text.values import listed, number


class Probe:
    """Encode texts, add Gaussian noise of each standard deviation in `levels`, decode, compare.

    In two units: of the raw latent, as the encoder makes it, and of the standardised one, in which diffusion runs. And
    `denoised`: what the model makes of the standardised one in one step. `error` is the root mean square of what is
    wrong with x_0, by that of x_0: where it reads worse than noise of as much error, or no worse and still badly, the
    denoiser limits the text; where noise of little error cannot be read, the decoder does.
    """

    def __init__(self, levels: list[float] = (0.1, 0.5, 1.0)):  # type: ignore[assignment]
        self.levels = [float(level) for level in listed(levels, "task.levels", number, fewest=1, least=0)]

    @torch.no_grad()
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
        latent_mask = space.latent_mask(mask)
        for unit, level, x in self.spoilt(session, x_0, latent_mask):
            decoded = session.diffusion.reader.decode(x, latent_mask)
            texts = space.to_text(decoded)
            shown.add_row(unit, f"{level:g}", " ".join(texts[0].split()))
            rows.append(
                {
                    "unit": unit,
                    "noise_std": level,
                    "error": round(relative_change(x[latent_mask], x_0[latent_mask]), 4),
                    "token_accuracy": round(token_accuracy(decoded, tokens, mask), 4),
                    "exact_match": round(exact_match(texts, alone(originals)), 4),
                    "chrf": round(chrf(texts, alone(originals)), 4),
                }
            )
        console().print(shown)
        self.report(session, rows, len(originals))

    def spoilt(self, session: Session, x_0: Latents, mask: Mask) -> Iterator[tuple[str, float, Latents]]:
        """Unit, level and x_0 with noise; then what the model makes of each level."""
        noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(session.seed)).to(x_0)
        levels = [0.0, *self.levels]
        for unit, scale in session.diffusion.text_space.unit_scales.items():
            yield from ((unit, level, x_0 + level * scale * noise) for level in levels)
        for level in levels:
            yield "denoised", level, denoised(session.diffusion, x_0 + level * noise, level, mask)

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
            for unit in dict.fromkeys(row["unit"] for row in rows)
        }
        chart = line_chart(lines, "noise standard deviation", "chrF of the decoded text")
        save_picture(chart.properties(width=480, height=280), path.with_suffix(".png"))
        print(f"{path}\n{path.with_suffix('.png')}")


def denoised(model: TextDiffusion, x: Latents, level: float, mask: Mask) -> Latents:
    """The model's estimate of x_0 in one step, from x_0 with noise of this standard deviation."""
    alpha = torch.full((len(x),), (1 + level**2) ** -0.5, dtype=torch.float64, device=x.device)
    t, x_t = model.schedule.time_at(alpha).to(x), x * alpha[0].to(x)
    return model.predict_x0(x_t, t, mask, model.first_estimate(x_t, t, mask))
