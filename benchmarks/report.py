"""How large a run's report is, and how soon a browser shows it: python -m benchmarks.report RUN

Opens RUN/report.html five times in a headless Chromium (packages chromium and chromium-driver) and prints the median of
each time since the navigation began.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update")
TIMES = {  # milliseconds
    "interactive": "performance.getEntriesByType('navigation')[0].domInteractive",
    "all charts drawn": "performance.getEntriesByName('drawn')[0].startTime",
}


def main(run: str) -> None:
    page = Path(run) / "report.html"
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    chrome = Chrome(options, ChromeService(shutil.which("chromedriver")))
    measured: dict[str, list[float]] = {name: [] for name in TIMES}
    for _ in range(5):
        chrome.get(page.resolve().as_uri())
        WebDriverWait(chrome, 30).until(
            lambda browser: browser.execute_script("return performance.getEntriesByName('drawn').length")
        )
        for name, script in TIMES.items():
            measured[name].append(chrome.execute_script(f"return {script}"))
    chrome.quit()
    print(f"{page}: {page.stat().st_size / 1e6:.2f} MB")
    for name, times in measured.items():
        print(f"{name} after {statistics.median(times):.0f} ms")


if __name__ == "__main__":
    main(sys.argv[1])
