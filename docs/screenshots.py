"""Takes the pictures of a report and of a trace that README and pages show: python docs/screenshots.py RUN

RUN is a finished run with a report.html and a samples/trace.html. Needs Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

PICTURES = Path(__file__).parent / "pages" / "pictures"
HEIGHTS = {"report.png": 1420, "trace.png": 560}
WIDTH, SCALE = 960, 1.25


def main(run: str) -> None:
    chrome = start()
    pages = {"report.png": Path(run) / "report.html", "trace.png": Path(run) / "samples" / "trace.html"}
    for name, page in pages.items():
        size = {"width": WIDTH, "height": HEIGHTS[name], "deviceScaleFactor": SCALE, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chrome.get(page.resolve().as_uri())
        if name == "report.png":
            WebDriverWait(chrome, 30).until(
                lambda browser: browser.execute_script("return performance.getEntriesByName('drawn').length")
            )
        else:
            half_way(chrome)
        chrome.save_screenshot(str(PICTURES / name))
    chrome.quit()


def start() -> Chrome:
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    return Chrome(options, ChromeService(shutil.which("chromedriver")))


def half_way(chrome: Chrome) -> None:
    """Move the trace's slider to the middle."""
    slider = chrome.find_element(By.ID, "step")
    script = "arguments[0].value = Math.ceil(arguments[0].max / 2); arguments[0].dispatchEvent(new Event('input'))"
    chrome.execute_script(script, slider)


if __name__ == "__main__":
    main(sys.argv[1])
