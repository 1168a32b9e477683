"""A headless Chromium for the tests that drive pages, or a skip that says what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest


def chromium(folder: Path, width: int, height: int, *, phone: bool = False) -> Any:
    """A browser with a profile of its own in ``folder``; whoever asks for it quits it."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium, which drives a browser, is not installed")
    program = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if p), None)
    driver = shutil.which("chromedriver")
    missing = [what for what, path in (("chromium", program), ("chromedriver", driver)) if path is None]
    if missing:
        pytest.skip(f"no page is driven: {' and '.join(missing)} not on the path; .ci/chromium, or apt-get install chromium "
                    "chromium-driver")  # fmt: skip
    options = webdriver.ChromeOptions()
    options.binary_location = program
    quiet = ("background-networking", "component-update", "sync", "gpu", "dev-shm-usage")
    for flag in ("headless=new", "no-sandbox", *(f"disable-{what}" for what in quiet), f"user-data-dir={folder}"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--window-size={width},{height}")
    if phone:  # no window is as narrow as a phone
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 2}})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
