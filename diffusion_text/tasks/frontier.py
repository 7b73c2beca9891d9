"""The frontier of quality and variety, and a run's sample quality: judge NLL at real text's entropy."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar, NamedTuple

import torch
from rich.table import Table

from diffusion_text.data.base import SPLITS
from diffusion_text.diagnostics.preflight import relative_change
from diffusion_text.diffusion.bound import Mean
from diffusion_text.diffusion.samplers import DDIMSampler, GaussianSampler
from diffusion_text.figures import SAMPLES, Figure
from diffusion_text.metrics.frontier import TextScores, at_entropy, interpolated
from diffusion_text.models.text_diffusion import TextDiffusion
from diffusion_text.models.writing import Sampled, root_mean_square
from diffusion_text.shapes import Tokens
from diffusion_text.storage import write_json, write_text
from diffusion_text.tasks.probe import denoised
from diffusion_text.tasks.session import Session
from diffusion_text.tracking.charts import for_page, frontier
from diffusion_text.tracking.pages import render
from diffusion_text.tracking.terminal import console
from diffusion_text.values import listed, number, one_of, or_null, whole, words


class Point(NamedTuple):
    """Samples at one value of a knob that trades quality for variety, all else as the run has it."""

    nfe: int
    knob: str
    value: float
    scores: TextScores
    figures: dict[str, float]


class Decoded(NamedTuple):
    """Real texts whose x_0 has errors of the size that the denoiser leaves in its last evaluation, `error` by that of
    x_0, decoded: no denoiser that errs as much writes better than this.
    """

    error: float
    scores: TextScores


class Reached(NamedTuple):
    """What samples are like at real text's entropy of each, turned there by a knob: the entropy of all together and
    their distinct 3-grams say how alike they are, which that of each does not.
    """

    knob: str
    judge_nll: Mean
    entropy: float
    distinct_3: float


class Measured(NamedTuple):
    """Samples at every setting, real texts with their figures, and for each NFE the lowest judge NLL at real text's
    entropy; None where no knob reaches that. And what decoding alone makes of real texts, where there is an x_0.
    """

    points: list[Point]
    real: TextScores
    real_figures: dict[str, float]
    qualities: dict[int, Reached | None]
    decoded: Decoded | None = None


class Frontier:
    """Sample `num_samples` texts at each number of network evaluations `nfe` and each value of each of the model's
    knobs: temperature of the scores where it says how likely each token is, and of the rounding otherwise;
    churn (DDIM's η: 0 is deterministic, 1 has DDPM's noise). Real texts of `split` are the point to reach.

    `judge`: a run of model=autoregressive in the same tokens that judges in place of the 5-gram.
    """

    FIGURES: ClassVar = {
        "sample_quality": Figure("estimate", "nats a token at real text's entropy", SAMPLES, "lower"),
        "sample_quality_error": Figure("estimate", "nats a token", SAMPLES),
        "sample_quality_entropy": Figure("estimate", "nats, of all together at real text's entropy of each", SAMPLES),
        "sample_quality_distinct_3": Figure("estimate", "share of all 3-grams, at real text's entropy", SAMPLES),
    }

    def __init__(
        self,
        nfe: Sequence[int] = (16, 64),
        score_temperatures: Sequence[float] = (1.2, 1.0, 0.85, 0.7, 0.5),
        temperatures: Sequence[float] = (0.0, 0.5, 0.75, 1.0, 1.25),
        churn: Sequence[float] = (0.0, 1.0, 2.0, 4.0),
        split: str = "test",
        judge: str | None = None,
    ):
        self.judge = or_null(words, judge, "task.judge")
        self.nfe = listed(nfe, "task.nfe", whole, fewest=1, least=1)
        self.split = one_of(split, "task.split", SPLITS)
        self.knobs = {
            "temperature": listed(score_temperatures, "task.score_temperatures", number, above=0),
            "score temperature": listed(score_temperatures, "task.score_temperatures", number, above=0),
            "rounding temperature": listed(temperatures, "task.temperatures", number, least=0),
            "churn": listed(churn, "task.churn", number, least=0),
        }

    def __call__(self, session: Session) -> None:
        measured = self.measure(session)
        self.show(session, measured)
        print(self.write(session, measured))

    def measure(self, session: Session) -> Measured:
        """Sample at every setting, and read the quality off at real text's entropy."""
        texts = session.judge.real(self.split, session.num_samples)
        real = session.judge.scores(texts)
        points = list(self.points(session))
        decoded = self.decoded(session, texts) if isinstance(session.model, TextDiffusion) else None
        return Measured(points, real, session.judge(texts).figures, self.qualities(points, real), decoded)

    @torch.no_grad()
    def decoded(self, session: Session, tokens: Tokens) -> Decoded:
        """What is left of real texts where nothing but the denoiser's last error, and decoding, has touched them.

        Samples are farther from any real text's x_0 than that: what they lose in decoding may be more.
        """
        model, space, sampler = session.diffusion, session.diffusion.text_space, copy.copy(session.sampler)
        assert isinstance(sampler, GaussianSampler)
        sampler.spend(max(self.nfe))
        alpha, sigma = model.schedule.alpha_sigma(sampler.times(model.schedule, drawn=model.time_sampling)[-2:-1])
        level, generator = float(sigma / alpha), torch.Generator().manual_seed(session.seed)
        errors, texts = [], []
        for some in tokens.to(model.device).split(session.batch_size):
            token_mask = some != space.tokenizer.pad_token_id
            x_0, mask = space.encode(some, token_mask), space.latent_mask(token_mask)
            noise, spoiling = (torch.randn(x_0.shape, generator=generator).to(x_0) for _ in range(2))
            errors.append(relative_change(denoised(model, x_0 + level * noise, level, mask)[mask], x_0[mask]))
            spoilt = x_0 + errors[-1] * root_mean_square(x_0, mask) * spoiling
            texts.append(Sampled(model.reader.decode(spoilt, mask)))
        return Decoded(mean(errors), session.judge.scores(model.joined(texts).tokens))

    def points(self, session: Session) -> Iterator[Point]:
        """Samples at every setting."""
        for nfe in self.nfe if session.sampler.any_steps else [session.sampler.nfe]:
            for knob in session.model.knobs:
                for value in map(float, self.knobs[knob]):
                    turned = self.turned(session, nfe, knob, value)
                    tokens = turned.sample().tokens
                    scores, found = session.judge.scores(tokens), session.judge(tokens)
                    yield Point(turned.sampler.nfe, knob, value, scores, found.figures)

    def turned(self, session: Session, nfe: int, knob: str, value: float) -> Session:
        """The session with one knob at a value."""
        sampler = copy.copy(session.sampler)
        if knob == "churn":
            assert isinstance(sampler, GaussianSampler)
            temperature = sampler.score_temperature
            sampler = DDIMSampler(clip=sampler.clip, spacing=sampler.spacing, snap=sampler.snap, eta=value)
            sampler.score_temperature = temperature
        sampler.spend(nfe)
        if knob in ("score temperature", "temperature"):
            setattr(sampler, knob.replace(" ", "_"), value)
        return replace(
            session, sampler=sampler, temperature=value if knob == "rounding temperature" else session.temperature
        )

    def qualities(self, points: list[Point], real: TextScores) -> dict[int, Reached | None]:
        """For each NFE what has the lowest judge NLL at real text's entropy; None where no knob reaches it."""
        best: dict[int, Reached | None] = dict.fromkeys(point.nfe for point in points)
        for nfe, knob in dict.fromkeys((point.nfe, point.knob) for point in points):
            turned = [point for point in points if (point.nfe, point.knob) == (nfe, knob)]
            curve, so_far = [point.scores for point in turned], best[nfe]
            found = at_entropy(curve, real.entropy)
            if found is not None and (so_far is None or found.value < so_far.judge_nll.value):
                alike = {
                    name: interpolated(curve, real.entropy, [point.figures[name] for point in turned])
                    for name in ("entropy", "distinct_3")
                }
                best[nfe] = Reached(knob, found, **alike)
        return best

    def show(self, session: Session, measured: Measured) -> None:
        """Print the table, and the sample quality at each NFE."""
        points, real, real_figures, *_ = measured
        table = Table(title=f"{session.num_samples} texts a setting", title_justify="left")
        for column in ("NFE", "knob", "value", "judge NLL", "entropy of each", "of all", "distinct 3-grams"):
            table.add_column(column, justify="left" if column == "knob" else "right")
        for point in points:
            table.add_row(str(point.nfe), point.knob, f"{point.value:g}", *cells(point.scores, point.figures))
        table.add_row("", "real text", "", *cells(real, real_figures))
        out = console()
        out.print(table)
        for sentence in sentences(measured):
            out.print(sentence, highlight=False, markup=False)

    def write(self, session: Session, measured: Measured) -> Path:
        """All figures as .json, and a page with the chart; returns the page."""
        points, real, real_figures, qualities, decoded = measured
        rows = [
            {"nfe": p.nfe, "knob": p.knob, "value": p.value} | p.figures | {"judge_nll": p.scores.judge_nll}
            for p in points
        ]
        told: list[dict[str, Any]] = [
            {"nfe": nfe, **found._asdict(), "judge_nll": found.judge_nll.value}
            | {"standard_error": found.judge_nll.standard_error}
            for nfe, found in qualities.items()
            if found
        ]
        beside = real_figures | {"judge_nll": real.judge_nll}
        facts = {"real": beside, "seed": session.seed}
        path = session.file("frontier", ".json")
        facts |= {"num_samples": session.num_samples, "judge": self.judge or "5-gram"}
        if decoded is not None:
            error, scores = decoded
            facts["decoded"] = {"error": error, "judge_nll": scores.judge_nll, "text_entropy": scores.entropy}
        written = {"at_real_entropy": told, **facts, "points": rows}
        write_json(path, written)
        [chart] = frontier(written).values()
        name = session.run.directory.resolve().name
        last = {"nfe": "", "knob": "real text", "value": ""} | beside
        charts = {"frontier": for_page(chart, alone=True)}
        page = render("frontier.html", charts, name=name, sentences=sentences(measured), rows=[*rows, last])
        write_text(path.with_suffix(".html"), page)
        return path.with_suffix(".html")


def cells(scores: TextScores, figures: dict[str, float]) -> list[str]:
    """A row of the table."""
    return [f"{each:.3f}" for each in (scores.judge_nll, scores.entropy, figures["entropy"], figures["distinct_3"])]


def nearest(measured: Measured, nfe: int) -> str:
    """What comes closest to real text's entropy where nothing reaches it."""
    drawn = [point for point in measured.points if point.nfe == nfe and point.scores.tokens.sum()]
    if not drawn:
        return "there is no text"
    point = min(drawn, key=lambda point: abs(point.scores.entropy - measured.real.entropy))
    return f"nearest is {point.scores.judge_nll:.3f} at {point.scores.entropy:.2f}, by {point.knob}"


def sentences(measured: Measured) -> list[str]:
    """The sample quality at each NFE, beside real text's own judge NLL, and what decoding alone makes of that."""
    real, figures = measured.real, measured.real_figures
    goal = f"real text's entropy of {real.entropy:.2f} (real text {real.judge_nll:.2f})"
    said = [
        f"NFE {nfe}: judge NLL {found.judge_nll.value:.3f} ± {found.judge_nll.standard_error:.3f} at {goal}, by "
        f"{found.knob}; entropy of all together {found.entropy:.2f} ({figures['entropy']:.2f}), distinct 3-grams "
        f"{found.distinct_3:.0%} ({figures['distinct_3']:.0%})."
        if found
        else f"NFE {nfe}: no setting reaches {goal}; {nearest(measured, nfe)}."
        for nfe, found in measured.qualities.items()
    ]
    if measured.decoded is not None:
        error, scores = measured.decoded
        said.append(
            f"Real texts with the denoiser's last error on x_0, {error:.2f} of its size, decoded: judge NLL "
            f"{scores.judge_nll:.3f} at entropy {scores.entropy:.2f}, the least that decoding leaves."
        )
    return said
