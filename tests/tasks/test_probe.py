import csv

import pytest
import torch

from diffusion_text.tasks.probe import Probe


def test_each_level_is_measured_in_both_units_and_denoised(session):
    run = session("num_samples=3")
    Probe([0.1, 2.0])(run)
    with (run.run.samples / "probe.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["unit"], float(row["noise_std"])) for row in rows] == [
        (unit, level) for unit in ("raw", "standardised", "denoised") for level in (0.0, 0.1, 2.0)
    ]
    assert rows[0] | {"unit": ""} == rows[3] | {"unit": ""}, "without noise the unit does not matter"
    assert [float(row["error"]) for row in rows[3:6]] == pytest.approx([0, 0.1, 2.0], rel=0.1)
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in ("token_accuracy", "exact_match", "chrf"))
    assert (run.run.samples / "probe.png").stat().st_size > 5000


def test_noise_has_the_standard_deviation_that_was_asked_for(session, monkeypatch):
    run = session("num_samples=2")
    space = run.model.text_space
    tokens, mask = run.texts()
    x_0, seen = space.encode(tokens, mask), []
    decode = type(space).decode
    monkeypatch.setattr(type(space), "decode", lambda self, x, mask: seen.append(x) or decode(self, x, mask))
    Probe([0.5])(run)
    raw = (seen[1] - x_0) * space.std
    standardised = seen[3] - x_0
    for noise in (raw, standardised):
        assert noise.std() == pytest.approx(0.5, rel=0.15)
    assert torch.equal(seen[0], x_0)


def test_a_users_own_text_is_probed(session, capsys):
    Probe([0.1])(session("text=river stone glass"))
    assert "river stone glass" in capsys.readouterr().out


@pytest.mark.parametrize("levels", [[], [-0.1]])
def test_levels_that_are_none_are_refused(levels):
    with pytest.raises(ValueError, match=r"task\.levels"):
        Probe(levels)
