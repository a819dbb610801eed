"""A real browser for the tests: Debian's Chromium, driven by Playwright, and axe-core to look at its pages.

Without a Chromium the tests that use it are skipped; with TGQ_BROWSER=required in the environment they fail instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
WAIT = 60_000  # milliseconds; a busy machine is slow
MISSING = "there is no Chromium; install it with: apt-get install chromium"
SCREENS: list[dict[str, Any]] = [
    {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    {"viewport": {"width": 360, "height": 740}, "color_scheme": "light", "has_touch": True, "is_mobile": True},
    {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "has_touch": True, "is_mobile": True},
]
"""Desk and phone, light and dark. Nothing moves, so that axe sees colours that have settled."""
OPENED = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
needs_browser = pytest.mark.skipif(CHROMIUM is None and os.environ.get("TGQ_BROWSER") != "required", reason=MISSING)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser, for as long as it is needed."""
    if CHROMIUM is None:
        pytest.fail(f"TGQ_BROWSER=required, but {MISSING}")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


def findings(page: Page) -> list[str]:
    """What axe-core finds on a page as it is now, by all of its rules; what is folded is opened first."""
    page.evaluate(OPENED)
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {' '.join(map(str, node['target']))}: {node['failureSummary']} {node['html'][:160]}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


def assert_accessible(path: Path) -> None:
    """Look at a page in a file with axe, on desk and phone, light and dark."""
    with launched() as browser:
        for screen in SCREENS:
            context = browser.new_context(**screen, reduced_motion="reduce")
            page = context.new_page()
            page.set_default_timeout(WAIT)
            page.goto(path.resolve().as_uri())
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"too wide: {screen}"
            found = findings(page)
            assert not found, "\n".join([f"{path} on {screen}", *found])
            context.close()
