"""The index in memory of a service: answers as the store does, through writes, swaps, rollbacks and restarts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_shop import FAST, Running, Shop, eventually, serving

from tgqformer.files import write_text
from tgqformer.service import indexing
from tgqformer.store.base import Filter
from tgqformer.store.rules import Rules, similar


def ready(running: Running) -> bool:
    return running.site.served.index is not None


def ids(answer: dict[str, object]) -> list[str]:
    return [hit["id"] for hit in answer["results"]]  # type: ignore[attr-defined]


def write(shop: Shop, n: int, **changes: object) -> None:
    """Write to the table as another process does."""
    table = shop.store.table()
    table.upsert([replace(table.get([f"sku-{n}"])[0], **changes)], model_version=table.version.model_version)


def test_answers_are_those_of_the_store_and_follow_what_is_written(shop: Shop) -> None:
    with serving(shop) as running:
        ask = running.client()
        eventually(lambda: ready(running))
        eventually(lambda: b"\ntgq_index_ready 1.0" in ask("GET", "/metrics")[2])
        index = running.site.served.index
        assert index is not None and len(index) == 24
        table = shop.store.table()
        query = "/items/sku-4/similar?k=3&category=shoe&max_price=30"
        answer, where = ask.get(query), Filter(category=("shoe",), max_price=30)
        assert answer["source"] == "live" and ids(answer) == [hit.id for hit in similar(table, "sku-4", 3, where)]
        told = ask.get(f"{query}&metadata=true")
        assert ids(told) == ids(answer) and {hit["category"][1] for hit in told["results"]} == {"shoe"}
        status, _, body = ask("GET", "/items/sku-4/similar?category=shoo")
        assert status == 422 and "did you mean" in f"{body['error']} {body['hint']}"

        assert ask.form("PUT", "/items/new", title="green shoe", category="All > shoe", price="11")[0] == 200
        assert "new" in index and "new" in ids(ask.get("/items/sku-4/similar?k=20&category=shoe"))
        assert ask("DELETE", "/items/new")[0] == 200
        assert "new" not in index and "new" not in ids(ask.get("/items/sku-4/similar?k=20&category=shoe"))
        assert ask("GET", "/items/new/similar?category=shoe")[0] == 404

        first = ids(answer)[0]
        write(shop, int(first[4:]), price=90.0)
        eventually(lambda: first not in ids(ask.get(query)))
        shop.store.table().delete([first])
        eventually(lambda: first not in index)


def test_no_value_of_a_filter_is_passed_over(shop: Shop) -> None:
    for n in range(24):
        offer = {"currency": ("EUR", "USD")[n % 2], "availability": ("in_stock", "out_of_stock")[n % 2]}
        write(shop, n, **offer, item_group=f"G{n}")
    everywhere = {f"sku-{n}" for n in range(24)} - {"sku-4"}
    with serving(shop) as running:
        ask = running.client()
        eventually(lambda: ready(running))
        for query in ("currency=eur&currency=USD", "availability=In+Stock&availability=out_of_stock"):
            assert set(ids(ask.get(f"/items/sku-4/similar?k=24&{query}"))) == everywhere
        assert ids(ask.get("/items/sku-4/similar?k=24&item_group=G4&item_group=G7")) == ["sku-7"]
        for query in (
            "currency=EUR&currency=GBP",
            "availability=in_stock&availability=preorder",
            "item_group=G7&item_group=g8",
        ):
            status, _, body = ask("GET", f"/items/sku-4/similar?k=24&{query}")
            assert status == 422 and query.rpartition("=")[2] in body["error"]


def test_swap_rollback_and_restart(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    made, build = list[str](), indexing.LiveTable.build
    monkeypatch.setattr(
        indexing.LiveTable, "build", lambda table, **how: made.append(table.version.name) or build(table, **how)
    )
    with serving(shop) as running:
        eventually(lambda: ready(running))
        assert made == ["v1"]
        second = shop.create(1)
        eventually(lambda: running.site.served.version.name == second.name and ready(running))
        assert made == ["v1", second.name]
        assert running.client().form("PUT", "/items/new", title="green shoe")[0] == 200
        shop.store.rollback()
        eventually(lambda: running.site.served.version.name == "v1" and ready(running))
        index = running.site.served.index
        assert index is not None and "new" in index
    write(shop, 3, price=99.0)
    with serving(shop) as running:
        eventually(lambda: ready(running))
        index = running.site.served.index
        assert index is not None and "new" in index and index._rows.asked(index._rows.place["sku-3"]).price == 99.0
    assert made == ["v1", second.name], "copies on disk are gone on from"
    assert {path.name.split("-")[1] for path in (shop.folder / "service").glob("live-*")} == {"v1", second.name}


def test_lists_of_whose_neighbours_too_few_pass_are_completed_beforehand(shop: Shop) -> None:
    rules = Rules(one_per_group=False, same_category="require", price_to=1.5)
    text = "name: shop\nrules: {one_per_group: false, same_category: require, price_to: 1.5}\n"
    write_text(shop.folder / "recipe.yaml", text)
    with serving(shop) as running:
        ask = running.client()
        eventually(lambda: ready(running))
        eventually(lambda: ask.get("/items/sku-20/similar")["source"] == "precomputed")

        def right() -> bool:
            table = shop.store.table()  # opened anew: one that is open sees what others write a second later
            answers = {n: ids(ask.get(f"/items/sku-{n}/similar")) for n in range(24)}
            return answers == {n: [hit.id for hit in similar(table, f"sku-{n}", 10, rules=rules)] for n in range(24)}

        assert right()
        write(shop, 2, price=1000.0)
        eventually(right)
        eventually(lambda: ask.get("/items/sku-20/similar")["source"] == "precomputed")
        assert right()


def test_without_an_index_the_store_is_searched(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    query = "/items/sku-4/similar?k=3&category=shoe"
    with serving(shop, replace(FAST, memory_index=False)) as running:
        found = ids(running.client().get(query))
        assert running.site._indexing is None and running.site.served.index is None
    monkeypatch.setattr(indexing, "_free", lambda: 10)
    with serving(shop) as running:
        assert ids(running.client().get(query)) == found
        assert not ready(running)
