"""Look at every page of the site with axe-core, on desk and phone, light and dark: `python docs/axe.py [site]`.

Needs what the tests need: playwright, axe-playwright-python and a Chromium. Ends with status 1 where it finds
anything.
"""

from __future__ import annotations

import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import Literal

from playwright.sync_api import sync_playwright

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZES = ((1280, 900), (360, 740))


def main(site: Path) -> int:
    """Print every finding. Return how many there are."""
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    pages = [page for page in sorted(site.rglob("*.html")) if page.name != "404.html"]  # which needs a server
    found = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in SCHEMES:
            for width, height in SIZES:
                context = browser.new_context(
                    color_scheme=scheme,
                    viewport={"width": width, "height": height},
                    reduced_motion="reduce",
                )
                tab = context.new_page()
                for page in pages:
                    tab.goto(page.resolve().as_uri(), wait_until="load")
                    tab.wait_for_function("document.body.dataset.mended")
                    tab.evaluate(axe)
                    seen = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")
                    for one in seen["violations"]:
                        found += len(one["nodes"])
                        where = f"{page.relative_to(site)} ({scheme}, {width} wide)"
                        print(
                            f"{where}: {one['id']}, {len(one['nodes'])} times: {one['nodes'][0]['html'][:120]}",
                            flush=True,
                        )
                context.close()
    print(f"{len(pages)} pages, {found} findings")
    return found


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1] if len(sys.argv) > 1 else "site")) else 0)
