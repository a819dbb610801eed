"""A list that the caller has already is not sent again: 304 while it is the same, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_shop import FAST, Running, Shop, eventually, exchange, make_shop, serving

from tgqformer.service.caching import is_known

LIST = "/items/sku-1/similar"
PATHS = (
    LIST, f"{LIST}?k=5", f"{LIST}?k=5&metadata=true", f"{LIST}?max_price=30", f"{LIST}?in_stock=true",
    f"{LIST}?visitor=v", "/items/sku-5/similar?k=23",
)  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, drawn: Path, models: tuple[Path, Path]) -> Iterator[Running]:
    shop = make_shop(tmp_path_factory.mktemp("caching") / "run", drawn, models)
    with serving(shop) as running:
        eventually(
            lambda: running.site.served.index is not None
        )  # a search in memory and one in the store have tags of their own
        yield running


def tag(running: Running, path: str = LIST) -> str:
    status, headers, _ = running.client()("GET", path)
    assert status == 200 and headers["cache-control"] == "no-cache"
    return headers["etag"]


@pytest.mark.parametrize("path", PATHS)
def test_an_equal_list_is_not_sent_again(running: Running, path: str) -> None:
    ask, known = running.client(), tag(running, path)
    assert tag(running, path) == known and known.startswith('"')
    for sent in (known, f"W/{known}", f'"other", W/"x",{known}', "*"):
        for method in ("GET", "HEAD"):
            status, headers, body = ask(method, path, headers={"If-None-Match": sent})
            assert (status, body, headers["etag"]) == (304, b"", known)
            assert headers["cache-control"] == "no-cache" and headers["x-request-id"]
            assert not {"content-length", "content-type", "transfer-encoding"} & set(headers)
    for sent in ('"other"', "", known.strip('"'), f'"x{known[1:]}'):
        assert ask("GET", path, headers={"If-None-Match": sent})[0] == 200  # on the same connection


def test_lists_that_differ_have_tags_that_differ(running: Running) -> None:
    assert len({tag(running, path) for path in PATHS}) == len(PATHS) - 1  # a visitor changes nothing without a test
    assert tag(running, LIST) == tag(running, f"{LIST}?k=10") == tag(running, f"{LIST}?metadata=false")
    known = {"If-None-Match": tag(running)}
    assert running.client()("GET", "/items/none/similar", headers={"If-None-Match": "*"})[0] == 404
    assert running.client()("GET", f"{LIST}?k=0", headers=known)[0] == 422
    assert running.client()("GET", f"{LIST}?k=9", headers=known)[0] == 200


def test_tags_of_several_headers_count(running: Running) -> None:
    for path in (LIST, f"{LIST}?metadata=true"):
        head = (
            f'GET {path} HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: "a"\r\nIf-None-Match: {tag(running, path)}\r\n'
        )
        found = exchange(running.port, f"{head}\r\n{head}Connection: close\r\n\r\n".encode())
        assert found.count(b"HTTP/1.1 304") == 2 and found.endswith(b"\r\n\r\n")
    assert is_known('"a"', ['W/"b" , W/"a"']) and not is_known('"a"', ["a", ""]) and not is_known('"a"', [])


def test_events_of_a_list_that_was_kept_count(running: Running) -> None:
    ask = running.client()
    _, headers, body = ask("GET", LIST)
    assert ask("GET", LIST, headers={"If-None-Match": headers["etag"]})[0] == 304
    kept = b'{"answer": "%s", "event": "view"}' % body["answer"].encode()
    assert ask("POST", "/events", kept, {"content-type": "application/json"})[2] == {"kept": 1}
    lines = ask.get("/metrics").decode().splitlines()
    assert 'tgq_requests_total{method="GET",route="/items/{item_id}/similar",status="304"}' in str(lines)


def test_the_document_tells_of_tags(running: Running) -> None:
    answers = running.client().get("/openapi.json")["paths"]["/items/{item_id}/similar"]["get"]["responses"]
    assert "ETag" in answers["200"]["headers"] and "content" in answers["200"]
    assert "ETag" in answers["304"]["headers"] and "content" not in answers["304"]


def test_what_changes_a_list_changes_its_tag(shop: Shop) -> None:
    shop.create(1, serve=False)
    shop.neighbours(1)
    with serving(shop) as running:
        ask = running.client()

        def same(path: str, known: str) -> bool:
            status, headers, body = ask("GET", path, headers={"If-None-Match": known})
            assert status == 200 or (headers["etag"], body) == (known, b"")
            return status == 304

        told = f"{LIST}?metadata=true"
        plain, full, first = tag(running), tag(running, told), ask.get(LIST)["results"][0]["id"]
        assert ask.form("PUT", f"/items/{first}", title="green bag", brand="acme", price="99")[0] == 200
        assert not same(LIST, plain) and not same(told, full)
        plain, full = tag(running), tag(running, told)
        assert same(LIST, plain) and same(told, full)
        last = ask.get(LIST)["results"][-1]["id"]
        assert ask("DELETE", f"/items/{last}")[0] == 200
        assert not same(LIST, plain)
        plain = tag(running)
        shop.store.serve("v2")
        eventually(lambda: ask.get("/readyz")["version"] == "v2")
        assert not same(LIST, plain)
        shop.store.rollback()
        eventually(lambda: ask.get("/readyz")["version"] == "v1")
        assert same(LIST, plain)  # the same list again


def test_a_new_price_changes_the_tag_of_lists_that_tell_it(shop: Shop) -> None:
    with serving(shop) as running:
        plain, full = tag(running), tag(running, f"{LIST}?metadata=true")
        first = running.client().get(LIST)["results"][0]["id"]
        row = next(row for row in shop.rows(0) if row.id == first)
        table = shop.store.table()
        table.upsert([replace(row, price=1.5)], model_version=table.version.model_version)
        eventually(lambda: tag(running, f"{LIST}?metadata=true") != full)
        eventually(lambda: running.client().get(LIST)["source"] == "precomputed")
        assert tag(running) == plain


def test_pages_of_a_named_origin_may_use_tags(shop: Shop) -> None:
    origin = {"Origin": "https://shop.example.com"}
    with serving(shop, replace(FAST, origins=(origin["Origin"],))) as running:
        ask = running.client()
        _, headers, _ = ask("GET", LIST, headers=origin)
        assert "ETag" in headers["access-control-expose-headers"]
        status, found, _ = ask("GET", LIST, headers=origin | {"If-None-Match": headers["etag"]})
        assert status == 304 and found["access-control-allow-origin"] == origin["Origin"] and "Origin" in found["vary"]
        wanted = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "if-none-match"}
        assert ask("OPTIONS", LIST, headers=origin | wanted)[0] == 200
