"""A W&B workspace for this project's runs.

    python -m diffusion_text.tracking.dashboard entity=ENTITY project=PROJECT [dry_run=true]

Saves a view in the project with noise prediction against the reference predictors, text quality beside real text's, the
embeddings' health, samples and traces, and speed. Log runs to it with python train.py logger=wandb.

    entity=ENTITY     your W&B user or team
    project=PROJECT   default: diffusion_text, as logger.wandb.project
    name=NAME         the view's; default: Diffusion over text
    dry_run=true      write the view as JSON instead, without network or login
    file=FILE         where to; default: dashboard.json

Needs an extra: pip install -e ".[dashboard]"
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusion_text.commands import arguments, command
from diffusion_text.errors import UserError, first_line
from diffusion_text.tracking.titles import INFORMATION, QUALITY, QUANTITIES

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

DEFAULTS: dict[str, Any] = {
    "entity": "",
    "project": "diffusion_text",
    "name": "Diffusion over text",
    "dry_run": False,
    "file": "dashboard.json",
}
REFERENCES = ("do_nothing", "linear")
STEP, T, LOG_SNR = "trainer/global_step", "diagnostics/t", "diagnostics/log_snr"


def main(argv: list[str]) -> None:
    """Save the view, or write it as JSON."""
    positionals, values = arguments(argv, DEFAULTS)
    if positionals:
        raise UserError(f"{positionals[0]}: arguments are NAME=VALUE, and --help explains them")
    if values["dry_run"]:
        file = Path(values["file"])
        file.write_text(as_json(workspace(values["entity"], values["project"], values["name"])), encoding="utf-8")
        print(file)
        return
    if not values["entity"]:
        raise UserError("whose dashboard? entity=ENTITY is your W&B user or team; dry_run=true needs none")
    save(workspace(values["entity"], values["project"], values["name"]))


def workspace(entity: str, project: str, name: str) -> Workspace:
    """The view; raises UserError where wandb-workspaces is not installed."""
    try:
        from wandb_workspaces.workspaces import Workspace
    except ModuleNotFoundError as error:
        raise UserError('dashboards need wandb-workspaces: pip install -e ".[dashboard]"') from error
    sections = [information(), noise_prediction(), text_quality(), embedding_health(), samples(), speed()]
    return Workspace(entity=entity, project=project, name=name, sections=sections)


def as_json(view: Workspace) -> str:
    """The view as W&B stores it; by way of a private method, to which the extra's version is pinned."""
    return view._to_model().model_dump_json(by_alias=True, indent=2) + "\n"


def save(view: Workspace) -> None:
    """Into the project on W&B; prints where."""
    import wandb

    try:
        print(view.save().url)
    except (wandb.Error, OSError) as error:
        raise UserError(f"W&B: {first_line(error)}") from error


# ---- sections


def information() -> Section:
    """What the model knows beyond its reference, whatever its schedule."""
    over_time = [
        ("information, nats a token", STEP, ["val/information"]),
        ("found and lost", STEP, ["val/information_found", "val/information_lost"]),
        ("skill", STEP, ["val/skill"]),
    ]
    by_snr = [(f"{title}, by log SNR", LOG_SNR, [f"diagnostics/{name}"]) for name, title in INFORMATION.items()]
    return section("Information", [lines(*plot) for plot in over_time + by_snr])


def noise_prediction() -> Section:
    """The model, in training and validation, and the reference predictors in the same plots."""
    overall, by_t, by_bin = [], [], []
    for quantity, title in QUANTITIES.items():
        bounded = quantity.startswith("noise")
        references = [f"val/{name}/{quantity}" for name in REFERENCES] + ["val/bound"] * bounded
        overall.append((title, STEP, [f"train/{quantity}", f"val/{quantity}", *references]))
        references = [f"diagnostics/{name}/{quantity}" for name in REFERENCES] + ["diagnostics/bound"] * bounded
        by_t.append((f"{title}, against t", T, [f"diagnostics/{quantity}", *references]))
        by_bin.append((f"{title}, by tenth of t", STEP, [f"val/{quantity}/{i}" for i in range(10)]))
    panels = [lines(*plot) for plot in overall + by_t + by_bin]
    return section("Noise prediction, under each run's schedule", panels, columns=4)


def text_quality() -> Section:
    """What is sampled while training, beside as much real text."""
    plots = {title: [f"quality/{name}", f"quality/real/{name}"] for name, title in QUALITY.items()}
    plots["RMS of clean x_0, where noise has 1"] = ["quality/rms"]
    return section("Text quality and collapse", [lines(title, STEP, names) for title, names in plots.items()])


def embedding_health() -> Section:
    """Of learned embeddings."""
    plots = {
        "RMS, where noise has 1": ["rms"],
        "norms": ["norm_min", "norm_median", "norm_max"],
        "correlation of norm with log frequency": ["norm_frequency"],
        "margin, in noise's units at t = 0.5": ["margin"],
        "effective rank": ["effective_rank"],
        "decodable, by tenth of t": [f"decodable/{i}" for i in range(10)],
    }
    panels = [lines(title, STEP, [f"embedding/{name}" for name in names]) for title, names in plots.items()]
    return section("Embedding health", panels)


def samples() -> Section:
    """Texts over time, spoilt and restored texts, and one text's way out of noise."""
    from wandb_workspaces.reports.v2 import MediaBrowser, WeavePanelSummaryTable

    tables: list[Any] = [WeavePanelSummaryTable(table_name=f"texts/{name}") for name in ("sampled", "garbled", "trace")]
    media = {
        "trace": "texts/trace_page",
        "noise prediction": "plots/noise_prediction",
        "report": "pages/report",
    }
    browsers = [MediaBrowser(title=title, media_keys=[key]) for title, key in media.items()]
    return section("Samples", tables + browsers)


def speed() -> Section:
    """Throughput, and how optimisation goes."""
    plots = {
        "steps a second": ["speed/steps_per_second"],
        "tokens a second": ["speed/tokens_per_second"],
        "learning rate": ["train/learning_rate"],
        "norm of the gradient, before clipping": ["train/gradient_norm"],
        "loss": ["train/loss", "val/loss", "val/without_context/loss"],
        "learned embeddings: diffusion loss": ["train/diffusion", "val/diffusion", "val/without_context/diffusion"],
        "learned embeddings: rounding loss": ["train/rounding", "val/rounding"],
        "learned embeddings: prior term": ["train/prior", "val/prior"],
        "latents: loss of the network's own reading": ["train/reading", "val/reading"],
    }
    return section("Speed", [lines(title, STEP, names) for title, names in plots.items()])


# ---- parts


def section(name: str, panels: list[Any], columns: int = 3) -> Section:
    """An open section with all its panels on one page."""
    from wandb_workspaces.workspaces import Section, SectionLayoutSettings

    layout = SectionLayoutSettings(columns=columns, rows=-(-len(panels) // columns))
    return Section(name=name, panels=panels, is_open=True, layout_settings=layout)


def lines(title: str, x: str, metrics: list[Any]) -> Any:
    """A plot with a line for each metric."""
    from wandb_workspaces.reports.v2 import LinePlot

    return LinePlot(title=title, x=x, y=metrics)


if __name__ == "__main__":
    command(main, __doc__ or "")
