"""The map of the explorer in a real browser: by pointer, finger and keyboard."""

from __future__ import annotations

import re

from browsing import needs_browser
from explorer_pages import PIXELS, Visit, column
from playwright.sync_api import Route, expect

from tgqformer.catalog.catalog import Catalog

pytestmark = needs_browser


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


def test_the_map_finds_colours_and_lists(desk: Visit, shown: Catalog) -> None:
    page = desk.go("map")
    canvas = page.locator("canvas[data-ready='60']")
    canvas.wait_for()
    word = next(word for item in shown.items(pictures=False) for word in (item.title or "").split() if len(word) > 4)
    page.get_by_role("searchbox", name="Find on the map").fill(word)
    listing = page.get_by_role("region", name="Chosen products")
    expect(listing.get_by_role("heading")).to_have_text(re.compile(rf"^\d+ products? found for “{word}”$"))
    expect(listing.locator(".card").first).to_contain_text(re.compile(word, re.IGNORECASE))
    page.get_by_role("button", name="Clear").click()
    expect(listing).to_be_hidden()
    by = page.get_by_role("combobox", name="Colour by")
    groups = page.locator(".islands")
    for value, words in (("brand", "others"), ("price", "up to "), ("version", "all ten are the same")):
        before = canvas.evaluate(PIXELS)
        by.select_option(value)
        expect(groups).to_contain_text(words)
        page.wait_for_function("before => document.querySelector('canvas').toDataURL() !== before", arg=before)
    page.get_by_role("combobox", name="Map of").select_option(label="Q-Former")
    page.wait_for_url("**/map?version=v2")
    page.locator("canvas[data-ready='60']").wait_for()
    expect(page.locator("#map-help")).to_contain_text("near means alike to Q-Former")


def test_a_lasso_lists_what_lies_inside(desk: Visit) -> None:
    page = desk.go("map")
    canvas = page.locator("canvas[data-ready='60']")
    canvas.wait_for()
    page.get_by_role("button", name="Lasso").click()
    box = canvas.bounding_box()
    assert box is not None
    corners = [(4, 4), (box["width"] - 80, 4), (box["width"] - 80, box["height"] - 4), (4, box["height"] - 4)]
    page.mouse.move(box["x"] + 4, box["y"] + 4)
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
    page.mouse.up()
    listing = page.get_by_role("region", name="Chosen products")
    expect(listing.get_by_role("heading")).to_have_text("60 products inside the lasso")
    expect(listing.locator(".card")).to_have_count(60)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="List what is in view").click()
    expect(listing.get_by_role("heading")).to_have_text("60 products in view")


WRITTEN = """window.written = []; const write = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (words, x, y) {
  const half = this.measureText(words).width / 2;
  window.written.push({ left: x - half, right: x + half, y });
  return write.call(this, words, x, y);
}"""
LABELS = [{"name": f"Cluster {n}", "x": x, "y": y} for n, (x, y) in enumerate([(0.99, 0.95), (0.99, 0.5), (0.01, 0.9)])]


def test_no_name_on_the_map_is_cut_or_below_a_button(phone: Visit) -> None:
    page = phone.page
    page.add_init_script(WRITTEN)

    def named(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "labels": LABELS})

    page.route(re.compile(r"/explorer/api/map\?"), named)
    phone.go("map")
    page.locator("canvas[data-ready]").wait_for()
    page.wait_for_function("count => window.written.length >= count", arg=len(LABELS))
    sea = page.locator("canvas").bounding_box()
    buttons = page.locator(".zoom").bounding_box()
    assert sea is not None and buttons is not None
    for name in page.evaluate("window.written"):
        beside = (
            name["right"] <= buttons["x"] - sea["x"] or name["y"] - 13 >= buttons["y"] + buttons["height"] - sea["y"]
        )
        assert beside, (name, buttons, sea)
        assert name["left"] >= 0 and name["right"] <= sea["width"]
