"""Take the pictures of the explorer that the docs show, or all pages on four screens, to look at.

    python docs/explorer_pictures.py demo
    python docs/explorer_pictures.py demo --screens looked

The product on them is not chosen by hand. It is a typical one of the first 41 that the page of wins and losses asks,
which draws its order once by a fixed seed (`wins.RULE`): each wears the first poster of severity 2, and of the
differences between how many of the ten neighbours the first and the second version keep, it has the one in the middle
(of equal ones, the first in that order counts as the lowest).

The run is served while this runs. Needs Playwright and a Chromium, as the tests of the explorer do.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from threading import Thread
from urllib.parse import quote, urlencode
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tgqformer.service.explorer.wins import asked as asked_by
from tgqformer.service.explorer.wins import pairs_of
from tgqformer.store import open_store

HERE = Path(__file__).parent / "img"
TRIED = 41
NOISE = "product?id={}&noise=poster&severity=2"
SHOWN = {"explorer-noise": (NOISE, 1500), "explorer-map": ("map", 800)}
PAGES = ("", "product?id={}", NOISE, "map", "try", "wins", "docs")
DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 800}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
SCREENS = {
    f"{name}-{how}": {**screen, "color_scheme": how}
    for name, screen in {"desk": DESK, "phone": PHONE}.items()
    for how in ("light", "dark")
}
SETTLED = """() => !document.querySelector('[aria-busy=true], .waiting')
  && [...document.images].every((one) => one.complete || one.loading === 'lazy')"""


def main() -> None:
    """Serve, look, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--screens", type=Path, help="write all pages on four screens into this folder instead")
    asked = parser.parse_args()
    with served(asked.run) as address, sync_playwright() as playwright:
        item = quote(typical(asked.run / "store", address), safe="")
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        if asked.screens is None:
            for name, (page, height) in SHOWN.items():
                data = taken(browser, f"{address}/{page.format(item)}", {"viewport": {"width": 1280, "height": height}})
                Image.open(BytesIO(data)).convert("RGB").save(HERE / f"{name}.jpg", quality=78, optimize=True)
            return
        asked.screens.mkdir(parents=True, exist_ok=True)
        for screen, how in SCREENS.items():
            for page in PAGES:
                name = re.sub(r"\W+", "-", page).strip("-") or "products"
                (asked.screens / f"{screen}-{name}.png").write_bytes(
                    taken(browser, f"{address}/{page.format(item)}", how)
                )


def typical(store: Path, address: str) -> str:
    """Return the product whose neighbours change by noise as those of products do in general; see above."""
    found, pairs = open_store(str(store)), pairs_of(str(store))
    if pairs is None:
        raise SystemExit(f"{store} belongs to no run with test pairs")
    versions = [one.name for one in found.versions()]
    ids = asked_by(pairs, [found.table(name) for name in versions])[0][:TRIED]
    leads = []
    for place, name in enumerate(ids):
        trial = {"id": name, "version": versions[:2], "kind": "poster", "severity": 2}
        with urlopen(f"{address}/explorer/api/trial?{urlencode(trial, doseq=True)}") as answer:
            kept = [one["kept"] for one in json.load(answer)["columns"]]
        leads.append((kept[0] - kept[-1], place))
    return ids[sorted(leads)[len(leads) // 2][1]]


@contextmanager
def served(run: Path) -> Iterator[str]:
    """Serve a run on a free port."""
    command = [str(Path(sys.executable).with_name("tgq")), "serve", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            lines = iter(process.stdout or ())
            address = next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            Thread(target=lambda: all(lines), daemon=True).start()  # a full pipe would stop the server
            yield address
        finally:
            process.terminate()
            process.wait()  # before its output is closed, which is still being read


def taken(browser: Browser, address: str, how: dict[str, object]) -> bytes:
    """Return a page as PNG, once all that it shows is there."""
    context = browser.new_context(reduced_motion="reduce", **how)  # type: ignore[arg-type]
    page: Page = context.new_page()
    page.set_default_timeout(600_000)  # a map of thousands of products takes its time
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.wait_for_function(SETTLED)
    if address.endswith("/map"):
        page.wait_for_selector("canvas[data-ready]")
    page.wait_for_timeout(1500)
    data = page.screenshot()
    context.close()
    return data


if __name__ == "__main__":
    main()
