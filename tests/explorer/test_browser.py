"""The explorer in a real browser: finding, looking, comparing, by pointer, finger and keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from browsing import needs_browser
from explorer_pages import DESK, PIXELS, TOO_WIDE, Visit, cards, column, pictures_loaded, visit
from playwright.sync_api import Browser, Route, expect
from small_shop import Running

from tgqformer.catalog.catalog import Catalog
from tgqformer.service.settings import ServiceSettings
from tgqformer.service.site import Site

pytestmark = needs_browser
SETTINGS = ServiceSettings(refresh=5.0, threads=3)


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
    expect(page.locator("#results .card:not(.waiting)")).to_have_count(count)
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
    expect(dialog.locator(".reasons")).to_contain_text("To TGQ-Former it is neighbour number 1 of this product.")
    expect(dialog.locator("canvas.heat").first).to_be_hidden()  # words first
    dialog.get_by_text("Advanced: what the model looked at").click()
    expect(dialog.locator("canvas.heat").first).to_be_visible()
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
    dialog.get_by_text("Advanced: what the model looked at").click()
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


def test_the_page_of_the_api_shows_code_as_code(desk: Visit) -> None:
    page = desk.go("docs")
    page.locator(".route").first.wait_for()
    expect(page.locator(".docs > p code").first).to_have_text('{"error": ..., "hint": ...}')
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert "`" not in page.locator(".docs").inner_text()


def test_wins_and_losses_state_their_rule(desk: Visit) -> None:
    page = desk.go("")
    page.get_by_role("link", name="Wins and losses").click()
    page.wait_for_url("**/wins")
    verdict = page.locator(".verdict")
    expect(verdict).to_contain_text("of 60 products asked")
    expect(verdict).to_contain_text("A win: the first version finds more of the product's partners")
    expect(verdict).to_contain_text("TGQ-Former against Q-Former")
    won = int(re.findall(r"(\d+) wins?", verdict.inner_text())[0])
    expect(page.locator(".verdict section").first.locator(".win")).to_have_count(min(won, 6))
    page.get_by_role("combobox", name="Neighbours by").select_option(label="Q-Former")
    expect(verdict).to_contain_text("Q-Former against TGQ-Former")
    expect(page.locator(".verdict section").nth(1).locator(".win")).to_have_count(min(won, 6))


def test_a_phone_shows_all_pages_without_sideways_scrolling(phone: Visit, first: str) -> None:
    for path in ("", f"product?id={first}&noise=clutter&severity=3", "map", "try", "docs", "wins"):
        page = phone.go(path)
        page.locator(".card:not(.waiting), canvas[data-ready], .drop, .route").first.wait_for()
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
    page.get_by_text("Advanced: what the model looked at").tap()
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


def test_five_neighbours_across_with_price_stock_and_the_rule_that_hid_one(desk: Visit, first: str) -> None:
    page = desk.go(f"product?id={first}&beside=")
    column(page, 0)
    neighbours = page.locator(".neighbours > .card")
    tops = [round((card.bounding_box() or {"y": -1})["y"]) for card in neighbours.all()]
    assert tops[:5] == [tops[0]] * 5 and tops[5] > tops[0]
    expect(neighbours.locator(".offer")).to_have_count(10)
    expect(neighbours.filter(has_text="in stock").first).to_be_visible()
    hidden = page.locator(".hidden-by .card")
    expect(hidden.first).to_contain_text("without rules; hidden: same group as this product")
    expect(page.locator(".hidden-by summary")).to_have_text(f"Left out by the rules: {hidden.count()} of the nearest")


def test_a_rule_that_moved_an_item_is_named(
    browser: Browser, copied: Callable[[Path], Path], open_shop: Callable[..., Site], tmp_path: Path, first: str
) -> None:
    run = copied(tmp_path / "run")
    (run / "recipe.yaml").write_text("name: small\nrules: {diversity: 0.6, one_per_group: false, in_stock: true}\n")
    with Running(open_shop(run, tmp_path / "state", models=False), SETTINGS) as server:
        for seen in visit(browser, server, **DESK):
            page = seen.go(f"product?id={first}&beside=")
            column(page, 0)
            moved = page.locator(".neighbours .ruled").first
            expect(moved).to_have_text(re.compile(r"^moved (up|down) from \d+\. by diversity$"))
            expect(page.locator(".hidden-by")).to_contain_text("out of stock")
            expect(page.locator(".noise")).to_have_count(0)  # no model: nothing to move
            expect(page.get_by_role("link", name="Try a picture")).to_be_hidden()
            page = seen.go("try")
            expect(page.locator(".empty")).to_contain_text("This service has no model")
            page = seen.go("?q=lamp")
            expect(page.locator("#count")).to_have_text(re.compile(r"^\d+ products?$"))


def test_search_forgives_and_reads_the_meaning(desk: Visit, shown: Catalog) -> None:
    page = desk.go("")
    word = next(word for item in shown.items(pictures=False) for word in (item.title or "").split() if len(word) > 6)
    page.get_by_role("searchbox").fill(word[:3] + word[4:])
    expect(page.locator(".meant")).to_contain_text(f"“{(word[:3] + word[4:]).lower()}” occurs nowhere; shown: ")
    expect(page.locator("#results .card").first).to_contain_text(re.compile(word, re.IGNORECASE))
    page.get_by_role("searchbox").fill("yellow something to wear")
    expect(page.get_by_role("heading", name="Nothing found for “yellow something to wear”")).to_be_visible()
    expect(page.get_by_role("heading", name="Nearest to “yellow something to wear” by its meaning")).to_be_visible()
    expect(page.locator(".alike .card")).to_have_count(10)
    page.get_by_role("searchbox").fill("STUDIO-00007")
    expect(page.locator("#results .card").first).to_have_attribute("data-id", "studio-00007")


def test_filters_and_orders_stand_in_the_address(desk: Visit, shown: Catalog) -> None:
    prices = sorted(item.price for item in shown.items(pictures=False) if item.price is not None)
    page = desk.go("")
    page.get_by_role("spinbutton", name="Price to").fill(f"{prices[9]}")
    expect(page.locator("#count")).to_have_text(f"{sum(price <= prices[9] for price in prices)} products")
    page.get_by_role("combobox", name="Order").select_option("-price")
    expect(page).to_have_url(re.compile("sort=-price"))
    first = page.locator("#results .price").first
    expect(first).to_have_text(re.compile(f"^{prices[9]:,.2f}"))
    page.get_by_role("checkbox", name="In stock").check()
    expect(page).to_have_url(re.compile("stock=true"))
    page.reload()
    expect(page.get_by_role("combobox", name="Order")).to_have_value("-price")
    expect(first).to_have_text(re.compile(f"^{prices[9]:,.2f}"))


def test_an_address_that_holds_too_much_shows_what_there_is(desk: Visit, shown: Catalog) -> None:
    page = desk.go("?page=99")
    expect(page).to_have_url(re.compile("page=2$"))
    expect(page.locator("#results .card:not(.waiting)")).to_have_count(len(shown) - 48)
    for query in ("low=abc&high=-3", f"q={'z' * 300}"):
        desk.go(f"?{query}")
        expect(page.locator("#count")).to_have_text(re.compile(r"^\d+ products$"))
        expect(page.get_by_role("alert")).to_have_count(0)
    desk.go("product")
    expect(page.get_by_role("alert")).to_contain_text("names no product")


def test_an_open_page_says_which_version_is_served_now(desk: Visit, first: str) -> None:
    page = desk.go(f"product?id={first}")
    versions = page.locator("select[name=version] option")
    expect(versions).to_have_text(["TGQ-Former · served", "Q-Former"])

    def swapped(route: Route) -> None:
        about = route.fetch().json()
        for one in about["versions"]:
            one["served"] = not one["served"]
        route.fulfill(json=about)

    page.route("**/api/site", swapped)
    page.locator(".card > a").first.click()
    expect(versions).to_have_text(["TGQ-Former", "Q-Former · served"])
    page.unroute("**/api/site")


def test_a_file_above_the_limit_of_the_service_is_not_sent(desk: Visit, tmp_path: Path) -> None:
    page = desk.page
    page.route("**/api/site", lambda route: route.fulfill(json={**route.fetch().json(), "upload": 2 << 20}))
    desk.go("try")
    (tmp_path / "mine.png").write_bytes(b"0" * (3 << 20))
    page.locator("#file").set_input_files(tmp_path / "mine.png")
    expect(page.get_by_role("alert")).to_contain_text("more than 2 MB")


def test_on_a_phone_picture_and_slider_stay_in_view(phone: Visit, first: str) -> None:
    page = phone.go(f"product?id={first}")
    column(page, 0)
    slider = page.get_by_label("Severity")
    page.locator(".neighbours .card").nth(5).scroll_into_view_if_needed()
    expect(slider).to_be_in_viewport(ratio=1)
    expect(page.locator(".worn img")).to_be_in_viewport(ratio=1)
    before = page.locator(".worn img").get_attribute("src")
    slider.focus()
    page.keyboard.press("End")
    expect(page.locator(".kept")).to_have_count(2)
    expect(page.locator(".worn img")).not_to_have_attribute("src", before or "")
    page.locator(".column").nth(1).locator(".card").nth(4).scroll_into_view_if_needed()
    expect(slider).to_be_in_viewport(ratio=1)
    expect(page.locator(".noise .outcome")).to_be_in_viewport(ratio=1)


def test_the_api_is_described(desk: Visit) -> None:
    page = desk.go("")
    page.get_by_role("link", name="API").click()
    page.wait_for_url("**/docs")
    route = page.locator(".route", has_text="/items/{item_id}/similar")
    route.locator("summary").click()
    expect(route.get_by_role("row", name=re.compile("^diversity"))).to_be_visible()
    expect(route.locator("pre")).to_contain_text(f"curl '{desk.home}/items/{{item_id}}/similar'")
