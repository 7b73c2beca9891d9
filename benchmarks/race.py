"""The race: diffusion over embeddings beside masked diffusion and an autoregressive model, all else equal.

    python -m benchmarks.race data.dir=PATH [steps=1000] [seeds=0,1,2] [OVERRIDE ...]

tiny_shakespeare by characters; the same blocks, tokens, batches and steps for all. Runs what docs/race.jsonl has no row
for, then writes docs/pages/race.md and its picture. It can be stopped and started again at any time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
from omegaconf import OmegaConf

from benchmarks.rows import ROOT, Row, add_row, looked_at, read_rows, table, trained
from diffusion_text.commands import arguments

RUNS = ROOT / "outputs" / "race"
ROWS, PAGE = ROOT / "docs" / "race.jsonl", ROOT / "docs" / "pages" / "race.md"
PICTURE = PAGE.with_name("pictures") / "race.svg"
CONTESTANTS = {  # name: overrides
    "embedding_flow": ["experiment=embedding_flow"],
    "masked_diffusion": ["experiment=masked_diffusion"],
    "autoregressive": ["experiment=autoregressive"],
    "diffusion_lm_small": ["experiment=diffusion_lm_small"],
    "diffusion_lm_reference": [
        "experiment=diffusion_lm_reference", "tokenizer=characters", "optimizer.lr=1e-3", "model.width=128",
        "model.depth=4", "model.heads=4",
    ],
    "diffusion_lm_original": ["experiment=diffusion_lm_original_small", "data.batch_size=64"],
}  # fmt: skip
BASELINES = ("masked_diffusion", "autoregressive")  # which no solver of ours samples
STUDENTS = {"embedding_flow, then a student": "embedding_flow"}  # of that contestant, for as many steps again
STUDENT = ["experiment=distil", "sampler=churn", "sampler.spacing=training"]
ABLATIONS = {  # of embedding_flow, one change each
    "heads start uniform": ["model.local_heads=null"],
    "gates start at 0.1": ["model.gates=0.1"],
    "AdamW at 2e-3": ["optimizer=adamw", "optimizer.lr=2e-3", "~optimizer.muon_lr"],
    "without the reference beside x_t": ["route.reads_reference=false"],
    "no self-conditioning": ["route.self_conditioning=0"],
    "embeddings 32 wide": ["text_space.dim=32"],
    "sampler=ddpm": ["sampler=ddpm"],
    "schedule=log_snr_linear": ["schedule=log_snr_linear"],
    "schedule=learned": ["schedule=learned", "time_sampling=stratified"],
}
TUNED = ("embedding_flow", *BASELINES)
RATES = {  # of those, each beside its own recipe's
    f"{name}, rates {word}": [*CONTESTANTS[name], *(f"optimizer.{rate}={by * optimizer[rate]:g}" for rate in optimizer)]
    for name in TUNED
    for optimizer in [OmegaConf.load(ROOT / "conf" / "experiment" / f"{name}.yaml").optimizer]
    for word, by in (("halved", 0.5), ("doubled", 2))
}
BRIEF = [
    "precision=bf16", "trainer=cpu", "data.eval_texts=256", "callbacks.samples=null", "report.quality=0",
    "report.frontier=0", "report.garbled=0", "report.trace_steps=0", "num_samples=0", "trainer.val_check_interval=250",
]  # fmt: skip
TEXTS, JUDGED, NFE = 860, 128, (16, 64)
FRONTIER = [
    "task=frontier", f"num_samples={JUDGED}", f"batch_size={JUDGED}", "task.score_temperatures=[1.4,1.2,1,0.85]",
    "task.temperatures=[0,1]", "task.churn=[]",
]  # fmt: skip
BROAD = [*FRONTIER, "task.score_temperatures=[2,1.7,1.4,1.2,1]"]  # for students, whose samples vary less
SOLVER = [*FRONTIER, "sampler=dpm_solver", "sampler.spacing=training", f"task.nfe=[{min(NFE)}]"]
JUDGE = ["experiment=autoregressive", "trainer.max_steps=2000", "seed=100"]
TOKENS = 64 * 64  # a training step's


def main(argv: list[str]) -> None:
    own = [argument for argument in argv if argument.startswith(("steps=", "seeds="))]
    overrides = [argument for argument in argv if argument not in own]
    _, chosen = arguments(own, {"steps": 1000, "seeds": "0,1,2"})
    for seed in chosen["seeds"].split(","):
        ruled = [f"trainer.max_steps={chosen['steps']}", f"seed={seed}", *overrides]
        ending = f"{chosen['steps']} steps, seed {seed}"
        for name, recipe in recipes(seed).items():
            if (key := f"{name}, {ending}") not in read_rows(ROWS):
                judge = finished("judge", [*JUDGE, *overrides])
                if name in STUDENTS:
                    teacher = STUDENTS[name]
                    recipe = [*recipe, f"run={finished(f'{teacher}, {ending}', [*CONTESTANTS[teacher], *ruled])}"]
                measure(key, name, finished(key, [*recipe, *ruled]), judge)
    rows = list(read_rows(ROWS).values())
    PAGE.write_text(render(rows), encoding="utf-8")
    frontiers(rows).save(PICTURE)
    print(PAGE)


def recipes(seed: str) -> dict[str, list[str]]:
    """Of every contestant, by name, and every student; of every other rate and every ablation, for the first seed."""
    ablations = {name: [*CONTESTANTS["embedding_flow"], *changes] for name, changes in ABLATIONS.items()}
    return CONTESTANTS | dict.fromkeys(STUDENTS, STUDENT) | (RATES | ablations if seed == "0" else {})


def finished(key: str, recipe: list[str]) -> Path:
    """A finished run of this recipe."""
    return trained(RUNS / key.replace(", ", "-").replace(" ", "-"), *BRIEF, *recipe)


def measure(key: str, name: str, run: Path, judge: Path) -> None:
    """Score real text, draw the frontiers; keep the figures."""
    tasks = {} if name in STUDENTS else {"nll": ["task=nll", f"num_samples={TEXTS}"]}
    if name not in RATES:
        settings = BROAD if name in STUDENTS else FRONTIER
        tasks["frontier"] = [*settings, f"task.nfe=[{','.join(map(str, NFE))}]"]
        tasks["judged"] = [*settings, f"task.nfe=[{max(NFE)}]", f"task.judge={judge}"]
    if name not in (*RATES, *BASELINES, *STUDENTS):
        tasks["solver"] = SOLVER
    figures = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    found = {task: json.loads(looked_at(run, task, "*.json", *settings)) for task, settings in tasks.items()}
    nll = found.pop("nll", None)
    row: dict[str, Any] = {"name": key, "contestant": name, "steps": figures["step"], "seconds": figures["seconds"]}
    row |= {"parameters": figures["parameters"]}
    if nll:
        row |= {"kind": nll["kind"], "nats": nll["nats_per_token"]["total"]}
    add_row(ROWS, row | found)


# ---- the page


def render(rows: list[Row]) -> str:
    """A table of the contestants, and one of what each ingredient is worth."""
    real = drawn(rows)[0]["frontier"]["real"]
    parts = [
        "# The race",
        "Made by `python -m benchmarks.race`: tiny_shakespeare by characters, 64 of them a text, 64 texts a step, bf16 "
        "on a CPU; the same blocks (4 of width 128) for all but diffusion_lm_original. Latents hold other tokens and "
        f"are [judged apart](latent_flow.md). Likelihood of the first {TEXTS} texts of the test split; "
        f"{JUDGED} samples a setting. Judge NLL is at real text's entropy of {real['text_entropy']:.2f}, where real "
        f"text has {real['judge_nll']:.3f}. The other judge is an autoregressive model of "
        "another seed, trained for 2,000 steps. Solver: DPM-Solver++ (2M) in place of the recipe's own sampler. "
        f"Distinct: share of all 3-grams at that entropy, NFE {max(NFE)}; real text has {real['distinct_3']:.3f}, and "
        "less is texts that are more alike than real ones, which the entropy of each does not show. "
        "Memorised: 8-grams that the training split has, at temperature 1. "
        "A student learns from a finished run for as many steps again, and is sampled with churn; it has no bound. "
        "Empty: no such figure, or no setting whose samples have real text's entropy. "
        "Tokens a second are by the clock, whatever else ran: speeds are compared by `python -m benchmarks`. "
        "Means over seeds, ± half the range between them.",
        "![Judge NLL against entropy: a line for each contestant and seed that comes to real text's, and real text as "
        "a point]"
        f"({PICTURE.relative_to(PAGE.parent)})",
    ]
    for steps in sorted({row["steps"] for row in rows}):
        of_length = [row for row in rows if row["steps"] == steps]
        parts += [f"## {steps:,} steps", compared(of_length, [*CONTESTANTS, *STUDENTS])]
        for title, plain, changed in (
            ("Other rates", TUNED, RATES),
            ("`embedding_flow` with one change", ("embedding_flow",), ABLATIONS),
        ):
            if any(row["contestant"] in changed for row in of_length):
                parts += [f"### {title}", compared(of_length, [*plain, *changed])]
    return "\n\n".join(parts) + "\n"


def compared(rows: list[Row], names: Any) -> str:
    """A line for each of these that was run, the likeliest first."""
    found = {name: [row for row in rows if row["contestant"] == name] for name in names}
    kept = {name: some for name, some in found.items() if some}
    ordered = sorted(kept, key=lambda name: np.nan_to_num(np.mean(list(map(nats, kept[name]))), nan=np.inf))
    judged = [*(f"judge NLL, NFE {nfe}" for nfe in NFE), f"solver, NFE {min(NFE)}", f"other judge, NFE {max(NFE)}"]
    header = ["", "parameters", "nats a character", *judged, "distinct", "memorised", "tokens a second", "seeds"]
    return table(header, [line(name, kept[name]) for name in ordered])


def line(name: str, rows: list[Row]) -> list[str]:
    """A contestant's figures."""
    sign = "≤ " if rows[0].get("kind") == "bound" else ""
    asked = [*(("frontier", nfe) for nfe in NFE), ("solver", min(NFE)), ("judged", max(NFE))]
    judged = [spread([read_off(row[task], nfe) if task in row else np.nan for row in rows]) for task, nfe in asked]
    likely, *others = (spread([figure(row) for row in rows]) for figure in (nats, distinct, memorised))
    rate = np.mean([row["steps"] * TOKENS / row["seconds"] for row in rows])
    return [name, f"{rows[0]['parameters']:,}", sign + likely, *judged, *others, f"{rate:,.0f}", str(len(rows))]


def frontiers(rows: list[Row]) -> alt.LayerChart:
    """Judge NLL against entropy over what each contestant trades one for the other with, at its greatest NFE; of those
    that reach real text's entropy.
    """
    points = [
        {"contestant": f"{row['contestant']}, {row['steps']:,} steps", "run": row["name"], **point}
        for row in drawn(rows)
        if row["contestant"] in CONTESTANTS | STUDENTS and row["frontier"]["at_real_entropy"]
        for point in row["frontier"]["points"]
        if point["nfe"] == max(other["nfe"] for other in row["frontier"]["points"])
    ]
    x = alt.X("text_entropy:Q", title="entropy of each text, nats a character", scale=alt.Scale(zero=False))
    y = alt.Y("judge_nll:Q", title="judge NLL, nats a character", scale=alt.Scale(zero=False))
    colour = alt.Color("contestant:N", legend=alt.Legend(orient="bottom", title=None, columns=3, labelLimit=0))
    lines = alt.Chart(alt.Data(values=points)).mark_line(point=True)
    lines = lines.encode(x=x, y=y, color=colour, detail="run:N", order="value:Q")
    real = {"contestant": "real text", **drawn(rows)[0]["frontier"]["real"]}
    goal = alt.Chart(alt.Data(values=[real])).mark_point(size=160, filled=True, shape="diamond")
    chart = alt.layer(lines, goal.encode(x=x, y=y, color=colour)).properties(width=560, height=360)
    return chart.configure(background="white", font="sans-serif")


def drawn(rows: list[Row]) -> list[Row]:
    """Those with a frontier."""
    return [row for row in rows if "frontier" in row]


def nats(row: Row) -> float:
    """A character."""
    return row["nats"]["value"] if "nats" in row else np.nan


def memorised(row: Row) -> float:
    """The share of 8-grams that training texts have, of the plain samples at the greatest NFE."""
    if "frontier" not in row:
        return np.nan
    plain = [
        point for point in row["frontier"]["points"] if "temperature" in point["knob"] and point["value"] in (0, 1)
    ]
    return max(plain, key=lambda point: point["nfe"])["memorised"]


def distinct(row: Row) -> float:
    """The share of all 3-grams at real text's entropy and the greatest NFE."""
    return read_off(row["frontier"], max(NFE), "distinct_3") if "frontier" in row else np.nan


def read_off(frontier: dict[str, Any], nfe: int, figure: str = "judge_nll") -> float:
    """What samples have there; one that has no choice of NFE has it at the greatest."""
    at = {found["nfe"]: found[figure] for found in frontier["at_real_entropy"]}
    return at.get(nfe, np.nan)


def spread(values: list[float]) -> str:
    """The mean, and half the range."""
    if np.isnan(values).any():
        return ""
    half = (max(values) - min(values)) / 2
    return f"{np.mean(values):.3f}" + (f" ± {half:.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main(sys.argv[1:])
