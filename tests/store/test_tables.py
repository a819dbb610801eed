"""One version: rows, search, filters. The same tests for every back end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_rows import clusters, rows_of, truth

from tgqformer.errors import TgqError
from tgqformer.store import lance, make_store, open_store, postgres_table
from tgqformer.store.base import FACTS, Filter, StoreRow, StoreTable, UnknownItem
from tgqformer.store.embeddings import Vectors
from tgqformer.store.lance_rows import sql_of
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.rows import quantised, unit
from tgqformer.store.rules import PLAIN, similar

NASTY = ["O'Neill", "x' OR '1'='1", "back\\slash", 'dou"ble', "日本", "%_", "{a,b}", "a;b--", "''", " ", "NULL"]
VECTORS = clusters(300, 16)


def made(where: str, vectors: Vectors = VECTORS, dtype: str = "float32") -> StoreTable:
    store = make_store(where)
    return store.table(store.create(VersionSpec("m1", vectors.shape[1], dtype), rows_of(vectors)).name)  # type: ignore[arg-type]


def test_without_an_index_recall_is_one(place: Callable[[], str]) -> None:
    table = made(place())
    assert table.stats().indexed == 0 and table.stats().rows == 300
    for query in clusters(8, 16, seed=1):
        for exact in (True, False):
            assert [hit.id for hit in table.search(query, 30, exact=exact)] == truth(VECTORS, query, 30)


def test_a_hit_carries_what_the_row_has(place: Callable[[], str]) -> None:
    table = made(place())
    hit = table.search(VECTORS[12], 1)[0]
    assert (hit.id, hit.title, hit.brand, hit.category) == ("i12", "title 12", "brand2", ("top0", "leaf5"))
    assert hit.price == 12.0 and hit.score == pytest.approx(1, abs=1e-5) and hit.score <= 1
    assert table.search(VECTORS[11], 1)[0].price is None
    hit = table.search(VECTORS[17], 1)[0]
    assert (hit.item_group, hit.availability, hit.sale_price) == ("g4", None, 8.5)
    assert (hit.currency, hit.created, hit.look) == ("EUR", "2024-02-29", bytes([17]) * 192)
    [row] = table.get(["i17"])
    assert all(getattr(row, name) == getattr(hit, name) for name in FACTS)


FILTERS: list[tuple[Filter, Callable[[int], object]]] = [
    (Filter(brand=("brand1",)), lambda i: i % 5 == 1),
    (Filter(brand=("brand1", "brand2")), lambda i: i % 5 in (1, 2)),
    (Filter(category=("top1",)), lambda i: i % 3 == 1),
    (Filter(category=("leaf2", "top0")), lambda i: i % 7 == 2 or i % 3 == 0),
    (Filter(min_price=100), lambda i: i / (2 if i % 10 == 7 else 1) >= 100 and i % 11),
    (Filter(max_price=99.5, brand=("brand0",)), lambda i: i <= 99 and i % 5 == 0 and i % 11),
    (Filter(availability=("in_stock",)), lambda i: i % 3 == 0),
    (Filter(in_stock=True), lambda i: i % 3 != 1),
    (Filter(item_group=("g2", "g3"), currency=("EUR",)), lambda i: i in (9, 11, 13, 15)),
    (Filter(min_price=50, max_price=60, category=("leaf1",)), lambda i: i == 50),
    (Filter(path=(("top1", "leaf2"),)), lambda i: i % 21 == 16),
    (Filter(path=(("leaf2", "top1"), ("top", "leaf2"))), lambda i: False),
    (
        Filter(category=("leaf5",), path=(("top1", "leaf2"),), max_price=40),
        lambda i: i in (5, 12, 16, 19, 26, 37, 40, 47),
    ),
    (Filter(brand=("nobody",)), lambda i: False),
    (Filter(brand=("nul\x00",)), lambda i: False),
]


def test_filters(any_place: Callable[[], str]) -> None:
    table = made(any_place())
    for where, passes in FILTERS:
        passing = [i for i in range(300) if passes(i)]
        assert [hit.id for hit in table.search(VECTORS[3], 25, where)] == truth(VECTORS, VECTORS[3], 25, passing), where
        assert table.count(where) == len(passing)


def test_values_are_only_ever_values(place: Callable[[], str]) -> None:
    store = make_store(place())
    rows = [
        StoreRow(word, np.eye(16, dtype=np.float32)[i], None, word, (word,), None, word) for i, word in enumerate(NASTY)
    ]
    table = store.table(store.create(VersionSpec("m1", 16), rows).name)
    for word in NASTY:
        for where in (Filter(brand=(word,)), Filter(category=(word,))):
            assert [hit.id for hit in table.search(rows[0].vector, 20, where)] == [word]
        assert table.get([word])[0].brand == word and list(table.contents([word])) == [(word, word)]
    table.delete([NASTY[1]])
    assert table.count() == len(NASTY) - 1


def test_similar_leaves_the_item_out(place: Callable[[], str]) -> None:
    table = made(place())
    assert [hit.id for hit in similar(table, "i7", 10, rules=PLAIN)] == truth(VECTORS, VECTORS[7], 11)[1:]
    only = similar(table, "i7", 3, Filter(brand=("brand0",)), PLAIN)  # the item itself does not pass the filter
    assert len(only) == 3 and {hit.brand for hit in only} == {"brand0"}
    with pytest.raises(TgqError, match="at least 1"):
        similar(table, "i7", 0)
    for unknown in ("i6000", "nul\x00", "' OR 1=1"):
        with pytest.raises(UnknownItem, match="has no item"):
            similar(table, unknown, 10)


def test_get_keeps_the_order_asked(place: Callable[[], str]) -> None:
    table = made(place())
    rows = table.get(["i9", "i2", "i9"])
    assert [row.id for row in rows] == ["i9", "i2", "i9"] and rows[1].category == ("top2", "leaf2")
    assert rows[0].content == "c9"
    np.testing.assert_allclose(rows[0].vector, unit(VECTORS[9:10])[0], atol=1e-6)
    many = [f"i{i}" for i in range(299, -1, -1)]
    assert [row.id for row in table.get(many)] == many and table.get([]) == []


def test_upsert_replaces_and_adds_and_delete_removes(any_place: Callable[[], str]) -> None:
    where = any_place()
    table = made(where, VECTORS[:50])
    first = table.revision()
    after = table.upsert([StoreRow("i3", VECTORS[100], "new title"), StoreRow("new", VECTORS[101])], model_version="m1")
    assert first < after == table.revision() and table.count() == 51
    assert table.search(VECTORS[100], 1)[0].title == "new title"
    gone = table.delete(["i3", "not there"])
    assert gone == table.revision() > after
    again = open_store(where).table("v1")
    assert again.stats().rows == 50
    assert "i3" not in {hit.id for hit in again.search(VECTORS[100], 60)}
    assert dict(again.contents()) == {f"i{i}": f"c{i}" for i in range(50) if i != 3} | {"new": ""}
    assert dict(again.contents(["i3", "i4", "new"])) == {"i4": "c4", "new": ""}
    assert table.upsert([], model_version="m1") == table.delete([]) == gone and table.count() == 50


def test_changes_are_writes_and_nothing_else(any_place: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    where = any_place()
    table = made(where, VECTORS[:50])
    start = table.revision()
    own = [table.upsert([StoreRow("new", VECTORS[101])], model_version="m1"), table.delete(["i3"])]
    table.optimize()
    assert table.changes(start) == own and table.changes(own[1]) == [] and table.revision() >= own[1]
    other = open_store(where).table("v1").delete(["i4"])
    assert table.changes(own[1]) == [other] == [table.revision()]
    monkeypatch.setattr(lance, "MOST_TRANSACTIONS", 0)
    assert table.changes(start)[-1] == other  # too many to look at: taken for a change


def test_what_was_touched_since_a_revision(any_place: Callable[[], str]) -> None:
    table = made(any_place())
    since, rows = table.revision(), table.get(["i7", "i8", "i9"])
    assert table.touched(since) == set()
    table.upsert([replace(rows[0], title="another"), StoreRow("new", VECTORS[0])], model_version="m1")
    table.delete(["i8", "not there"])
    assert (table.touched(since) or set()) - {"not there"} == {"i7", "new", "i8"}
    table.optimize()
    table.delete(["i8", "i9"])
    table.upsert([rows[1]], model_version="m1")
    middle = table.revision()
    assert table.touched(since) and {"i7", "new", "i8", "i9"} <= (table.touched(since) or set()) <= {
        "i7", "new", "i8", "i9", "not there"
    }  # fmt: skip
    table.delete(["new"])
    assert table.touched(middle) == {"new"}


def test_the_caches_of_lancedb_fit_the_indexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    connect = lance._connect
    monkeypatch.setattr(
        lance, "_connect", lambda where, index, rest: asked.append(index) or connect(where, index, rest)
    )
    monkeypatch.setattr(lance, "SPARE_CACHE", 100_000)
    table = made(str(tmp_path / "grows"), VECTORS[:20])
    before = len(asked)
    table.upsert(list(rows_of(VECTORS))[20:], model_version="m1")
    table.optimize()
    assert asked[before:] == [100_000 + 300 * (16 + lance.INDEX_ROW) * 3 // 2]
    assert table.count() == 300 and [hit.id for hit in table.search(VECTORS[250], 1)] == ["i250"]
    asked.clear()
    fixed = open_store(tmp_path / "grows", index_cache=1 << 20).table("v1")
    fixed.optimize()
    assert asked == [lance.LEDGER_CACHE, 1 << 20] and fixed.search(VECTORS[250], 1)[0].id == "i250"


@pytest.mark.parametrize(
    ("rows", "version", "message"),
    [
        ([StoreRow("a", np.ones(16, np.float32))], "m2", "holds vectors of model 'm1', not 'm2'"),
        ([StoreRow("a", np.ones(15, np.float32))], "m1", "vectors of width 16"),
        ([StoreRow("a", np.full(16, np.inf, np.float32))], "m1", "item 'a'"),
        ([StoreRow("a", np.ones(16, np.float32))] * 2, "m1", "stands twice"),
    ],
)
def test_wrong_rows_are_refused_whole(
    place: Callable[[], str], rows: list[StoreRow], version: str, message: str
) -> None:
    table = made(place(), VECTORS[:5])
    with pytest.raises(TgqError, match=message):
        table.upsert([StoreRow("fine", VECTORS[6]), *rows], model_version=version)
    assert table.count() == 5
    with pytest.raises(TgqError, match="width 16"):
        table.search(np.ones(3, np.float32), 1)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_a_zero_vector_is_like_nothing_and_hurts_nothing(place: Callable[[], str], dtype: str) -> None:
    table = made(place(), np.concatenate([VECTORS[:5], np.zeros((1, 16), np.float32)]), dtype)
    assert {hit.id: hit.score for hit in table.search(VECTORS[0], 6)}["i5"] == 0
    assert [hit.score for hit in table.search(np.zeros(16, np.float32), 2)] == [0, 0]
    assert not table.get(["i5"])[0].vector.any()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_vectors_come_back_as_their_dtype_can_say(place: Callable[[], str], dtype: str) -> None:
    table = made(place(), dtype=dtype)
    kept = np.stack([row.vector for row in table.get([f"i{i}" for i in range(300)])])
    expected = unit(quantised(unit(VECTORS), dtype))  # type: ignore[arg-type]
    np.testing.assert_allclose(kept, expected, atol=1e-6)
    assert np.abs(kept - unit(VECTORS)).max() < {"float32": 1e-6, "float16": 5e-4, "int8": 6e-3}[dtype]
    table.upsert(table.get(["i5"]), model_version="m1")  # what was kept is kept again as it is
    np.testing.assert_allclose(table.get(["i5"])[0].vector, kept[5], atol=1e-6)
    found = {hit.id for query in VECTORS[:9] for hit in table.search(query, 20)}
    exact = {name for query in VECTORS[:9] for name in truth(VECTORS, query, 20)}
    assert len(found & exact) / len(exact) > 0.97
    score = table.search(VECTORS[4], 5)[3].score
    assert score == pytest.approx(float(np.sort(unit(VECTORS) @ unit(VECTORS)[4])[-4]), abs=0.01)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_index_finds_what_is_there_filtered_and_not(
    place: Callable[[], str], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, vectors, k = place(), clusters(1500, 24), 20
    for module in (lance, postgres_table):
        monkeypatch.setattr(module, "INDEX_FROM", 1000)
    monkeypatch.setattr(lance, "GRAPH_ROWS", 200)
    table = made(where, vectors, dtype)
    assert table.stats().indexed == 1500
    queries = clusters(10, 24, seed=2)

    def recall(filtered: Filter | None, passing: list[int] | None) -> float:
        hits = [{hit.id for hit in table.search(q, k, filtered)} & set(truth(vectors, q, k, passing)) for q in queries]
        return sum(map(len, hits)) / (k * len(queries))

    full = 0.97 if dtype == "int8" else 0.99
    a_seventh = [i for i in range(1500) if i % 7 == 3]
    assert recall(None, None) >= 0.95
    assert recall(Filter(category=("leaf3",)), a_seventh) >= full, "few pass: answered exactly"
    for module in (lance, postgres_table):
        monkeypatch.setattr(module, "EXACT_BELOW", 0)
    assert recall(Filter(category=("leaf3",)), a_seventh) >= 0.95
    assert [hit.id for hit in table.search(vectors[0], 1, exact=True)] == ["i0"]
    new = np.tile(np.float32([9, -9]), 12)
    table.upsert([StoreRow("new", new)], model_version="m1")
    assert table.search(new, 1)[0].id == "new", "what is written after the index is found"
    table.optimize()
    assert table.search(new, 1)[0].id == "new" and table.stats().indexed == 1501


def test_writers_at_the_same_time_lose_and_double_nothing(place: Callable[[], str]) -> None:
    where = place()
    made(where, VECTORS[:10])

    def write(worker: int) -> None:
        table = open_store(where).table("v1")  # as another process would
        for first in range(0, 60, 10):
            rows = [StoreRow(f"n{i}", VECTORS[i], f"by {worker}") for i in range(first, first + 10)]
            table.upsert([*rows, StoreRow(f"own-{worker}-{first}", VECTORS[worker])], model_version="m1")
            table.delete([f"i{first // 10}"])
            if worker == 2:
                table.optimize()

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write, range(3)))
    ids = [name for name, _ in open_store(where).table("v1").contents()]
    own = {f"own-{worker}-{first}" for worker in range(3) for first in range(0, 60, 10)}
    assert sorted(ids) == sorted({*(f"i{i}" for i in range(6, 10)), *(f"n{i}" for i in range(60)), *own})


def test_wrong_filters_are_refused() -> None:
    with pytest.raises(TgqError, match=r"no price lies between 5 and 4"):
        Filter(min_price=5, max_price=4)
    with pytest.raises(TgqError, match="finite"):
        Filter(max_price=float("nan"))
    assert not Filter() and Filter(min_price=0.0) and sql_of(Filter(brand=("a'b",))) == "brand IN ('a''b')"
    with pytest.raises(TgqError, match="did you mean 'in_stock'"):
        Filter(availability=("in_stok",))
    assert Filter(availability=("instock", "Sold Out")).availability == ("in_stock", "out_of_stock")
