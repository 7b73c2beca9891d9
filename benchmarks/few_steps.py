"""How few evaluations a sample takes: of a run by its own sampler and by deterministic ones, and of a student of it.

    python -m benchmarks.few_steps run=RUN judge=RUN [OVERRIDE ...]

RUN is of the embedding route, the judge one of model=autoregressive in the same tokens. Trains a student by
experiment=distil with these overrides, draws the frontiers that docs/few_steps.jsonl has no row of, then writes
docs/pages/few_steps_measured.md. It can be stopped and started again at any time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.rows import ROOT, Row, add_row, call, newest, read_rows, table, trained
from diffusion_text.commands import arguments
from diffusion_text.runs import Run
from diffusion_text.tracking.records import Record

RUNS = ROOT / "outputs" / "few_steps"
ROWS, PAGE = ROOT / "docs" / "few_steps.jsonl", ROOT / "docs" / "pages" / "few_steps_measured.md"
TEXTS, NFE = 128, (1, 2, 4, 8, 16, 64, 1000)
BRIEF = [
    "num_samples=0", "callbacks.samples=null", "report.quality=0", "report.frontier=0", "report.garbled=0",
    "report.trace_steps=0",
]  # fmt: skip
FRONTIER = [
    "task=frontier", f"num_samples={TEXTS}", f"batch_size={TEXTS}", "task.churn=[]",
    "task.score_temperatures=[1.2,1,0.85]",
]  # fmt: skip


class Way(NamedTuple):
    """How samples are drawn: whose, with which settings, in how many evaluations; in how many the network judges."""

    whose: str
    settings: list[str]
    nfe: tuple[int, ...]
    judged: tuple[int, ...] = ()


WAYS = {
    "teacher, its own sampler": Way("teacher", [], (4, 8, 16, 64, 1000), (8, 64)),
    "teacher, `sampler=ddim`": Way("teacher", ["sampler=ddim"], NFE[:-1], (4, 64)),
    "teacher, `sampler=dpm_solver`": Way("teacher", ["sampler=dpm_solver"], (4, 8, 16)),
    "student": Way("student", [], (1, 2, 4, 8, 16), (4,)),
    "student, `sampler=churn`": Way("student", ["sampler=churn"], (4, 8, 16, 64), (8, 64)),
}


def main(argv: list[str]) -> None:
    own = [argument for argument in argv if argument.startswith(("run=", "judge="))]
    _, chosen = arguments(own, {"run": "", "judge": ""})
    runs = {"teacher": Path(chosen["run"]).resolve(), "student": RUNS / "student"}
    overrides = [argument for argument in argv if argument not in own]
    trained(runs["student"], "experiment=distil", f"run={runs['teacher']}", *BRIEF, *overrides)
    teacher, student = (Record(Run(run)) for run in runs.values())
    for name, way in WAYS.items():
        for judge, many, judged_by in (
            ("5-gram", way.nfe, []),
            ("network", way.judged, [f"task.judge={Path(chosen['judge']).resolve()}"]),
        ):
            key = f"{name}, judged by {judge}"
            if many and key not in read_rows(ROWS):
                spacing = f"sampler.spacing={teacher.config['sampler']['spacing']}"
                out = RUNS / key.replace("`", "").replace(", ", "-").replace(" ", "-")
                evaluations = f"task.nfe=[{','.join(map(str, many))}]"
                settings = [*FRONTIER, *way.settings, spacing, evaluations, *judged_by]
                call("sample.py", f"run={runs[way.whose]}", f"out={out}", *settings)
                frontier = json.loads(newest(out, "frontier*.json").read_text(encoding="utf-8"))
                add_row(ROWS, {"name": key, "way": name, "judge": judge, "frontier": frontier})
    PAGE.write_text(render(read_rows(ROWS), teacher, student), encoding="utf-8")
    print(PAGE)


# ---- the page


def render(rows: dict[str, Row], teacher: Record, student: Record) -> str:
    """Judge NLL by evaluations, by another judge as well, and what plain samples are like."""
    real, route = next(iter(rows.values()))["frontier"]["real"], student.config["route"]
    judged = sorted({nfe for way in WAYS.values() for nfe in way.judged})
    parts = [
        "# Few steps, measured",
        f"Made by `python -m benchmarks.few_steps`. The teacher is `{teacher.name}`, {teacher.figures['parameters']:,} "
        f"parameters; the student learned {student.figures['step']:,} steps, in {student.figures['seconds'] / 60:.0f} "
        f"minutes, to go in {route['steps']} evaluations where DDIM goes in {route['teacher_steps']}. Judge NLL is at "
        f"real text's entropy of {real['text_entropy']:.2f}, where real text has {real['judge_nll']:.3f}; ± is the "
        f"standard error over {TEXTS} texts. A dash: no score temperature reaches that entropy.",
        table(["judge NLL, NFE", *map(str, NFE)], [line(rows, name, "5-gram", NFE) for name in WAYS]),
        "Judged by an autoregressive model of the same tokens instead:",
        table(
            ["judge NLL, NFE", *map(str, judged)],
            [line(rows, name, "network", judged) for name, way in WAYS.items() if way.judged],
        ),
        "Samples at score temperature 1, and what repetition or copying would show in:",
        table(["", "NFE", "entropy of each", "of all", "distinct 3-grams", "memorised"], plain(rows)),
    ]
    return "\n\n".join(parts) + "\n"


def line(rows: dict[str, Row], way: str, judge: str, evaluations: Iterable[int]) -> list[str]:
    """A way's judge NLL at real text's entropy; a dash where no setting reaches that."""
    drawn = {point["nfe"] for point in rows[f"{way}, judged by {judge}"]["frontier"]["points"]}
    found = {at["nfe"]: at for at in rows[f"{way}, judged by {judge}"]["frontier"]["at_real_entropy"]}
    told = {nfe: f"{at['judge_nll']:.3f} ± {at['standard_error']:.3f}" for nfe, at in found.items()}
    return [way, *(told.get(nfe, "–" if nfe in drawn else "") for nfe in evaluations)]


def plain(rows: dict[str, Row]) -> list[list[str]]:
    """What samples at score temperature 1 are like, of every way and number of evaluations."""
    figures = ("text_entropy", "entropy", "distinct_3", "memorised")
    return [
        [row["way"], str(point["nfe"]), *(f"{point[name]:.3f}" for name in figures)]
        for row in rows.values()
        if row["judge"] == "5-gram"
        for point in row["frontier"]["points"]
        if point["value"] == 1 and point["nfe"] >= min(WAYS["teacher, its own sampler"].nfe)
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
