"""The explorer in a real browser: Debian's Chromium, driven by Playwright.

Without a Chromium these tests are skipped; with TGQ_BROWSER=required in the environment they fail instead.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect, sync_playwright
from small_shop import Running

from tgqformer.catalog.catalog import Catalog

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
REQUIRED = os.environ.get("TGQ_BROWSER") == "required"
PIXELS = "canvas => canvas.toDataURL()"
TOO_WIDE = """[...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > 361)
  .map((one) => one.outerHTML.slice(0, 200)).concat(document.documentElement.scrollWidth > 360 ? ["the page"] : [])"""
WAIT = 20_000  # milliseconds; a busy machine is slow to embed
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not REQUIRED, reason="there is no Chromium; install it with: apt-get install chromium"
)
expect.set_options(timeout=WAIT)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.fail("TGQ_BROWSER=required, but there is no Chromium; install it with: apt-get install chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


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
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})  # type: ignore[arg-type]
    made = Visit(context, running.port)
    yield made
    made.end()
    context.close()


@pytest.fixture
def desk(browser: Browser, running: Running) -> Iterator[Visit]:
    """A page on a large screen."""
    yield from visit(browser, running)


@pytest.fixture
def phone(browser: Browser, running: Running) -> Iterator[Visit]:
    """A page on a phone of 360 pixels, touched, in the dark, with reduced motion."""
    yield from visit(
        browser, running, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True,
        color_scheme="dark", reduced_motion="reduce",
    )  # fmt: skip


@pytest.fixture(scope="module")
def first(shown: Catalog) -> str:
    """Id of a product with a picture and a title."""
    return next(item.id for item in shown.items(pictures=False) if item.pictures and item.title)


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


def test_search_finds_pages_and_goes_back(desk: Visit, shown: Catalog) -> None:
    page = desk.go("")
    expect(page.locator("#count")).to_have_text("60 products")
    expect(cards(page)).to_have_count(48)
    pictures_loaded(page, "#results li:first-child img")
    page.get_by_role("link", name="More →").click()
    expect(cards(page)).to_have_count(12)
    page.go_back()
    expect(cards(page)).to_have_count(48)
    brand = shown.take_positions([0])[0].brand or ""
    count = sum(brand.lower() in f"{item.title} {item.brand}".lower() for item in shown.items(pictures=False))
    page.get_by_role("searchbox").fill(brand.upper())
    expect(page.locator("#count")).to_have_text(f"{count} product{'s' if count > 1 else ''}")
    assert page.url.endswith(f"?q={brand.upper()}")
    page.reload()
    expect(cards(page)).to_have_count(count)
    page.get_by_role("searchbox").fill("no such thing <b>here</b>")
    expect(page.get_by_role("heading", name="Nothing found for “no such thing <b>here</b>”")).to_be_visible()
    page.get_by_role("button", name="Show all products").click()
    expect(page.locator("#count")).to_have_text("60 products")
    category = page.get_by_role("combobox", name="Category")
    words = category.locator("option").nth(1).inner_text()
    category.select_option(index=1)
    expect(page.locator("#count")).to_have_text(re.compile(rf"^{words.split('(')[1].rstrip(')')} product"))


def test_versions_stand_side_by_side_and_can_be_switched(desk: Visit, first: str) -> None:
    page = desk.go(f"product?id={first}")
    expect(page.locator(".column")).to_have_count(2)
    guided, plain = column(page, 0), column(page, 1)
    assert len(guided) == len(plain) == 10
    only = [place for place, name in enumerate(guided) if name not in plain]
    marked = page.locator(".column").first.locator(".card.differs")
    expect(marked).to_have_count(len(only))
    expect(page.locator(".near")).to_contain_text(f"{10 - len(only)} of 10 neighbours stand in both columns")
    page.get_by_role("combobox", name="Neighbours by").select_option(label="Q-Former")
    expect(page.locator(".column h3").first).to_have_text("Q-Former")
    assert column(page, 0) == plain
    page.get_by_role("combobox", name="Neighbours by").select_option(label="TGQ-Former · served")
    page.get_by_role("combobox", name="beside").select_option("")
    expect(page.locator(".column")).to_have_count(1)
    assert column(page, 0) == guided
    page.reload()
    expect(page.locator(".column")).to_have_count(1)


def test_the_noise_slider_changes_picture_and_neighbours_of_both(desk: Visit, first: str) -> None:
    page = desk.go(f"product?id={first}")
    column(page, 0)
    before = page.locator(".big img").get_attribute("src")
    slider = page.get_by_label("Severity")
    slider.focus()
    page.keyboard.press("End")
    expect(page.locator(".kept")).to_have_count(2)
    expect(page.get_by_role("radio", name="Poster")).to_be_checked()
    for at in (0, 1):
        said = page.locator(".kept").nth(at)
        kept = int(said.get_attribute("data-kept") or "")
        names = column(page, at)
        expect(said).to_contain_text(f"kept {kept} of 10 neighbours")
        expect(page.locator(".column").nth(at).locator(".card.differs")).to_have_count(10 - kept)
        assert len(names) == 10
    assert page.locator(".big img").get_attribute("src") != before
    pictures_loaded(page, ".big img")
    expect(page.locator(".outcome p")).to_have_count(2)
    noisy = [column(page, 0), column(page, 1)]
    assert "noise=poster&severity=5" in page.url
    page.get_by_role("radio", name="Distractor").check()
    page.wait_for_url("**noise=distractor**")
    expect(page.locator(".big img")).to_have_attribute("src", re.compile("kind=distractor"))
    assert [column(page, 0), column(page, 1)] != noisy
    page.get_by_role("button", name="Draw another").click()
    expect(page.locator(".big img")).to_have_attribute("src", re.compile("seed=1"))
    column(page, 0)
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator(".kept")).to_have_count(0)
    page.get_by_role("radio", name="As in the shop").check()
    expect(page.locator(".big img")).to_have_attribute("src", before or "")


def test_why_shows_maps_facts_and_gates_and_escape_closes(desk: Visit, first: str) -> None:
    page = desk.go(f"product?id={first}")
    names = column(page, 0)
    why = page.locator(".why").first
    why.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("canvas.heat")).to_have_count(2)
    expect(dialog.get_by_role("radio", name="Anchored")).to_be_checked()
    anchored = dialog.locator("canvas.heat").first.evaluate(PIXELS)
    dialog.get_by_role("radio", name="Exploratory").check()
    assert dialog.locator("canvas.heat").first.evaluate(PIXELS) != anchored
    dialog.get_by_role("radio", name="Picture").check()
    expect(dialog.locator("canvas.heat").first).to_be_hidden()
    expect(dialog.locator(".gate svg")).to_have_count(2)
    expect(dialog.get_by_role("img", name=re.compile("Factors of the anchored gate: mean factor"))).to_be_visible()
    expect(dialog.get_by_role("row", name=re.compile("^brand"))).to_be_visible()
    expect(dialog).to_contain_text("Agreement of picture and text")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(why).to_be_focused()
    page.locator(".column").nth(1).locator(".why").first.click()
    expect(dialog).to_contain_text("This connector has no gates.")
    dialog.get_by_role("link", name=re.compile("^Open ")).click()
    page.wait_for_url("**/product?id=**")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert names


def test_everything_by_keyboard(desk: Visit) -> None:
    page = desk.go("")
    expect(cards(page)).to_have_count(48)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("ArrowDown")
    links = page.locator(".card > a")
    expect(links.nth(0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(links.nth(1)).to_be_focused()
    columns = page.locator("#results").evaluate("list => getComputedStyle(list).gridTemplateColumns.split(' ').length")
    page.keyboard.press("ArrowDown")
    expect(links.nth(1 + columns)).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Escape")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/product?id=**")
    column(page, 0)
    page.locator(".neighbours .card > a").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".neighbours .card > a").nth(1)).to_be_focused()


def test_an_upload_finds_neighbours(desk: Visit, shown: Catalog, tmp_path: Path) -> None:
    page = desk.go("try")
    page.get_by_role("button", name="Find similar products").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing to look for")
    item = next(item for item in shown.items() if item.pictures)
    (tmp_path / "mine.png").write_bytes(item.pictures[0].data or b"")
    page.locator("#file").set_input_files(tmp_path / "mine.png")
    expect(page.locator(".column")).to_have_count(2)
    expect(page.locator(".neighbours .card:not(.waiting)")).to_have_count(24)
    pictures_loaded(page, ".drop img")
    page.get_by_label(re.compile("^Title")).fill("red lamp")
    page.get_by_role("button", name="Find similar products").click()
    expect(page.get_by_role("button", name="Find similar products")).to_be_enabled()
    expect(page.locator(".neighbours .card:not(.waiting)")).to_have_count(24)


def test_an_upload_that_is_no_picture_is_refused_in_words(desk: Visit, tmp_path: Path) -> None:
    page = desk.go("try")
    (tmp_path / "mine.png").write_text("no picture")
    page.locator("#file").set_input_files(tmp_path / "mine.png")
    expect(page.get_by_role("alert")).to_contain_text("cannot be read")
    desk.expected_errors = 1  # the browser notes every answer of 4xx


def test_the_map_by_pointer_and_by_keyboard(desk: Visit, first: str) -> None:
    page = desk.go(f"map?id={first}")
    canvas = page.locator("canvas[data-ready='60']")
    spot = page.locator(".spot")
    expect(spot).to_be_visible()
    assert first in (spot.get_attribute("href") or "")
    canvas.focus()
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    expect(spot).to_be_visible()
    page.keyboard.press("Escape")
    expect(spot).to_be_hidden()
    page.keyboard.press("0")
    page.keyboard.press("ArrowRight")
    expect(spot).to_be_visible()
    page.get_by_role("button", name="Nearer").click()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 230, steps=3)
    page.mouse.up()
    page.mouse.wheel(0, -200)
    group = page.locator(".islands button").first
    group.click()
    expect(group).to_have_attribute("aria-pressed", "false")
    group.click()
    canvas.focus()
    page.keyboard.press("Escape")
    page.keyboard.press("0")
    page.keyboard.press("ArrowRight")
    expect(spot).to_be_visible()
    canvas.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/product?id=**")
    column(page, 0)


def test_a_phone_shows_all_pages_without_sideways_scrolling(phone: Visit, first: str) -> None:
    for path in ("", f"product?id={first}&noise=clutter&severity=3", "map", "try"):
        page = phone.go(path)
        page.locator(".card:not(.waiting), canvas[data-ready], .drop").first.wait_for()
        assert page.evaluate(TOO_WIDE) == [], path
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(int(part) for part in re.findall(r"\d+", paper)[:3]) < 120, "dark mode is dark"
        small = page.evaluate(
            "[...document.querySelectorAll('button, nav a, select, .choice span')].filter((one) => one.offsetParent"
            " && one.getBoundingClientRect().height < 24).map((one) => one.outerHTML)"
        )
        assert not small, "targets for a finger"
    page = phone.go(f"product?id={first}")
    column(page, 0)
    page.locator(".why").first.tap()
    expect(page.get_by_role("dialog").locator(".gate").first).to_be_visible()
    assert page.evaluate(TOO_WIDE) == []
    page.get_by_role("button", name="Close").tap()
    page = phone.go("map")
    page.locator("canvas[data-ready]").wait_for()
    assert page.evaluate("matchMedia('(prefers-reduced-motion: reduce)').matches")


def test_the_theme_is_the_systems_until_one_is_chosen_and_then_stays(desk: Visit) -> None:
    page = desk.go("")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Dark colours").click()
    dark = page.evaluate(paper)
    assert dark != light
    page.reload()
    assert page.evaluate(paper) == dark
    page.get_by_role("button", name="Light colours").click()
    assert page.evaluate(paper) == light


def test_what_goes_wrong_is_said_plainly(desk: Visit, first: str) -> None:
    page = desk.go("product?id=nobody%3Cscript%3E")
    expect(page.get_by_role("alert")).to_contain_text("no item 'nobody<script>'")
    desk.expected_errors = 1

    def fail(route: Route) -> None:
        route.fulfill(status=503, json={"error": "too many requests at once", "hint": "try again"})

    page.route("**/api/neighbours**", fail)
    desk.go(f"product?id={first}")
    expect(page.get_by_role("alert")).to_contain_text("too many requests at once")
    desk.expected_errors = 2
    page.unroute("**/api/neighbours**")
    page.get_by_role("button", name="Try again").click()
    assert len(column(page, 0)) == 10


def test_every_picture_says_what_it_shows(desk: Visit, first: str) -> None:
    for path in ("", f"product?id={first}"):
        page = desk.go(path)
        cards(page).first.wait_for()
        silent = page.evaluate("[...document.querySelectorAll('main img')].filter((image) => !image.alt).length")
        assert silent == 0
        assert page.evaluate("document.querySelectorAll('h1').length") == 1
        assert page.title()
