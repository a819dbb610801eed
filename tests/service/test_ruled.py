"""Lists by rules over HTTP: looked up as they would be searched, kept as the items are now, set anew by a request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_shop import Running, Shop, eventually, make_shop, serving

from tgqformer.catalog.pictures import look_of
from tgqformer.files import write_text
from tgqformer.service.precomputed import Precomputed
from tgqformer.store.base import StoreRow
from tgqformer.store.neighbours import Neighbours
from tgqformer.store.rules import LENGTH, PLAIN, Rules, looks_of, similar

Sold = tuple[Shop, Running]


def sold_row(row: StoreRow, n: int) -> StoreRow:
    return replace(row, item_group=f"g{n // 3}", availability="out_of_stock" if n % 4 == 1 else "in_stock")


def set_facts(shop: Shop, *rows: StoreRow) -> None:
    shop.store.table().upsert(rows, model_version=shop.model(0).version)


@pytest.fixture(scope="module")
def sold(tmp_path_factory: pytest.TempPathFactory, drawn: Path, models: tuple[Path, Path]) -> Iterator[Sold]:
    """A server whose items have groups and a stock, and whose recipe wants one a group."""
    shop = make_shop(tmp_path_factory.mktemp("sold") / "run", drawn, models)
    set_facts(shop, *(sold_row(row, n) for n, row in enumerate(shop.rows(0))))
    write_text(shop.folder / "recipe.yaml", "name: shop\nrules: {one_per_group: true}\n")
    with serving(shop) as running:
        yield shop, running


def ids(answer: dict[str, object]) -> list[str]:
    return [hit["id"] for hit in answer["results"]]  # type: ignore[attr-defined]


def test_lists_follow_the_recipe_and_a_request_may_ask_otherwise(sold: Sold) -> None:
    shop, running = sold
    ask, table = running.client(), shop.store.table()
    rows = {row.id: row for row in table.get([f"sku-{n}" for n in range(24)])}
    answer = ask.get("/items/sku-4/similar?k=4")
    groups = [rows[name].item_group for name in ids(answer)]
    assert answer["source"] == "precomputed" and len(set(groups)) == 4 and "g1" not in groups
    asked = {
        "": Rules(),
        "&one_per_group=false": PLAIN,
        "&in_stock=true": Rules(in_stock=True),
        "&exclude=sku-1&exclude=sku-9&one_per_group=false": replace(PLAIN, exclude=("sku-1", "sku-9")),
        "&same_category=require": Rules(same_category="require"),
        "&diversity=0.5&one_per_group=false": replace(PLAIN, diversity=0.5),
        "&price_from=0.9&price_to=1.2&one_per_group=false": replace(PLAIN, price_from=0.9, price_to=1.2),
        "&min_score=0.99": Rules(min_score=0.99),
    }
    sources = set()
    for query, rules in asked.items():
        answer = ask.get(f"/items/sku-4/similar?k=4{query}")
        assert ids(answer) == [hit.id for hit in similar(table, "sku-4", 4, rules=rules)], query
        sources.add(answer["source"])
    assert sources == {"precomputed", "live"}  # where rules leave too few, the list is searched


def test_pictures_that_were_sent_count_as_those_of_the_catalogue(shop: Shop) -> None:
    """Whether the store is searched or the index in memory: an item that was put, and a picture that is searched by."""
    photo = Image.fromarray(np.random.default_rng(5).integers(0, 256, (3, 3, 3), np.uint8)).resize((240, 240))
    copies = [BytesIO(), BytesIO()]
    photo.save(copies[0], "PNG")
    photo.resize((150, 150)).save(copies[1], "JPEG", quality=70)
    first, again = (one.getvalue() for one in copies)
    write_text(shop.folder / "recipe.yaml", "name: shop\nrules: {same_picture_once: true, one_per_group: false}\n")
    plain = "k=5&same_picture_once=false"
    with serving(shop) as running:
        ask = running.client()
        for name, data in (("new-1", first), ("new-2", again)):
            assert ask.form("PUT", f"/items/{name}", data, title="red hat")[0] == 200
        for ready in (False, True):
            if ready:
                eventually(lambda: b"\ntgq_index_ready 1.0" in ask("GET", "/metrics")[2])
            assert "new-2" in ids(ask.get(f"/items/new-1/similar?{plain}"))
            assert "new-2" not in ids(ask.get("/items/new-1/similar?k=5"))
            assert {"new-1", "new-2"} <= set(ids(ask.form("POST", f"/search?{plain}", first, title="red hat")[1]))
            assert not {"new-1", "new-2"} & set(ids(ask.form("POST", "/search?k=5", first, title="red hat")[1]))
    kept = looks_of([row.look for row in shop.store.table().get(["new-1", "new-2"])])
    assert np.abs(kept - looks_of([look_of(first), look_of(again)])).max() <= 1  # read at less size for a catalogue


def test_unknown_rules_and_wrong_values_are_refused(sold: Sold) -> None:
    ask = sold[1].client()
    for query, words in (
        ("divrsity=0.3", "did you mean 'diversity'?"),
        ("in_stok=true", "did you mean 'in_stock'?"),
        ("diversity=2", "diversity"),
        ("price_from=2&price_to=1", "above price_to"),
        ("same_category=perhaps", "same_category"),
    ):
        status, _, body = ask("GET", f"/items/sku-4/similar?{query}")
        assert status == 422 and words in f"{body['error']} {body['hint']}", query
    status, _, body = ask("POST", "/search?k=3&diverse=1")
    assert status == 422 and "diversity" in body["hint"]


def test_a_stock_that_others_change_is_seen_in_lists_that_are_looked_up(sold: Sold) -> None:
    shop, running = sold
    ask = running.client()
    query = "/items/sku-16/similar?k=2&in_stock=true"
    first = ids(ask.get(query))[0]
    row = shop.store.table().get([first])[0]
    set_facts(shop, replace(row, availability="out_of_stock"))
    eventually(lambda: first not in ids(ask.get(query)))
    set_facts(shop, row)
    eventually(lambda: ids(ask.get(query))[0] == first)


def test_an_own_write_is_taken_in_at_the_next_look(shop: Shop) -> None:
    table = shop.store.table()
    found = Precomputed(Neighbours.open(shop.folder / "neighbours-0"), table, shop.folder / "service")
    rules = Rules(in_stock=True)
    [(first, _), *_] = found.of("sku-3", 3, rules) or []
    row = replace(table.get([first])[0], availability="out_of_stock", item_group="g")
    revision = table.upsert([row], model_version=table.version.model_version)
    found.wrote([(first, row.content)], revision)
    assert found.of("sku-3", 3, rules) is None and not found.stale  # searched until then
    assert not found.refresh()
    near = found.of("sku-3", 3, rules)
    assert near is not None and first not in dict(near)
    assert near == found.of("sku-3", 20, PLAIN)[1:4]  # type: ignore[index]


def test_lists_worked_out_beforehand_are_those_that_are_chosen(shop: Shop) -> None:
    table, rules = shop.store.table(), Rules(one_per_group=False, in_stock=True)
    set_facts(shop, *(sold_row(row, n) for n, row in enumerate(shop.rows(0))))
    neighbours = Neighbours.open(shop.folder / "neighbours-0")
    found, k = Precomputed(neighbours, table, shop.folder / "service", rules), LENGTH
    chosen = {name: found.of(name, k, rules) for name in neighbours.ids()}
    assert found.ruled.ready == 0 and any(chosen.values())
    while found.ruled.ready < 1:
        found.fill(0.01)
    assert {name: found.of(name, k, rules) for name in neighbours.ids()} == chosen
    query = next(name for name, hits in chosen.items() if hits)
    assert found.ruled.found(query, k, rules) is not None
    assert found.ruled.found(query, k - 1, rules) is None and found.ruled.found(query, k, PLAIN) is None

    first = (chosen[query] or [])[0][0]
    row = replace(table.get([first])[0], availability="out_of_stock")
    found.wrote([(first, row.content)], table.upsert([row], model_version=table.version.model_version))
    assert found.ruled.found(query, k, rules) is None, "not sure any more"
    found.refresh()
    assert found.ruled.found(query, k, rules) is None and found.ruled.ready < 1
    while found.ruled.ready < 1:
        found.fill(0.01)
    fresh = Precomputed(neighbours, table, shop.folder / "service", rules)
    assert {name: found.of(name, k, rules) for name in neighbours.ids()} == {
        name: fresh.of(name, k, rules) for name in neighbours.ids()
    }
    assert first not in dict(found.of(query, k, rules) or {})
