import json

import pytest

from diffusion_text.runs import Run
from diffusion_text.storage import write_json, write_text
from diffusion_text.tracking.model_card import figures_of, model_card
from diffusion_text.tracking.records import Record

RULER = {"corpus": "E2E c889 | stream", "texts": "437 + 452"}
FIGURES = {
    "test": {
        "information": {"overall": 3.0584, "bins": [1.0, 2.0]},
        "information_error": 0.0491,
        "skill": 0.5,
        "linear": {"noise_cosine": {"overall": 0.7, "bins": []}},
    },
    "val": {"information": {"overall": 3.2, "bins": []}},
    "quality": {"judge_nll": 3.09, "entropy": 4.1, "real": {"judge_nll": 2.34}},
    "information_verdict": "Knows 3.06 nats.",
    "best_step": 300,
}
DECLARED = {
    "test/information": ("nats a token", "higher"),
    "test/information_error": ("nats a token", None),
    "test/linear/noise_cosine": ("cosine", "higher"),
    "val/information": ("nats a token", "higher"),
    "quality/judge_nll": ("nats a token", "lower"),
    "quality/entropy": ("nats", None),
}


@pytest.fixture
def record(tmp_path):
    """A run that has ended, with figures of step 300."""
    run = Run(tmp_path / "a-run")
    typed = {
        name: {"kind": "estimate", "unit": unit, "better": better, "ruler": RULER}
        for name, (unit, better) in DECLARED.items()
    }
    write_json(run.metrics, FIGURES | {"figures": typed})
    write_json(run.environment, {"revision": "0123456789abcdef"})
    overrides = ["experiment=small_lm", "data.dir='/home/me/texts'", "cache_dir=~/cache", "model.local_heads=[-1,1]"]
    write_text(run.overrides, json.dumps(overrides))
    return Record(run)


def card(record, step=300, licence="CC BY-SA 4.0"):
    return model_card(record, {"model": "Transformer, 61,056 parameters"}, step, "E2E c889", licence)


def test_figures_have_their_kind_unit_and_ruler(record):
    rows = [line for line in card(record).splitlines() if line.startswith("| ")][2:]
    assert rows == [
        "| test/information | 3.058 ± 0.049 |  | estimate | nats a token | higher | corpus, texts |",
        "| quality/judge_nll | 3.09 | 2.34 | estimate | nats a token | lower | corpus, texts |",
    ]
    assert "- corpus: E2E c889 | stream\n- texts: 437 + 452\n" in card(record)
    assert "- Knows 3.06 nats.\n" in card(record)


def test_figures_of_another_step_are_not_this_models(record):
    assert figures_of(record, 200) == {}
    assert "None: this step of the training was not evaluated." in card(record, step=200)
    assert "Knows" not in card(record, step=200)


def test_it_says_how_it_was_trained_without_places(record):
    command = "python train.py experiment=small_lm data.dir=PATH cache_dir=PATH 'model.local_heads=[-1,1]'"
    assert f"```bash\n{command}\n```" in card(record)
    assert "/home" not in card(record)


def test_what_is_not_known_is_not_said(tmp_path):
    told = card(Record(Run(tmp_path)), licence=None)
    assert "train.py" not in told
    assert "of licence: not known to the code that wrote this" in told
    assert "with the code of diffusion_text 0.1.0;" in told.lower()


def test_it_begins_as_the_hub_reads_it(record):
    from huggingface_hub import ModelCard

    read = ModelCard(card(record))
    assert (read.data.library_name, read.data.pipeline_tag) == ("diffusion_text", "text-generation")
    assert "\n# a-run\n\n- model: Transformer, 61,056 parameters\n- step: 300, with" in read.content
