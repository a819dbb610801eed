"""Pages of other hosts that ask: which may, and the page of the docs in a real browser."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browsing import WAIT, launched, needs_browser
from playwright.sync_api import Page, expect
from small_shop import FAST, Running, Shop, eventually, serving

from tgqformer.service.events import FILE, read_events
from tgqformer.service.settings import ServiceSettings

PAGE = Path(__file__).parents[2] / "docs/service.md"
SHOP = "https://shop.example.com"


def test_only_pages_that_are_named_may_read(shop: Shop) -> None:
    path, named, own = f"/items/{shop.items[0].id}/similar", "access-control-allow-origin", {"Origin": SHOP}
    with serving(shop, replace(FAST, origins=(SHOP,))) as running:
        ask = running.client()
        status, found, _ = ask("GET", path, headers=own)
        assert status == 200 and found[named] == SHOP and "Origin" in found["vary"]
        status, found, _ = ask("GET", "/items/none/similar", headers=own)
        assert status == 404 and found[named] == SHOP  # a page can read why
        status, found, _ = ask("GET", path, headers=own | {"Host": "stranger.example.com"})
        assert status == 421 and found[named] == SHOP
        for other in ("https://stranger.example.com", "http://shop.example.com", "null"):
            status, found, _ = ask("GET", path, headers={"Origin": other})
            assert status == 200 and named not in found
        for method, allowed in (("POST", 200), ("PUT", 400), ("DELETE", 400)):
            wanted = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
            assert ask("OPTIONS", "/events", headers=own | wanted)[0] == allowed
    with serving(shop) as running:
        assert named not in running.client()("GET", path, headers=own)[1]


@pytest.mark.parametrize("wrong", ["shop.example.com", "https://shop.example.com/", "https://*.example.com", ""])
def test_an_origin_is_written_as_browsers_do(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no origin of a page; write https://shop"):
        ServiceSettings(origins=(wrong,))


@contextmanager
def pages(folder: Path) -> Iterator[int]:
    """Serve the files of a folder on a port of its own while the block runs."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def product_page(shop: Shop, folder: Path, named: str | None = None) -> Iterator[tuple[Running, Page, str]]:
    """Serve a shop, and a page with the script of the docs. named: the origin that may ask; None for the page's own."""
    [script] = re.findall(r"```html\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    with pages(folder) as port, launched() as browser:
        origin = f"http://127.0.0.1:{port}"
        with serving(shop, replace(FAST, origins=(named or origin,))) as running:
            own = script.replace("https://similar.example.com", f"http://127.0.0.1:{running.port}")
            own = own.replace("studio-00042", shop.items[0].id).replace("timeout(1000)", f"timeout({WAIT})")
            (folder / "product.html").write_text(f"<title>Shop</title><h1>Product</h1>{own}")
            page = browser.new_page()
            page.set_default_timeout(WAIT)
            yield running, page, f"{origin}/product.html"


@needs_browser
def test_the_page_of_the_docs_shows_the_list_and_tells_what_was_clicked(shop: Shop, tmp_path: Path) -> None:
    with product_page(shop, tmp_path) as (running, page, address):
        with page.expect_response(lambda answer: "/similar?" in answer.url) as answer:
            page.goto(address)
        listed, links = [one["id"] for one in answer.value.json()["results"]], page.locator("#similar a")
        expect(links).to_have_count(len(listed))
        expect(page.locator("#similar")).to_be_visible()
        links.nth(1).click()
        page.wait_for_url(f"**/products/{listed[1]}")
        state = running.site.places.state
        eventually(lambda: (state / FILE).exists() and len(list(read_events(state))) == 2)
        found = list(read_events(state))
        assert {(one.event, one.item) for one in found} == {("view", None), ("click", listed[1])}
        assert len({one.visitor for one in found} - {None}) == 1


@needs_browser
def test_a_page_that_is_not_named_shows_nothing(shop: Shop, tmp_path: Path) -> None:
    with product_page(shop, tmp_path, SHOP) as (_, page, address):
        with page.expect_event("requestfailed", lambda request: "/similar?" in request.url):
            page.goto(address)
        expect(page.get_by_role("heading", name="Product")).to_be_visible()
        expect(page.locator("#similar")).to_be_hidden()
        expect(page.locator("#similar a")).to_have_count(0)
