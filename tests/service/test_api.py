"""The API over a real server: what is answered, from where, and what changes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from small_shop import FAST, Running, Shop, eventually, make_shop, multipart, png, serving

from tgqformer.catalog.item import Item
from tgqformer.service.site import open_site
from tgqformer.store.base import Filter
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.rules import similar

Still = tuple[Shop, Running]


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory, drawn: Path, models: tuple[Path, Path]) -> Iterator[Still]:
    """A server for tests that leave the shop's own items alone."""
    shop = make_shop(tmp_path_factory.mktemp("still") / "run", drawn, models)
    with serving(shop) as running:
        yield shop, running


def ids(answer: dict[str, object]) -> list[str]:
    return [hit["id"] for hit in answer["results"]]  # type: ignore[attr-defined]


def test_similar_items_are_looked_up_and_equal_those_searched(still: Still) -> None:
    shop, running = still
    ask = running.client()
    answer = ask.get("/items/sku-4/similar?k=5")
    assert (answer["item"], answer["source"]) == ("sku-4", "precomputed")
    assert answer["model_version"] == shop.model(0).version
    assert [set(hit) for hit in answer["results"]] == [{"id", "score"}] * 5
    live = similar(shop.store.table(), "sku-4", 5)
    assert ids(answer) == [hit.id for hit in live]
    np.testing.assert_allclose([hit["score"] for hit in answer["results"]], [hit.score for hit in live], atol=1e-5)


@pytest.mark.parametrize("query", ["", "?k=1", "?k=7", "?k=20"])
def test_the_shortcut_answers_as_the_route_does(still: Still, query: str) -> None:
    _, running = still
    ask, joint = running.client(), "&" if query else "?"
    short = ask("GET", f"/items/sku-4/similar{query}")
    routed = ask("GET", f"/items/sku-4/similar{query}{joint}metadata=false")
    assert short[2] == routed[2] and short[2]["source"] == "precomputed"
    assert {**short[1], "x-request-id": "", "date": ""} == {**routed[1], "x-request-id": "", "date": ""}


def test_what_the_table_cannot_answer_is_searched(still: Still) -> None:
    shop, running = still
    ask = running.client()
    more = ask.get("/items/sku-4/similar?k=21")  # the table holds 20
    assert more["source"] == "live" and len(more["results"]) == 21
    some = ask.get("/items/sku-4/similar?k=3&category=shoe&category=bag&brand=acme&max_price=25")
    want = similar(shop.store.table(), "sku-4", 3, Filter(("shoe", "bag"), ("acme",), None, 25.0))
    assert some["source"] == "live" and ids(some) == [hit.id for hit in want]
    below = ask.get("/items/sku-4/similar?k=3&category=all%20%E2%80%BA%20SHOE&brand=ACME")
    wanted = similar(shop.store.table(), "sku-4", 3, Filter(brand=("acme",), path=(("All", "shoe"),)))
    assert ids(below) == [hit.id for hit in wanted] and len(wanted) == 3


def test_a_filter_by_what_no_item_has_is_refused_with_the_nearest(still: Still) -> None:
    client = still[1].client()
    for query, error, hint in (
        ("category=shoo", "no item has the category 'shoo'", "did you mean 'shoe'?"),
        ("category=shoe%20%3E%20All", "no item has the category 'shoe > All'", "did you mean"),
        ("category=", "no item has the category ''", "there are 'All'"),
        ("brand=acmee", "no item has the brand 'acmee'", "did you mean 'acme'?"),
        ("currency=EU", "no item has the currency 'EU'", "check the currency"),
        ("item_group=tee", "no item has the item_group 'tee'", "check the item_group"),
        ("availability=in_stock", "no item has the availability 'in_stock'", "check the availability"),
        ("availability=In%20Stock", "no item has the availability 'in_stock'", "check the availability"),
        ("availability=in_stok", "there is no availability 'in_stok'", "did you mean 'in_stock'"),
    ):
        status, _, told = client("GET", f"/items/sku-4/similar?{query}")
        assert status == 422 and told["error"] == error and told["hint"].startswith(hint), (query, told)
    status, told = client.form("POST", "/search?brand=zzz", title="red shoe")
    assert (status, told) == (422, {"error": "no item has the brand 'zzz'", "hint": "there are 'acme', 'bolt'"})


def test_levels_of_a_category_have_a_bound(still: Still) -> None:
    ask = still[1].client()
    status, _, told = ask("GET", "/items/sku-4/similar?k=2&category_levels=99999999999999999999")
    assert status == 422 and "category_levels" in f"{told}"
    assert len(ask.get("/items/sku-4/similar?k=2&category_levels=20")["results"]) == 2


def test_metadata_comes_with_both_kinds_of_answers(still: Still) -> None:
    shop, running = still
    ask = running.client()
    for more in ("", "&min_price=0"):
        answer = ask.get(f"/items/sku-0/similar?k=4&metadata=true{more}")
        for hit in answer["results"]:
            n = int(hit["id"].removeprefix("sku-"))
            item = shop.items[n]
            assert (hit["title"], hit["brand"], tuple(hit["category"])) == (item.title, item.brand, item.category)
            assert hit["price"] == item.price


def test_an_item_is_read_whole(still: Still) -> None:
    shop, running = still
    assert running.client().get("/items/sku-5") == {
        "id": "sku-5", "title": "black bag", "brand": "bolt", "category": ["All", "bag"], "price": 15.0,
        "sale_price": None, "currency": None, "availability": None, "item_group": None, "created": None,
        "attributes": {"size": "5"}, "pictures": 0, "model_version": shop.model(0).version,
    }  # fmt: skip


def test_search_embeds_as_the_model_does(still: Still) -> None:
    shop, running = still
    ask = running.client()
    known = shop.items[8]
    fields = {"title": known.title or "", "brand": known.brand or "", "category": " > ".join(known.category),
              "attributes": '{"size": "8"}'}  # fmt: skip
    status, found = ask.form("POST", "/search?k=3", known.pictures[0].data, **fields)
    assert (status, found["source"]) == (200, "live")
    assert found["results"][0] == {"id": "sku-8", "score": pytest.approx(1, abs=1e-4)}
    status, embedded = ask.form("POST", "/embed", known.pictures[0].data, **fields)
    assert status == 200 and embedded["dim"] == shop.model(0).dim
    np.testing.assert_allclose(embedded["vector"], shop.model(0).encode([known])[0], atol=1e-5)
    status, text = ask.form("POST", "/embed", title="red shoe")
    np.testing.assert_allclose(text["vector"], shop.model(0).encode([Item("x", "red shoe")])[0], atol=1e-5)
    status, near = ask.form("POST", "/search?k=9&brand=acme&metadata=true", title="red shoe")
    assert status == 200 and {hit["brand"] for hit in near["results"]} == {"acme"}


def test_a_new_item_is_found_at_once(shop: Shop) -> None:
    with serving(shop) as running:
        ask = running.client()
        status, answer = ask.form("PUT", "/items/new-1", png("red"), title="red hat", price="3.5", brand="acme")
        assert (status, answer) == (200, {"id": "new-1", "model_version": shop.model(0).version})
        assert ask.get("/items/new-1/similar?k=3")["source"] == "live"
        _, found = ask.form("POST", "/search?k=1", png("red"), title="red hat", brand="acme")
        assert ids(found) == ["new-1"]
        assert "new-1" in ids(ask.get("/items/sku-0/similar?k=24&max_price=4"))
        read = ask.get("/items/new-1")
        assert (read["title"], read["price"], read["pictures"]) == ("red hat", 3.5, 1)
        assert [row.id for row in shop.store.table().get(["new-1"])] == ["new-1"]
    with serving(shop) as running:  # and after a restart
        assert running.client().get("/items/new-1")["pictures"] == 1
        assert running.site.picture("new-1") == png("red")
        assert [key for key, _ in running.site.served.table.contents() if key == "new-1"] == ["new-1"]


def test_a_changed_item_leaves_the_precomputed_answers(shop: Shop) -> None:
    with serving(shop) as running:
        ask = running.client()
        before = ids(ask.get("/items/sku-4/similar?k=10"))
        changed, gone = before[0], before[1]
        assert ask.form("PUT", f"/items/{changed}", title="of a bag > of a bag")[0] == 200
        assert ask("DELETE", f"/items/{gone}")[0] == 200
        after = ask.get("/items/sku-4/similar?k=10")
        assert after["source"] == "precomputed" and not {changed, gone} & set(ids(after))
        assert ids(after)[:8] == before[2:]
        assert ask.get(f"/items/{changed}/similar?k=3")["source"] == "live"
        assert ask.get("/items/sku-4/similar?k=20")["source"] == "live"
        all_of_them = ids(ask.get("/items/sku-4/similar?k=24"))
        assert gone not in all_of_them and changed in all_of_them and len(all_of_them) == 22
    with serving(shop) as running:  # a restart does not forget what has changed since the table was made
        ask = running.client()
        assert ids(ask.get("/items/sku-4/similar?k=10")) == ids(after)
        original = shop.items[int(changed.removeprefix("sku-"))]
        fields = {"title": original.title or "", "brand": original.brand or "", "price": str(original.price),
                  "category": " > ".join(original.category),
                  "attributes": f'{{"size": "{original.attributes["size"]}"}}'}  # fmt: skip
        picture = original.pictures[0].data if original.pictures else None
        assert ask.form("PUT", f"/items/{changed}", picture, **fields)[0] == 200
        assert changed in ids(ask.get("/items/sku-4/similar?k=10"))  # it is again what it was


def test_writes_of_others_are_seen(shop: Shop) -> None:
    with serving(shop) as running:
        ask = running.client()
        first, second = ids(ask.get("/items/sku-7/similar?k=2"))
        table = shop.store.table()
        table.delete([first])
        eventually(lambda: first not in ids(ask.get("/items/sku-7/similar?k=5")))
        assert ask("GET", f"/items/{first}")[0] == 404
        assert ids(ask.get("/items/sku-7/similar?k=1")) == [second]


def test_a_deleted_item_is_gone(shop: Shop) -> None:
    with serving(shop) as running:
        ask = running.client()
        assert ask("DELETE", "/items/sku-3")[0] == 200
        for method, path in (("GET", "/items/sku-3"), ("GET", "/items/sku-3/similar"), ("DELETE", "/items/sku-3")):
            status, _, body = ask(method, path)
            assert status == 404 and "sku-3" in body["error"] and body["hint"]
        assert ask.form("PUT", "/items/sku-3", title="back again")[0] == 200
        assert ask.get("/items/sku-3")["title"] == "back again"


@pytest.mark.parametrize(
    "name", ["a/b", "../../etc/passwd", "%2e%2e", "a b?c#d", "Schuh-größe 42", "'; DROP", "x" * 512]
)
def test_an_id_may_hold_any_characters(still: Still, name: str) -> None:
    _, running = still
    ask, path = running.client(), f"/items/{quote(name, safe='')}"
    assert ask.form("PUT", path, png("blue"), title="blue bag")[0] == 200
    assert ask.get(path)["id"] == name
    assert ask.get(f"{path}/similar?k=1")["item"] == name
    assert ask("DELETE", path)[0] == 200
    assert ask("GET", path)[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/items/nothing/similar", 404, "no item 'nothing'"),
        ("GET", "/items/sku-1/similar?k=0", 422, "k: "),
        ("GET", "/items/sku-1/similar?k=many", 422, "k: "),
        ("GET", "/items/sku-1/similar?k=1000000", 422, "k: "),
        ("GET", "/items/sku-1/similar?min_price=nan", 422, "min_price: "),
        ("GET", "/items/sku-1/similar?min_price=3&max_price=2", 400, "no price lies between"),
        ("GET", "/items/sku-1/similar?k=3&k=4", 422, "the parameter 'k' is given twice"),
        ("GET", "/items/sku-1/similar?kk=3", 422, "no parameter 'kk'"),
        ("GET", "/items/sku-1?metadata=true", 422, "no parameter 'metadata'"),
        ("DELETE", "/items/sku-1?dry_run=true", 422, "no parameter 'dry_run'"),
        ("POST", "/search?visitor=v-1", 422, "no parameter 'visitor'"),
        ("GET", "/items/%FF", 422, "not UTF-8"),
        ("GET", "/items/a%00b", 422, "control characters"),
        ("GET", "/items/" + "y" * 513, 422, "1 to 512"),
        ("GET", "/nowhere", 404, "no such path"),
        ("POST", "/items/sku-1", 405, "does not take this method"),
        ("PUT", "/items/sku-1", 422, "nothing to embed"),
        ("PUT", "/items/%20sku-1", 422, "an import reads the id ' sku-1' as 'sku-1'"),
        ("PUT", "/items/%20", 422, "an import reads the id ' ' as none"),
        ("POST", "/search", 422, "nothing to embed"),
    ],
)
def test_wrong_requests_say_what_to_do(still: Still, method: str, path: str, status: int, words: str) -> None:
    _, running = still
    found, headers, body = running.client()(method, path)
    assert found == status and words in body["error"] and body["hint"], body
    assert set(body) == {"error", "hint"} and headers["x-request-id"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"title": "x", "attributes": "no json"}, "attributes is no JSON"),
        ({"title": "x", "attributes": '["a"]'}, "attributes is no JSON object"),
        ({"title": "x", "attributes": '{"a": {"b": 1}}'}, "attributes is no JSON object"),
        ({"title": "x", "price": "-1"}, "a price is a finite number"),
        ({"title": "x", "price": "nan"}, "a price is a finite number"),
        ({"title": "x", "price": "1", "currency": "xyz"}, "currency: not a currency: 'xyz'; write a code of ISO 4217"),
        ({"title": "x" * 2001}, "title: "),
        ({"title": "x", "category": " > ".join("abcdefghijklmnopq")}, "at most 16 levels"),
        ({"title": "nul \0"}, "no text"),
        ({"title": ""}, "nothing to embed"),
        ({"title": "x", "titel": "y"}, "no field 'titel'"),
        ({"title": "x", "picture_url": "http://shop.test/a.jpg"}, "no field 'picture_url'"),
    ],
)
def test_wrong_fields_say_what_to_do(still: Still, fields: dict[str, str], words: str) -> None:
    _, running = still
    status, body = running.client().form("PUT", "/items/new", **fields)
    assert status == 422 and words in body["error"] and body["hint"], body


@pytest.mark.parametrize(
    ("path", "kind", "body", "hint"),
    [
        ("/search", "application/json", b'{"title": "x"}', "a form"),
        ("/embed", "text/plain; charset=UTF-8", b"title=x", "a form"),
        ("/events", "text/plain;charset=UTF-8", b'{"answer": "x", "event": "view"}', "JSON"),
        ("/events", "application/x-www-form-urlencoded", b"answer=x&event=view", "JSON"),
    ],
)
def test_a_body_of_another_kind_is_refused(still: Still, path: str, kind: str, body: bytes, hint: str) -> None:
    _, running = still
    status, _, answer = running.client()("POST", path, body, {"content-type": kind})
    assert status == 422 and kind.partition(";")[0] in answer["error"] and f"send {hint}" in answer["hint"]


def test_a_picture_that_is_sent_as_text_is_told(still: Still) -> None:
    _, running = still
    body, kind = multipart({"title": "x", "picture": "shoe.jpg"})
    status, _, answer = running.client()("POST", "/search", body, {"content-type": kind})
    assert status == 422 and "not a file" in answer["error"] and "picture=@" in answer["error"]


@pytest.mark.parametrize("ending", [b"", b"--XX", b"--XX\r\n", b"\r\n--XY--\r\n"])
def test_a_form_without_its_closing_boundary_is_refused(still: Still, ending: bytes) -> None:
    """Its last field would be passed over: a PUT would take the item without its picture."""
    _, running = still
    ask = running.client()
    whole, kind = multipart({"title": "red shoe"}, png("red", (300, 300), "BMP"))  # in several parts over the socket
    cut = whole.removesuffix(b"--XX--\r\n") + ending
    for method, path in (("PUT", "/items/cut"), ("POST", "/search")):
        status, _, answer = ask(method, path, cut, {"content-type": kind})
        assert status == 400 and "closing boundary" in answer["error"]
    assert ask("GET", "/items/cut")[0] == 404
    fields, kind = multipart({"title": "red shoe"})
    for end in (b"", b"\r\n", b"\r\nwhat stands behind it does not count"):
        sent = fields.removesuffix(b"\r\n") + end
        assert ask("POST", "/search", sent, {"content-type": kind.replace("XX", '"XX"')})[0] == 200


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/items/sku-1", "/items/sku-1/similar", "/items/none", "/openapi.json"]
)
def test_head_answers_as_get_without_the_body(still: Still, path: str) -> None:
    _, running = still
    ask = running.client()
    status, headers, _ = ask("GET", path)
    given = ask("HEAD", path)
    assert (given[0], given[2]) == (status, b"")
    assert given[1]["content-type"] == headers["content-type"]
    assert path == "/metrics" or given[1]["content-length"] == headers["content-length"]
    assert ask.get("/healthz") == {"status": "ok"}  # on the same connection


def test_health_and_metrics(shop: Shop) -> None:
    with serving(shop) as running:
        ask = running.client()
        assert ask.get("/healthz") == {"status": "ok"}
        assert ask.get("/readyz") == {
            "status": "ready", "version": "v1", "model_version": shop.model(0).version, "label": "model 0",
            "model": True, "precomputed": True, "refused": None,
        }  # fmt: skip
        ask.get("/items/sku-1/similar")
        ask("GET", "/items/none")
        text = ask.get("/metrics").decode()
        for line in (
            'tgq_requests_total{method="GET",route="/items/{item_id}/similar",status="200"} 1.0',
            'tgq_requests_total{method="GET",route="/items/{item_id}",status="404"} 1.0',
            'tgq_answers_total{source="precomputed"} 1.0',
            f'tgq_served{{model_version="{shop.model(0).version}",version="v1"}} 1.0',
        ):
            assert line in text.splitlines(), text


def test_a_store_without_model_answers_what_it_can(shop: Shop) -> None:
    shop.store.serve(_without_model(shop))
    places = replace(shop.places(), models=())
    with Running(open_site(places, FAST), FAST) as running:
        ask = running.client()
        assert ask.get("/readyz")["model"] is False
        assert len(ask.get("/items/sku-1/similar?k=3")["results"]) == 3
        for method, path in (("POST", "/search"), ("POST", "/embed"), ("PUT", "/items/new")):
            status, body = ask.form(method, path, title="x")
            assert status == 501 and "--model" in body["hint"]
        assert ask("DELETE", "/items/sku-2")[0] == 200
        assert "sku-2" not in ids(ask.get("/items/sku-1/similar?k=19"))


def _without_model(shop: Shop) -> str:
    known = {**asdict(shop.store.table().version), "model": None}
    spec = VersionSpec(**{name: known[name] for name in VersionSpec.__dataclass_fields__})
    return shop.store.create(spec, shop.rows(0)).name
