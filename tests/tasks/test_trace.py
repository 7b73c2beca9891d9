import json
import math
import re
from itertools import pairwise

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from diffusion_text.tasks.trace import Trace, mark_changes
from diffusion_text.tracking.pages import render


@pytest.fixture
def traced(session):
    """The rows and the page that a trace of five steps leaves."""
    run = session("sampler.num_steps=8", "length=9")
    Trace(steps=5)(run)
    rows = [json.loads(line) for line in (run.run.samples / "trace.jsonl").read_text(encoding="utf-8").splitlines()]
    return rows, run.run.samples / "trace.html"


def test_a_trace_walks_from_noise_to_data(traced):
    rows, _ = traced
    assert [row["step"] for row in rows] == [0, 2, 4, 5, 7]
    assert rows[0]["t"] == 1
    assert rows[0]["noise_percent"] == pytest.approx(100, abs=0.01)
    for before, after in pairwise(rows):
        assert before["t"] > after["t"]
        assert before["alpha"] < after["alpha"]
        assert before["noise_percent"] > after["noise_percent"]
    for row in rows:
        assert row["alpha"] ** 2 + row["noise_percent"] / 100 == pytest.approx(1, abs=1e-4)
        assert math.isfinite(row["x_norm"] + row["noise_hat_norm"])
    assert rows[0]["x_norm"] == pytest.approx(math.sqrt(9 * 16), rel=0.25), "pure noise over nine positions of 16"


def test_a_change_is_dated_by_the_step_at_which_it_came():
    rows = [
        {"step": step, "tokens": [{"text": text} for text in texts]}
        for step, texts in ((0, "ab"), (3, "xb"), (7, "xbc"), (9, "xyc"))
    ]
    mark_changes(rows)
    assert [[token["since"] for token in row["tokens"]] for row in rows] == [[0, 0], [3, 0], [3, 0, 7], [3, 9, 7]]


def test_text_cannot_end_the_pages_script():
    row = {"step": 0, "t": 1.0, "noise_percent": 100.0, "alpha": 0.0, "x_norm": 1.0, "noise_hat_norm": 1.0}
    token = {"text": "</script><b>", "confidence": 0.5, "since": 0}
    page = render("trace.html", name="a </title>", trace=[row | {"text": "", "tokens": [token]}])
    assert (page.count("</script>"), page.count("</title>")) == (1, 1)


def test_the_page_needs_no_network(traced):
    page = traced[1].read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)\s*=|url\(|@import|https?://|fetch\(""", page)


def test_the_page_in_a_browser(traced, browser):
    rows, page = traced
    browser.get(page.as_uri())
    slider, text = (browser.find_element(By.ID, name) for name in ("step", "text"))

    def shown():
        figures = dict(zip(*(texts(browser, f"#figures {tag}") for tag in ("dt", "dd")), strict=True))
        return int(figures["step"]), float(figures["t"]), texts(browser, "#text span")

    for i, row in enumerate(rows):
        step, t, tokens = shown()
        assert (step, t) == (row["step"], row["t"])
        assert [token.strip() for token in tokens] == [token["text"].strip() for token in row["tokens"]]
        spans = browser.find_elements(By.CSS_SELECTOR, "#text span")
        assert [span.get_attribute("class") == "new" for span in spans] == [
            token["since"] == row["step"] for token in row["tokens"]
        ]
        if i < len(rows) - 1:
            slider.send_keys(Keys.ARROW_RIGHT)
    confidences = [token["confidence"] for token in rows[-1]["tokens"]]
    strengths = [strength(token) for token in browser.find_elements(By.CSS_SELECTOR, "#text span")]
    assert strengths == pytest.approx([0.45 * confidence for confidence in confidences], abs=0.01)
    assert text.is_displayed()
    assert browser.get_log("browser") == []


def texts(browser, selector):
    return [element.get_attribute("textContent") for element in browser.find_elements(By.CSS_SELECTOR, selector)]


def strength(token):
    """The opacity of a token's colour."""
    return float(token.value_of_css_property("background-color").rstrip(")").split(",")[-1])
