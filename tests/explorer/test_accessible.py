"""axe-core looks at every page of the explorer, on desk and phone, light and dark."""

from __future__ import annotations

import re
from typing import Any

import pytest
from browsing import SCREENS, findings, needs_browser
from explorer_pages import Visit, cards, column, visit
from playwright.sync_api import Browser, Page, expect
from small_shop import Running

pytestmark = needs_browser


def clean(page: Page, what: str) -> None:
    assert findings(page) == [], what


@pytest.mark.slow
@pytest.mark.parametrize("screen", SCREENS, ids=["desk", "phone"])
def test_axe_finds_nothing_on_any_page(screen: dict[str, Any], browser: Browser, running: Running, first: str) -> None:
    for site in visit(browser, running, **screen, reduced_motion="reduce"):
        look(site, first)


def look(site: Visit, first: str) -> None:
    page = site.go("")
    cards(page).first.wait_for()
    clean(page, "products")
    page.get_by_role("searchbox").fill("zzzz no such thing")
    expect(page.get_by_role("heading", name=re.compile("^Nothing found"))).to_be_visible()
    clean(page, "nothing found")
    page = site.go(f"product?id={first}&noise=poster&severity=4")
    column(page, 0)
    clean(page, "product with noise")
    page.locator(".why").first.click()
    page.get_by_role("dialog").locator(".gate").first.wait_for(state="attached")
    clean(page, "why")
    page = site.go("docs")
    page.locator(".route").first.wait_for()
    clean(page, "docs")
    page = site.go("map")
    page.locator("canvas[data-ready]").wait_for()
    clean(page, "map")
    page.get_by_role("searchbox").fill("a")
    page.locator(".listing .card").first.wait_for()
    page.get_by_role("combobox", name="Colour by").select_option("version")
    expect(page.locator(".islands")).to_contain_text("all ten are the same")
    clean(page, "map, searched and coloured")
    page = site.go("wins")
    page.locator(".verdict > p > strong").wait_for()
    clean(page, "wins")
    page = site.go("try")
    page.get_by_label(re.compile("^Title")).fill("red lamp")
    page.get_by_role("button", name="Find similar products").click()
    expect(page.get_by_role("button", name="Find similar products")).to_be_enabled()
    cards(page).first.wait_for()
    clean(page, "try")
    page = site.go("product?id=nobody")
    expect(page.get_by_role("alert")).to_be_visible()
    clean(page, "what went wrong")
    site.expected_errors = 1
