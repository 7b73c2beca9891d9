import json
from dataclasses import replace

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from diffusion_text.runs import Run
from diffusion_text.tracking.records import Record
from diffusion_text.tracking.report import facts, verdicts, write_report
from diffusion_text.tracking.summary import weights_verdict

ROUTES = ["latent", "embedding", "autoencoder"]


@pytest.fixture
def opened(browser, finished):
    """A function that opens a route's report, at a width and in a colour scheme."""

    def opened(route, width=1280, scheme="light"):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get(finished(route).run.report.as_uri())
        places = browser.find_elements(By.CSS_SELECTOR, "[data-chart]")
        WebDriverWait(browser, 10).until(lambda _: all(place.find_elements(By.TAG_NAME, "svg") for place in places))
        return browser

    yield opened
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def headings(page):
    return [heading.text for heading in page.find_elements(By.TAG_NAME, "h2")]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_is_drawn_whole_at_any_width(opened, route, width, scheme):
    page = opened(route, width, scheme)
    assert page.get_log("browser") == []
    drawn = page.find_elements(By.CSS_SELECTOR, "[data-chart] svg")
    assert len(drawn) >= 3
    for svg in drawn:
        assert 200 < svg.size["width"] <= width
        assert svg.find_elements(By.CSS_SELECTOR, ".mark-line path, .mark-symbol path"), "a chart without lines"
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    dark = page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    assert dark == (scheme == "dark")


def test_the_page_fetches_nothing(opened):
    page = opened("latent")
    assert page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []


def test_what_a_run_of_each_route_shows(opened):
    shared = [
        "What differs from the defaults", "By signal-to-noise ratio", "By time, under this schedule", "Training",
    ]  # fmt: skip
    rest = [
        "Preflight",
        "Text quality",
        "Quality against variety",
        "Samples",
        "Garbled and restored",
        "How a text comes out of noise",
    ]
    embedding = ["Text quality while training", "Embedding health"]
    speed = ["Speed and optimisation"]
    assert headings(opened("latent")) == [*shared, *speed, *rest]
    assert headings(opened("embedding")) == [*shared, *embedding, *speed, *rest]
    autoencoder = ["What differs from the defaults", "Training", *speed, "Preflight", "Reconstructions"]
    assert headings(opened("autoencoder")) == autoencoder


def test_the_verdict_comes_first_and_changes_are_listed(opened, finished):
    page, record = opened("latent"), finished("latent")
    assert page.find_element(By.CSS_SELECTOR, ".verdict").text == record.figures["information_verdict"]
    listed = page.find_elements(By.CSS_SELECTOR, "dl.facts")[1]
    names = [name.text for name in listed.find_elements(By.TAG_NAME, "dt")]
    assert names == list(record.changes)
    assert {"text_space", "prediction", "trainer.max_steps"} <= set(names)


def test_the_slider_walks_through_the_trace(opened, finished):
    page = opened("embedding")
    slider = page.find_element(By.ID, "step")
    rows = finished("embedding").newest("trace*.jsonl")
    assert len(rows) == 4
    for i, row in enumerate(rows):
        assert page.find_element(By.CSS_SELECTOR, "#figures dd").text == str(row["step"])
        assert len(page.find_elements(By.CSS_SELECTOR, "#text span")) == len(row["tokens"])
        if i < len(rows) - 1:
            slider.send_keys(Keys.ARROW_RIGHT)


def test_the_page_is_small(finished):
    assert all(finished(route).run.report.stat().st_size < 3_000_000 for route in ROUTES)


def test_text_is_not_markup(finished, tmp_path):
    record = finished("latent")
    copy = Run(tmp_path)
    for file in (record.run.config, record.run.metrics, record.run.environment):
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    copy.samples.mkdir()
    line = json.dumps({"step": 3, "texts": ["<script>alert(1)</script> a & b"]})
    copy.texts.write_text(line + "\n", encoding="utf-8")
    write_report(Record(copy))
    page = copy.report.read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; a &amp; b" in page


def test_alarms_are_among_the_verdicts(finished):
    alarm = {"step": 100, "name": "collapse/scale", "measured": "x_0 has RMS 0.09", "cause": "normalise"}
    sentences = verdicts(finished("embedding").figures | {"alarms": [alarm]})
    assert "Step 100, collapse/scale: x_0 has RMS 0.09; normalise." in sentences


def test_weights_of_before_the_end_are_said_to_be(finished):
    assert not any("Weights of step" in sentence for sentence in verdicts(finished("embedding").figures))
    earlier = finished("embedding").figures | {"weights_verdict": weights_verdict(500, 3_000)}
    sentence = "Weights of step 500, the best at validation: 2,500 more steps made them no better."
    assert sentence in verdicts(earlier)


def test_code_that_was_changed_is_said_to_be(finished):
    record = finished("latent")
    for revision, changed, said in (("a" * 40, True, "a" * 12 + " and changes;"), (None, False, "no checkout;")):
        other = replace(record)
        other.__dict__["environment"] = record.environment | {"revision": revision, "changed": changed}
        assert facts(other)["code"].startswith(said)


def test_a_run_that_had_nothing_left_to_train_has_a_report_too(finished):
    record = finished("embedding")
    over = replace(record, run=record.run)
    over.__dict__["figures"] = record.figures | {"seconds": 0.0}
    assert "steps a second" in facts(over)["speed"]
