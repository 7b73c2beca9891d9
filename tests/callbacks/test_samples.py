import json
from types import SimpleNamespace

import pytest

from diffusion_text import sampled_texts
from diffusion_text.callbacks.samples import SampleTexts
from diffusion_text.diffusion.samplers import DDIMSampler


@pytest.fixture
def validated(tmp_path):
    """A function that starts a training at a step and validates at others; returns the lines of the file."""

    def validated(start, *steps):
        callback = SampleTexts(DDIMSampler(2), 2, str(tmp_path))
        data = SimpleNamespace(batch=lambda split, many: {})
        trainer = SimpleNamespace(
            is_global_zero=True, sanity_checking=False, loggers=[], global_step=start, datamodule=data
        )
        callback.on_train_start(trainer, None)
        for step in steps:
            trainer.global_step = step
            space = SimpleNamespace(to_text=lambda number, step=step: [f"from {start}", f"“{step}”\n"])
            drawn = {"sample": lambda *_, **__: SimpleNamespace(tokens=None)}
            told = {"as_told": lambda _: (None, [])}
            callback.on_validation_epoch_end(trainer, SimpleNamespace(text_space=space, **drawn, **told))
        lines = (tmp_path / "samples" / "validation.jsonl").read_text(encoding="utf-8").splitlines()
        return [(line["step"], line["texts"]) for line in map(json.loads, lines)]

    return validated


def texts(start, step):
    return step, [f"from {start}", f"“{step}”\n"]


def test_each_validation_is_a_line(validated):
    assert validated(0, 10, 20) == [texts(0, 10), texts(0, 20)]


def test_a_run_that_goes_on_keeps_what_was_before_and_repeats_no_step(validated):
    validated(0, 10, 20, 30)
    assert validated(20, 25, 30) == [texts(0, 10), texts(0, 20), texts(20, 25), texts(20, 30)]


def test_a_run_that_goes_on_drops_later_texts_at_once(validated):
    validated(0, 10, 20, 30)
    assert validated(15) == [texts(0, 10)]


def test_a_validation_that_is_done_again_replaces_its_texts(validated):
    validated(0, 10)
    assert validated(10, 10) == [texts(10, 10)]


def test_the_table_has_a_row_a_validation_and_room_for_the_most_texts():
    lines = [{"step": 1, "texts": ["a"]}, {"step": 2, "texts": ["b", "c"]}]
    assert sampled_texts.table(lines) == (["step", "text 1", "text 2"], [[1, "a", ""], [2, "b", "c"]])
    assert sampled_texts.table([]) == (["step"], [])


def test_what_a_text_was_told_stands_in_the_title_of_its_column():
    told = [{"food": "Thai", "area": "riverside"}, {}]
    lines = [{"step": 1, "texts": ["a", "b"], "told": told}]
    assert sampled_texts.table(lines)[0] == ["step", "text 1: food Thai, area riverside", "text 2"]
