"""Precomputed answers are of what the items were when the table was made, or they are not given."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_shop import Shop

from tgqformer.errors import TgqError
from tgqformer.service.precomputed import Precomputed, find_neighbours
from tgqformer.store.base import StoreRow, StoreTable
from tgqformer.store.neighbours import Neighbours


def opened(shop: Shop) -> Precomputed:
    return Precomputed(Neighbours.open(shop.folder / "neighbours-0"), shop.store.table(), shop.folder / "service")


def changed(shop: Shop, n: int, content: str | None = None) -> StoreRow:
    row = shop.rows(0)[n]
    return replace(row, vector=-row.vector, content="f" * len(row.content) if content is None else content)


def write(table: StoreTable, *rows: StoreRow) -> None:
    table.upsert(rows, model_version=table.version.model_version)


def test_what_changed_before_the_first_look_is_not_answered(shop: Shop) -> None:
    write(shop.store.table(), changed(shop, 3))
    shop.store.table().delete(["sku-4"])
    found = opened(shop)
    assert found.stale == {"sku-3", "sku-4"} and found.of("sku-3", 5) is None
    near = found.of("sku-1", 5)
    assert near is not None and not {name for name, _ in near} & {"sku-3", "sku-4"}
    assert not list((shop.folder / "service").glob("baseline-*"))  # the table itself says what it was made from
    write(shop.store.table(), shop.rows(0)[3])  # as it was again
    assert found.refresh() and found.stale == {"sku-4"}


def test_tables_that_do_not_say_what_they_were_made_from(shop: Shop) -> None:
    shutil.rmtree(shop.folder / "neighbours-0")
    shutil.rmtree(shop.folder / "embeddings-0")
    shop.neighbours(0, told=False)
    assert not opened(shop).stale  # the first look is what counts
    write(shop.store.table(), changed(shop, 3))
    assert opened(shop).stale == {"sku-3"} and list((shop.folder / "service").glob("baseline-*"))


def test_rows_that_do_not_say_what_they_are_made_from_count_as_unchanged(shop: Shop) -> None:
    write(shop.store.table(), changed(shop, 3, ""))
    found = opened(shop)
    assert not found.stale
    found.wrote([("sku-3", ""), ("unknown", "x")], 0)
    assert not found.stale
    found.wrote([("sku-3", "other"), ("sku-5", None)], 0)
    assert found.stale == {"sku-3", "sku-5"}


def test_a_folder_that_is_replaced_goes_on_as_it_was(shop: Shop, tmp_path: Path) -> None:
    found, where = opened(shop), shop.folder / "neighbours-0"
    before = {f"sku-{n}": found.of(f"sku-{n}", 5) for n in range(24)}
    where.rename(tmp_path / "old")
    shutil.rmtree(tmp_path / "old")
    shutil.rmtree(shop.folder / "embeddings-0")
    shop.neighbours(0, k=10)
    assert {name: found.of(name, 5) for name in before} == before and len(found.of("sku-1", 20) or []) == 20


def test_a_folder_that_is_replaced_while_it_is_opened_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    where = shop.folder / "neighbours-0"
    init = Neighbours.__init__

    def slow(self: Neighbours, *given: object) -> None:
        init(self, *given)  # type: ignore[arg-type]
        manifest = where / "manifest.json"
        content = manifest.read_bytes()
        manifest.unlink()
        (where / "another").write_bytes(b"")
        manifest.write_bytes(content)

    monkeypatch.setattr(Neighbours, "__init__", slow)
    with pytest.raises(TgqError, match="was replaced while it was opened"):
        Neighbours.open(where)
    assert find_neighbours([where], shop.model(0).version) is None


def test_short_digests_are_never_taken_for_what_is_missing(shop: Shop) -> None:
    digests = opened(shop)._baseline
    assert digests.dtype == np.uint64 and (digests > 1).all() and len(set(digests.tolist())) == 24


def test_own_writes_and_compacting_are_no_reason_to_compare_anew(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    found, table, read = opened(shop), shop.store.table(), []
    contents = Precomputed._contents
    monkeypatch.setattr(Precomputed, "_contents", lambda self: read.append(1) or contents(self))
    for n in (3, 4):
        row = changed(shop, n)
        found.wrote([(row.id, row.content)], table.upsert([row], model_version=table.version.model_version))
    before = table.revision()
    table.optimize()
    assert table.revision() > before
    assert not found.refresh() and not read and found.stale == {"sku-3", "sku-4"}
    write(table, changed(shop, 5))
    table.optimize()
    assert found.refresh() and not read and found.stale == {"sku-3", "sku-4", "sku-5"}
    assert not found.refresh()


def test_what_others_change_is_looked_at_alone(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    found, table, read = opened(shop), shop.store.table(), []
    contents = Precomputed._contents
    monkeypatch.setattr(Precomputed, "_contents", lambda self: read.append(1) or contents(self))
    write(table, changed(shop, 5), changed(shop, 6))
    table.delete(["sku-7"])
    assert found.refresh() and not read and found.stale == {"sku-5", "sku-6", "sku-7"}
    write(table, shop.rows(0)[6], shop.rows(0)[7])  # as they were
    assert found.refresh() and not read and found.stale == {"sku-5"}
    monkeypatch.setattr(type(table), "touched", lambda self, since: None)  # so long ago that it is not known any more
    write(table, changed(shop, 8))
    assert found.refresh() and len(read) == 1 and found.stale == {"sku-5", "sku-8"}
