"""The pictures of the pages, computed by the package's own code.

    python docs/pictures.py [OVERRIDE ...]

Writes docs/pages/pictures/*.svg. Latents are those of the default corpus and text space, which is pretrained if it is
not in the cache; overrides change them.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import altair as alt
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import open_dict

from diffusion_text.composition import Training, compose_training
from diffusion_text.diagnostics.preflight import ACROSS, readable_share
from diffusion_text.diagnostics.references import do_nothing, rank_bound
from diffusion_text.diffusion.losses import cosine_and_magnitude
from diffusion_text.diffusion.schedules import NoiseSchedule
from diffusion_text.entry import CONF
from diffusion_text.tracking.titles import PREDICTORS as TITLES

PICTURES = Path(__file__).parent / "pages" / "pictures"
SCHEDULES = ("sqrt", "cosine", "linear", "log_snr_linear")
LEARNED = ["model=diffusion_lm", "text_space.normalise=false"]
TEXTS = 64
PANEL = {"width": 280, "height": 230}
ROUTES = {
    "route=latent": ["text", "BART's encoder,\nfrozen", "x_0: latents,\nstandardised", "BART's decoder", "text"],
    "route=diffusion_lm": ["text", "a learned table,\na row a token", "x_0: embeddings,\nRMS 1", "rounding", "text"],
}
Rows = list[dict[str, Any]]


def main(overrides: list[str], directory: Path = PICTURES) -> None:
    directory.mkdir(exist_ok=True)
    torch.manual_seed(0)
    of_learned = [*LEARNED, *(override for override in overrides if not override.startswith("text_space"))]
    with tempfile.TemporaryDirectory() as run:
        places = [f"run_dir={run}", "trainer=cpu"]
        latents = build(*places, *overrides)
        spaces = {
            "BART latents": latents,
            "embeddings, std 1": build(*places, *of_learned),
            "embeddings, std 0.02": build(*places, *of_learned, "text_space.std=0.02"),
        }
    draw(directory / "routes.svg", routes())
    draw(directory / "schedules.svg", schedule_curves())
    draw(directory / "readable.svg", readable(spaces))
    draw(directory / "rank_bound.svg", bound_curve())
    draw(directory / "references.svg", references(latents))


def draw(file: Path, chart: Any) -> None:
    """Write a chart, on white, in letters that a page's width leaves readable."""
    chart = chart.configure(background="white", font="sans-serif").configure_view(stroke="#ddd")
    chart = chart.configure_axis(labelFontSize=12, titleFontSize=13, labelFlush=False).configure_header(
        labelFontSize=13
    )
    chart.configure_legend(orient="bottom", title=None, labelFontSize=12, labelLimit=300).save(file)


def configured(*overrides: str) -> Any:
    """The configuration that a job of train.py with these overrides would get."""
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def build(*overrides: str) -> Training:
    """What these overrides would train."""
    return compose_training(configured(*overrides))


def schedule_of(name: str) -> NoiseSchedule:
    return instantiate(configured(f"schedule={name}").schedule)


def lines(rows: Rows, **channels: Any) -> alt.Chart:
    return alt.Chart(alt.Data(values=rows)).mark_line(strokeWidth=2).encode(**channels).properties(**PANEL)


# ---- the two routes


def routes() -> alt.LayerChart:
    """Text to x_0 and back; noise and denoiser, which both routes share, between them."""
    boxes = [
        {"left": 150 * i, "right": 150 * i + 118, "top": top, "bottom": top + 46, "label": label}
        for top, labels in zip((26, 210), ROUTES.values(), strict=True)
        for i, label in enumerate(labels)
    ]
    shared = "x_t = alpha·x_0 + sigma·noise; a denoiser estimates x_0 from x_t"
    boxes.append({"left": 150, "right": 568, "top": 118, "bottom": 164, "label": shared})
    words = [centred(box) for box in boxes]
    words += [{"x": 134 + 150 * i, "y": y, "label": "→"} for y in (49, 233) for i in range(4)]
    words += [{"x": 359, "y": y, "label": "↕"} for y in (95, 187)]
    words += [{"x": 60, "y": y, "label": name} for y, name in zip((12, 270), ROUTES, strict=True)]
    x = alt.X("left:Q", axis=None, scale=alt.Scale(domain=[-10, 730], nice=False))
    y = alt.Y("top:Q", axis=None, scale=alt.Scale(domain=[280, 0], nice=False))
    frames = alt.Chart(alt.Data(values=boxes)).mark_rect(cornerRadius=6, fill="#eef2fb", stroke="#4c63b6")
    text = alt.Chart(alt.Data(values=words)).mark_text(fontSize=13, lineBreak="\n", lineHeight=16)
    text = text.encode(x="x:Q", y="y:Q", text="label:N")
    return alt.layer(frames.encode(x=x, x2="right", y=y, y2="bottom"), text).properties(width=720, height=280)


def centred(box: dict[str, Any]) -> dict[str, Any]:
    """Where a box's words stand."""
    more_lines = box["label"].count("\n")
    middle = (box["top"] + box["bottom"]) / 2 - 8 * more_lines
    return {"x": (box["left"] + box["right"]) / 2, "y": middle, "label": box["label"]}


# ---- schedules


def schedule_curves() -> alt.HConcatChart:
    """ᾱ and log SNR against t."""
    t = torch.linspace(0.002, 0.998, 250, dtype=torch.float64)
    rows: Rows = []
    for name in SCHEDULES:
        schedule = schedule_of(name)
        levels = zip(t.tolist(), schedule.alpha_sigma(t)[0].tolist(), schedule.log_snr(t).tolist(), strict=True)
        rows += [{"schedule": name, "t": time, "ᾱ": alpha**2, "log SNR": snr} for time, alpha, snr in levels]
    colour = alt.Color("schedule:N", sort=SCHEDULES)
    return alt.hconcat(*(lines(rows, x="t:Q", y=f"{quantity}:Q", color=colour) for quantity in ("ᾱ", "log SNR")))


# ---- what noise leaves readable


def readable(spaces: dict[str, Training]) -> alt.FacetChart:
    """Share of the tokens that the nearest clean neighbour still reads, as preflight measures it."""
    rows = [
        {"space": name, "schedule": f"schedule={label}", "t": t, "share": share}
        for name, training in spaces.items()
        for label in ("sqrt", "linear")
        for t, share in zip(ACROSS, readable_shares(training, schedule_of(label)), strict=True)
    ]
    x = alt.X("t:Q", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("share:Q", title="tokens read", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    chart = lines(rows, x=x, y=y, color=alt.Color("space:N", sort=list(spaces))).mark_line(point={"size": 45})
    return chart.facet(column=alt.Column("schedule:N", title=None, sort="descending"))


@torch.no_grad()
def readable_shares(training: Training, schedule: NoiseSchedule) -> list[float]:
    """At the times of `ACROSS`."""
    batch = {name: value[:TEXTS] for name, value in next(iter(training.data.train_dataloader())).items()}
    x_0, mask = training.model.encode_batch(batch)
    check = readable_share(x_0, batch["tokens"].masked_fill(~batch["mask"], -1), mask, schedule)
    return [int(percent) / 100 for percent in re.findall(r"(\d+)%", check.measured)]


# ---- the rank bound


def bound_curve(dim: int = 768) -> alt.LayerChart:
    """Isotropic noise projected onto c of its d dimensions, beside √(c/d)."""
    noise, mask = torch.randn(8, 64, dim), torch.ones(8, 64, dtype=torch.bool)
    basis = torch.linalg.qr(torch.randn(dim, dim))[0]
    measured = []
    for rank in (16, 64, 128, 256, 384, 512, 640, 768):
        projected = noise @ basis[:, :rank] @ basis[:, :rank].T
        figures = cosine_and_magnitude(projected, noise, mask)
        for name, figure in zip(("cosine similarity", "magnitude ratio"), figures, strict=True):
            measured.append({"c": rank, "best": float(figure.mean()), "measured": name})
    formula = [{"c": c, "best": rank_bound(c, dim), "measured": "√(c/d)"} for c in range(1, dim + 1, 4)]
    x, y = alt.X("c:Q", title=f"c, width of the output; d = {dim}"), alt.Y("best:Q", title="at most")
    channels = {"x": x, "y": y, "color": "measured:N"}
    size = alt.Size(
        "measured:N", scale=alt.Scale(domain=["cosine similarity", "magnitude ratio"], range=[25, 160]), legend=None
    )
    points = alt.Chart(alt.Data(values=measured)).mark_point().encode(size=size, **channels)
    return (lines(formula, **channels) + points).properties(width=600, height=260)


# ---- reference predictors


@torch.no_grad()
def references(training: Training) -> alt.FacetChart:
    """Cosine similarity of what needs no training, by t."""
    model = training.model
    x_0, mask = model.encode_batch(next(iter(training.data.train_dataloader())))
    rows: Rows = []
    for t in torch.linspace(0.02, 0.98, 25):
        noisy = model.noised(x_0, torch.randn_like(x_0), t.expand(len(x_0)), mask)
        for name, predictor in (("do_nothing", do_nothing), ("linear", model.linear)):
            estimate = predictor(noisy.x_t, noisy.alpha, noisy.sigma)
            for of, ours, true in (("noise", estimate.noise, noisy.noise), ("x_0", estimate.x_0, x_0)):
                cosine = float(cosine_and_magnitude(ours, true, mask)[0].mean())
                rows.append({"predictor": TITLES[name], "of": f"of {of}", "t": float(t), "cosine": cosine})
    y = alt.Y("cosine:Q", title="cosine similarity", scale=alt.Scale(domain=[0, 1]))
    return lines(rows, x="t:Q", y=y, color="predictor:N").facet(column=alt.Column("of:N", title=None))


if __name__ == "__main__":
    main(sys.argv[1:])
