"""Pages of the explorer in a browser, and what tests read off them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from browsing import WAIT
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from small_shop import Running

PIXELS = "canvas => canvas.toDataURL()"
TOO_WIDE = """[...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > 361)
  .map((one) => one.outerHTML.slice(0, 200)).concat(document.documentElement.scrollWidth > 360 ? ["the page"] : [])"""
DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {
    "viewport": {"width": 360, "height": 740},
    "has_touch": True,
    "is_mobile": True,
    "color_scheme": "dark",
    "reduced_motion": "reduce",
}
expect.set_options(timeout=WAIT)


class Visit:
    """A page of the explorer, and everything that went wrong on it."""

    def __init__(self, context: BrowserContext, port: int) -> None:
        self.home, self.wrong, self.strangers = f"http://127.0.0.1:{port}", [], []
        self.expected_errors = 0
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WAIT)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.wrong.append(said.text))
        self.page.on("request", self._look)

    def _look(self, request: object) -> None:
        address = urlsplit(request.url)  # type: ignore[attr-defined]
        if f"{address.scheme}://{address.netloc}" != self.home and address.scheme != "blob":
            self.strangers.append(request.url)  # type: ignore[attr-defined]

    def go(self, path: str) -> Page:
        self.page.goto(f"{self.home}/{path}")
        return self.page

    def end(self) -> None:
        assert not self.strangers, f"requests that left the origin: {self.strangers}"
        assert len(self.wrong) == self.expected_errors, self.wrong


def visit(browser: Browser, running: Running, **options: object) -> Iterator[Visit]:
    context = browser.new_context(**options)  # type: ignore[arg-type]
    made = Visit(context, running.port)
    yield made
    made.end()
    context.close()


def cards(page: Page) -> Locator:
    return page.locator(".card:not(.waiting)")


def column(page: Page, at: int) -> list[str]:
    expect(page.locator(".columns")).to_have_attribute("aria-busy", "false")
    found: list[str] = (
        page.locator(".column")
        .nth(at)
        .locator(".neighbours > .card")
        .evaluate_all("cards => cards.map((card) => card.dataset.id)")
    )
    return found


def pictures_loaded(page: Page, selector: str) -> None:
    page.wait_for_function(
        "selector => [...document.querySelectorAll(selector)].length > 0 && "
        "[...document.querySelectorAll(selector)].every((image) => image.complete && image.naturalWidth > 0)",
        arg=selector,
    )
