"""A table searched in memory: as the table answers, through writes, changes by others, and a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_rows import clusters, rows_of

from tgqformer.store import make_store, memory
from tgqformer.store.base import Filter, Hit, StoreRow, StoreTable
from tgqformer.store.facets import KnownValues
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.live import LiveTable
from tgqformer.store.memory import MemoryIndex
from tgqformer.store.rows import unit
from tgqformer.store.rules import PLAIN, Rules, listed, similar

VECTORS = clusters(300, 16)
FILTERS = [
    Filter(brand=("brand1", "Brand2")),
    Filter(category=("leaf2", "top0")),
    Filter(category=("Top1 > leaf2",), max_price=200),
    Filter(min_price=50, max_price=60, category=("leaf1",)),
    Filter(max_price=99.5),
    Filter(availability=("in_stock",), item_group=("g2", "g3", "g40")),
    Filter(in_stock=True, currency=("EUR",)),
    Filter(path=(("top1", "leaf2"),)),
]
RULES = [
    PLAIN,
    Rules(),
    Rules(in_stock=True, exclude=("i1", "i9")),
    replace(PLAIN, same_category="require", category_levels=1),
    replace(PLAIN, same_category="require"),
    replace(PLAIN, same_category="boost", diversity=0.4),
    replace(PLAIN, price_from=0.8, price_to=1.1),
    Rules(min_score=0.5, diversity=0.2),
    Rules(same_picture_once=True),
]


def made(where: str, dtype: str = "float32") -> StoreTable:
    store = make_store(where)
    return store.table(store.create(VersionSpec("m1", 16, dtype), rows_of(VECTORS)).name)  # type: ignore[arg-type]


def built(table: StoreTable) -> LiveTable:
    found = LiveTable.build(table, pictured=True)
    assert found is not None
    return found


def told(hits: list[Hit] | None) -> list[tuple[str, float]]:
    assert hits is not None
    return [(hit.id, pytest.approx(hit.score, abs=1e-4)) for hit in hits]  # type: ignore[misc]


def same(live: LiveTable, table: StoreTable, names: list[str], k: int = 10) -> None:
    """Hold lists in memory against those of the table, whatever the rules."""
    for name in names:
        for rules in RULES:
            found = live.similar(name, k, None, rules)
            assert found is not None
            assert [hit.id for hit in found[0]] == [hit.id for hit in similar(table, name, k, rules=rules)], rules
    for query in clusters(3 if table.version.dtype == "float32" else 0, 16, seed=5):  # else queries are rounded, too
        row = StoreRow("", query, None, None, ("top1", "leaf2"), 30.0, item_group="g3", currency="EUR")
        for rules in RULES:
            found = live.listed(row, k, None, rules)
            assert found is not None and told(found[0]) == [
                (h.id, h.score) for h in listed(table, row, k, None, rules)[0]
            ]


def test_lists_are_those_of_the_table(any_place: Callable[[], str]) -> None:
    table = made(any_place())
    live = built(table)
    assert len(live) == 300 and "i7" in live and "x" not in live
    same(live, table, ["i3", "i17", "i44", "i299"])
    values = KnownValues(table)
    for where in FILTERS:
        found = live.listed(StoreRow("", VECTORS[3]), 25, where, PLAIN)
        expected = table.search(VECTORS[3], 25, values.meant(where))
        assert found is not None and [hit.id for hit in found[0]] == [hit.id for hit in expected] != [], where
    assert live.listed(StoreRow("", VECTORS[3]), 5, Filter(brand=("nobody",)), PLAIN) is None
    assert live.similar("nothing", 5, None, PLAIN) is None


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_it_follows_writes(place: Callable[[], str], dtype: str) -> None:
    where = place()
    table = made(where, dtype=dtype)
    live = built(table)
    rows = {row.id: row for row in table.rows()}

    changed = [replace(rows["i5"], price=1.0, availability="out_of_stock"), replace(rows["i6"], vector=VECTORS[100])]
    own = [*changed, StoreRow("new", VECTORS[7] + 0.01, item_group="g9")]
    table.upsert(own, model_version="m1")
    live.wrote(own)
    table.delete(["i8", "not there"])
    live.wrote((), ["i8", "not there"])
    assert len(live) == 300 and "i8" not in live and live._rows.dead == 2  # i5 has the vector it had
    same(live, table, ["i5", "i6", "new"])
    assert live.refresh() and not live.refresh() and live._rows.dead == 2
    same(live, table, ["i5", "new"])

    table.upsert([replace(rows["i9"], vector=VECTORS[200]), rows["i8"]], model_version="m1")  # by others
    table.delete(["new"])
    assert live.refresh() and "new" not in live and "i8" in live
    same(live, table, ["i8", "i9", "i200"])


def test_after_a_restart_it_is_as_the_table_is(
    place: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = made(place())
    live = built(table)
    live.save(tmp_path / "live")
    row = table.get(["i3"])[0]
    table.upsert([replace(row, vector=VECTORS[50], content="other"), StoreRow("new", VECTORS[9])], model_version="m1")
    table.delete(["i4"])
    again = LiveTable.load(table, tmp_path / "live", pictured=True)
    assert again is not None and "new" in again and "i4" not in again and not again.saved
    same(again, table, ["i3", "new", "i60"])
    monkeypatch.setattr(type(table), "touched", lambda self, since: None)  # so long ago that it is not known any more
    again = LiveTable.load(table, tmp_path / "live", pictured=True)
    assert again is not None
    same(again, table, ["i3", "new", "i60"])
    (tmp_path / "live" / "rows.arrow").write_bytes(b"cut off")
    assert LiveTable.load(table, tmp_path / "live", pictured=True) is None
    assert LiveTable.load(table, tmp_path / "none") is None


def test_what_is_written_while_others_changes_are_read_stays(
    place: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = made(place())
    live = built(table)
    row = table.get(["i3"])[0]
    table.upsert([replace(row, price=5.0)], model_version="m1")  # by others
    read = type(table).rows

    def slow(self: StoreTable, ids: list[str] | None = None) -> object:
        found = list(read(self, ids))
        live.wrote([replace(row, price=7.0)])
        return iter(found)

    monkeypatch.setattr(type(table), "rows", slow)
    live.refresh()
    assert live._rows.asked(live._rows.place["i3"]).price == 7.0


def test_few_are_compared_exactly_and_many_are_found_in_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "EXACT_ROWS", 100)
    monkeypatch.setattr(memory, "EXACT_SHARE", 0)
    vectors, luck = unit(clusters(3000, 16)), np.random.default_rng(0)
    index = MemoryIndex(16)
    index.add(vectors)
    everything = np.ones(3000, bool)
    assert index.measure(everything) >= memory.AIM
    for share, least in ((1.0, 0.97), (0.5, 0.97), (0.1, 1.0), (0.01, 1.0)):
        passing = luck.random(3000) < share
        found = 0.0
        for query in unit(clusters(30, 16, seed=3)):
            truth = np.flatnonzero(passing)[np.argsort(-(vectors[passing] @ query))[:10]]
            rows, scores = index.search(query, 10, passing)
            assert passing[rows].all() and (np.diff(scores) <= 0).all()
            np.testing.assert_allclose(scores, vectors[rows] @ query, atol=1e-5)
            found += len(np.intersect1d(rows, truth)) / 300
        assert found >= least - 1e-9, share


def test_what_a_filter_leaves_is_compared_by_codes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "EXACT_ROWS", 100)
    monkeypatch.setattr(memory, "EXACT_SHARE", 0)
    vectors, luck = unit(clusters(6000, 128)), np.random.default_rng(0)
    index = MemoryIndex(128)
    index.add(vectors[:5000])
    index.measure(np.ones(5000, bool))
    index.add(vectors[5000:])
    index.save(tmp_path)
    read = MemoryIndex.load(tmp_path, 128, index.width, index.candidates)
    passing, coded = luck.random(6000) < 0.15, list[int]()
    passing[5990:] = True
    monkeypatch.setattr(MemoryIndex, "_walked", lambda *_: pytest.fail("the graph was asked"))
    there = MemoryIndex._coded
    monkeypatch.setattr(MemoryIndex, "_coded", lambda self, *asked: coded.append(1) or there(self, *asked))
    found = 0.0
    for query in vectors[5990:]:
        truth = np.flatnonzero(passing)[np.argsort(-(vectors[passing] @ query))[:10]]
        rows, scores = index.search(query, 10, passing)
        np.testing.assert_array_equal(rows, read.search(query, 10, passing)[0])
        np.testing.assert_allclose(scores, vectors[rows] @ query, atol=1e-5)
        found += len(np.intersect1d(rows, truth)) / 100
    assert found >= 0.97 and len(coded) == 20
    (tmp_path / "codes.faiss").write_bytes((tmp_path / "graph.faiss").read_bytes()[:5000])
    with pytest.raises(RuntimeError):
        MemoryIndex.load(tmp_path, 128, index.width, index.candidates)


def test_a_filter_in_a_large_pool_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in (("EXACT_ROWS", 100), ("EXACT_SHARE", 0), ("MOST_CODED", 300)):
        monkeypatch.setattr(memory, name, small)
    vectors, luck, asked = unit(clusters(12_000, 64)), np.random.default_rng(0), list[str]()
    index = MemoryIndex(64)
    index.add(vectors)
    index.measure(np.ones(12_000, bool))
    for name in ("_walked", "_coded", "_compared"):
        there = getattr(MemoryIndex, name)
        monkeypatch.setattr(
            MemoryIndex, name, lambda self, *args, there=there, name=name: asked.append(name) or there(self, *args)
        )
    queries = unit(clusters(30, 64, seed=3))
    for share, first in ((0.5, "_walked"), (0.08, "_walked"), (0.03, "_coded"), (0.02, "_coded"), (0.005, "_compared")):
        passing = luck.random(12_000) < share
        for k in (10, 100):
            found = 0.0
            for query in queries:
                truth = np.flatnonzero(passing)[np.argsort(-(vectors[passing] @ query))[:k]]
                asked.clear()
                rows, _ = index.search(query, k, passing)
                assert asked[0] == (first if k < passing.sum() else "_compared")
                found += len(np.intersect1d(rows, truth)) / len(truth) / len(queries)
            assert found >= 0.99, (share, k)


def test_codes_that_lose_too_much_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "EXACT_ROWS", 100)
    monkeypatch.setattr(memory, "EXACT_SHARE", 0)
    monkeypatch.setattr(memory, "CANDIDATES", (1,))
    monkeypatch.setattr(memory, "PER_ITEM", 1)
    index = MemoryIndex(16)
    index.add(unit(clusters(3000, 16)))
    index.measure(np.ones(3000, bool))
    monkeypatch.setattr(MemoryIndex, "_coded", lambda *_: pytest.fail("codes were asked"))
    passing = np.arange(3000) % 10 == 0
    assert index.search(index.vectors()[0], 5, passing)[0][0] == 0


def test_a_copy_with_a_flipped_bit_is_not_used(place: Callable[[], str], tmp_path: Path) -> None:
    table, luck = made(place()), np.random.default_rng(0)
    built(table).save(tmp_path / "live")
    files = [path for path in (tmp_path / "live").iterdir() if path.name != "tgq.json" and path.suffix != ".crc"]
    assert {"about.json", "names.json", "rows.arrow", "graph.faiss"} <= {path.name for path in files}
    for file in files:
        whole = file.read_bytes()
        for at in luck.integers(0, len(whole), 10).tolist():
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << int(luck.integers(8))]) + whole[at + 1 :])
            assert LiveTable.load(table, tmp_path / "live") is None, (file.name, at)
        file.write_bytes(whole)
    assert LiveTable.load(table, tmp_path / "live") is not None


def test_searches_and_writes_at_once(place: Callable[[], str]) -> None:
    table, wrong = made(place()), list[BaseException]()
    live, done = built(table), threading.Event()

    def search() -> None:
        try:
            while not done.is_set():
                found = live.similar("i3", 10, None, Rules(in_stock=True))
                assert found is not None and len(found[0]) == 10
        except BaseException as error:  # noqa: BLE001
            wrong.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(300):
        live.wrote([StoreRow(f"more-{n % 50}", VECTORS[n])], [f"more-{(n + 25) % 50}"])
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
