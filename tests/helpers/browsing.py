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
    {"viewport": {"width": 1280, "height": 900}},
    {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True},
]
"""Desk and phone. Nothing moves, so that axe sees colours that have settled."""
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
    """What axe-core finds on a page as it is now; what is folded is opened first.

    By all of its rules as it is, in light colours, and by those of colours in dark ones.
    """
    page.evaluate(OPENED)
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    told = []
    for scheme, only in (("dark", {"runOnly": ["color-contrast", "link-in-text-block"]}), ("light", {})):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("only => axe.run(document, {resultTypes: ['violations'], ...only})", only)
        told += [
            f"{scheme}: {one['id']}: {' '.join(map(str, node['target']))}: {node['failureSummary']} {node['html'][:99]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]
    return told


def assert_accessible(path: Path) -> None:
    """Look at a page in a file with axe, on desk and phone."""
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
