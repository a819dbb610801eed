"""Batches, threads, the shelf and item look-ups by themselves, where the server does not show them."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from dataclasses import replace
from errno import ENOSPC
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_shop import FAST, WAIT, Running, Shop, eventually, packed, png

from tgqformer.catalog.item import Item
from tgqformer.errors import TgqError
from tgqformer.service.batching import Batcher, Pool
from tgqformer.service.errors import ApiError, Refused, as_api_error
from tgqformer.service.shelf import Entry, Shelf, ShelfError, Target
from tgqformer.service.site import open_site
from tgqformer.service.telemetry import JsonLines
from tgqformer.store.base import UnknownItem, VersionGone


def test_one_bad_job_spoils_no_other() -> None:
    sizes: list[int] = []

    def halve(jobs: list[int]) -> list[float]:
        sizes.append(len(jobs))
        return [1 / job for job in jobs]

    async def work() -> list[object]:
        batcher = Batcher(halve, size=4, wait=0.05, queue=10)
        found = await asyncio.gather(*(batcher.submit(job) for job in (1, 2, 0, 4)), return_exceptions=True)
        await batcher.close()
        return found

    one, two, bad, four = asyncio.run(work())
    assert (one, two, four) == (1.0, 0.5, 0.25) and isinstance(bad, ZeroDivisionError)
    assert sizes == [4, 1, 1, 1, 1]


def test_jobs_that_nobody_waits_for_are_not_done() -> None:
    done: list[int] = []
    held = threading.Event()

    def work(jobs: list[int]) -> list[int]:
        held.wait(WAIT)
        done.extend(jobs)
        return jobs

    async def give_up() -> None:
        batcher = Batcher(work, size=1, wait=0.0, queue=10)
        first, second = (asyncio.ensure_future(batcher.submit(job)) for job in (1, 2))
        await asyncio.sleep(0.05)
        second.cancel()
        held.set()
        assert await first == 1
        await batcher.close()

    asyncio.run(give_up())
    assert done == [1]


def test_threads_that_are_all_taken() -> None:
    async def work() -> None:
        pool, held = Pool(1, 1), threading.Event()
        running = [asyncio.ensure_future(pool.run(held.wait, WAIT)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match="too many requests"):
            await pool.run(held.wait, WAIT)
        held.set()
        assert await asyncio.gather(*running) == [True, True]
        while pool.jobs:
            await asyncio.sleep(0.01)
        pool.close()

    asyncio.run(work())


def test_the_shelf_knows_which_version_has_what(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "state" / "shelf.sqlite")
    item = Item("a", "red shoe", "acme", ("All", "Shoes"), {"size": "3"}, 4.5, (packed(png("red")),))
    keep(shelf, Entry("a", item, "c1"), version="v1", begun=2)
    keep(shelf, Entry("b", None), version="v2", begun=2)
    assert shelf.get("a") == Entry("a", item, "c1") and shelf.get("none") is None
    assert drained(shelf, "v1", 1) == [["b"]] and drained(shelf, "v1", 1) == []
    assert drained(shelf, "v2", 2) == [["a"]]
    assert drained(shelf, "v3", 3) == [], "begun after the writes: its catalogue knows them"
    assert drained(shelf, "v1", 1, store="another") == [], "a store that was made anew in this place"
    keep(shelf, Entry("a", item, "c2"), version="v3", begun=3)  # a new write: no other version has it
    assert [shelf.get("a"), drained(shelf, "v1", 1)] == [Entry("a", item, "c2"), [["a"]]]
    keep(shelf, Entry("c", None), version="v3", begun=3)
    with pytest.raises(TgqError, match="cannot be brought into"):
        list(shelf.pending(Target("v1", "s", 1)))
    with pytest.raises(TgqError, match="another service uses"):
        Shelf(tmp_path / "state" / "shelf.sqlite")
    shelf.close()
    (tmp_path / "no.sqlite").write_text("this is no database, but a text long enough to look at")
    with pytest.raises(TgqError, match="--state"):
        Shelf(tmp_path / "no.sqlite")


def keep(shelf: Shelf, *entries: Entry, version: str, begun: int) -> None:
    with shelf.recorded(entries, version, lambda: ("s", begun)):
        pass


def drained(shelf: Shelf, version: str, number: int, store: str = "s") -> list[list[str]]:
    found = []
    for part in shelf.pending(Target(version, store, number)):
        found.append([entry.id for entry in part])
        shelf.brought(found[-1], version)
    return found


def test_a_batch_counts_only_once_it_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "shelf.sqlite"
    shelf = Shelf(path)
    item, other = Item("a", "red shoe"), Item("a", "blue bag")
    keep(shelf, Entry("a", item, "c1"), version="v1", begun=1)
    with pytest.raises(OSError, match="full"), shelf.recorded([Entry("a", other, "c2")], "v1", lambda: ("s", 1)):
        raise OSError("the disk of the store is full")
    shelf.close()
    shelf = Shelf(path)  # killed before the next batch: nothing could be cleaned up
    assert shelf.get("a") == Entry("a", item, "c1") and drained(shelf, "v2", 1) == [["a"]]
    counted = iter([("s", 1), ("s", 2)])
    with shelf.recorded([Entry("b", other, "c3")], "v1", lambda: next(counted)):
        pass  # meanwhile a version is begun, which lacks it
    assert drained(shelf, "v2", 2) == [["b"]]
    shelf.close()
    path.with_suffix(".committed").write_text("12")
    with pytest.raises(TgqError, match="missing or damaged"):
        Shelf(path)
    path.with_suffix(".committed").unlink()
    with pytest.raises(TgqError, match="missing or damaged"):
        Shelf(path)


def test_items_of_a_store_without_catalogue(shop: Shop) -> None:
    site = open_site(replace(shop.places(), catalog=shop.folder / "catalog"), FAST)
    assert site.picture("sku-1") == shop.items[1].pictures[0].data and site.picture("sku-5") is None
    assert site.item("none") is None and site.picture("none") is None
    site.items._catalog = None
    bare = site.item("sku-1")
    assert bare == Item("sku-1", "blue shoe", "bolt", ("All", "shoe"), price=11.0)
    asyncio.run(site.close())
    with pytest.raises(TgqError, match="--catalog"):
        open_site(replace(shop.places(), catalog=shop.folder), FAST)


def test_an_item_that_another_service_put_is_told_as_it_is(shop: Shop) -> None:
    with Running(open_site(shop.places(), FAST), FAST) as one:
        places = replace(shop.places(), state=shop.folder / "second")
        with Running(open_site(places, FAST), FAST) as other:
            fields = {"title": "red hat", "brand": "Corvo", "category": "Hats > Caps", "price": "5", "sale_price": "4"}
            assert one.client().form("PUT", "/items/sku-1", **fields, availability="out_of_stock")[0] == 200
            eventually(lambda: other.client().get("/items/sku-1")["title"] == "red hat")
            told = [running.client().get("/items/sku-1") for running in (one, other)]
            for name in ("title", "brand", "category", "price", "sale_price", "availability"):
                assert told[0][name] == told[1][name]
            assert other.client().form("PUT", "/items/sku-1", **fields, availability="in_stock")[0] == 200
            eventually(lambda: one.client().get("/items/sku-1")["availability"] == "in_stock")


def test_what_fails_inside_is_told_without_its_words(shop: Shop) -> None:
    with Running(open_site(shop.places(), FAST), FAST) as running:

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("a secret")

        running.site.served.table.search = broken  # type: ignore[assignment,method-assign]
        lines = list[dict[str, object]]()
        logged = logging.Handler()
        logged.emit = lambda record: lines.append(json.loads(JsonLines().format(record)))  # type: ignore[method-assign]
        logging.getLogger("tgqformer.service").addHandler(logged)
        status, headers, body = running.client()("GET", "/items/sku-1/similar?brand=acme")
        logging.getLogger("tgqformer.service").removeHandler(logged)
        assert status == 500 and "secret" not in str(body)
        [told] = [line for line in lines if line["message"] == "a secret"]
        assert told["id"] == headers["x-request-id"]
        assert running.client().get("/healthz") == {"status": "ok"}
    gone = as_api_error(VersionGone("v1 was dropped; refresh"))
    assert gone.status == 503 and gone.headers["retry-after"] == "1"


def test_a_write_that_failed_does_not_come_later(shop: Shop) -> None:
    with Running(open_site(shop.places(), FAST), FAST) as running:
        ask, site = running.client(), running.site
        assert ask.form("PUT", "/items/new-1", title="red hat")[0] == 200
        kept, upsert = site.shelf.get("new-1"), site.served.table.upsert

        def broken(*_: object, **__: object) -> int:
            raise OSError(ENOSPC, "No space left on device /secret")

        site.served.table.upsert = broken  # type: ignore[method-assign]
        for name in ("new-1", "new-2"):
            status, body = running.client().form("PUT", f"/items/{name}", title="blue bag")
            assert status == 503 and "disk" in body["error"] and "secret" not in str(body)
        site.served.table.upsert = upsert  # type: ignore[method-assign]
        assert site.shelf.get("new-1") == kept and site.shelf.get("new-2") is None
        assert not list(site.shelf.pending(Target("v9", site.store.begun()[0], 2)))
        assert ask.get("/items/new-1")["title"] == "red hat"


def test_a_shelf_whose_disk_is_full(shop: Shop) -> None:
    with Running(open_site(shop.places(), FAST), FAST) as running:
        ask, site = running.client(), running.site
        full = site.shelf._connection
        full.execute("PRAGMA max_page_count = 1")  # SQLite goes no lower than the pages there are
        [(pages,)] = full.execute("PRAGMA page_count").fetchall()
        full.execute(f"PRAGMA max_page_count = {pages}")
        picture = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
        file = BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        status, body = ask.form("PUT", "/items/new-1", file.getvalue(), title="red hat")
        assert (status, body["error"]) == (503, "what comes in over HTTP cannot be kept now")
        assert ask("GET", "/items/new-1")[0] == 404 and ask("GET", "/items/sku-1")[0] == 200
        full.execute("PRAGMA max_page_count = 100000")
        assert ask.form("PUT", "/items/new-1", file.getvalue(), title="red hat")[0] == 200


def test_what_is_damaged_here_is_not_the_callers_fault() -> None:
    cases: list[tuple[TgqError, int, str]] = [
        (TgqError("/srv/part-3.parquet is damaged; import again"), 500, "the service failed"),
        (UnknownItem("/srv/store has no item 'x'; check the id"), 404, "there is no such item"),
        (ShelfError("/srv/shelf.sqlite cannot be used (disk full)"), 503, "what comes in over HTTP cannot be kept now"),
        (Refused("no price lies between 3 and 2; give the lower one"), 400, "no price lies between 3 and 2"),
    ]
    for error, status, words in cases:
        answer = as_api_error(error)
        assert (answer.status, answer.error) == (status, words) and "/srv" not in answer.hint


def test_a_catalogue_that_is_replaced_under_a_lookup(shop: Shop) -> None:
    site = open_site(shop.places(), FAST)
    catalog, positions = site.items._catalog or (None, {})
    assert catalog is not None
    site.items._catalog = catalog, positions | {"sku-1": 2}  # as it is until the next look
    assert site.item("sku-1") == Item("sku-1", "blue shoe", "bolt", ("All", "shoe"), price=11.0)
    asyncio.run(site.close())


def test_the_table_is_compacted_after_many_writes(shop: Shop) -> None:
    with Running(open_site(shop.places(), replace(FAST, optimize_every=3)), FAST) as running:
        ask, table, seen = running.client(), running.site.served.table, threading.Event()
        optimize = table.optimize
        table.optimize = lambda: (optimize(), seen.set())[1]  # type: ignore[method-assign]
        for n in range(3):
            assert not seen.is_set() and ask.form("PUT", f"/items/new-{n}", title="red hat")[0] == 200
        assert seen.wait(WAIT) and ask("GET", "/items/new-2")[0] == 200
