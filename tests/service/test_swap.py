"""Another version is taken into service without a pause, and every answer comes wholly from one version."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_shop import FAST, WAIT, Running, Shop, eventually, packed, png, serving

from tgqformer.catalog.item import Item
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.service.errors import ApiError
from tgqformer.service.places import Places, find_places
from tgqformer.service.site import open_site
from tgqformer.store.ledger import VersionSpec


def version(ask: Any) -> str:
    return str(ask.get("/readyz")["model_version"])


def test_the_catalogue_of_a_version_comes_with_it(shop: Shop) -> None:
    with CatalogWriter(shop.folder / "july", name="july", pack=True) as writer:
        for item in shop.items:
            writer.add(replace(item, attributes={"size": "July"}))
    (shop.folder / "recipe.yaml").unlink()  # a bare store: its versions know their catalogues
    places = replace(find_places(str(shop.folder / "store")), models=shop.models)
    with Running(open_site(places, FAST), FAST) as running:
        ask, model = running.client(), shop.model(1)
        assert ask.get("/items/sku-1")["attributes"] == {"size": "1"}
        spec = VersionSpec(model.version, model.dim, model=str(shop.models[1]), catalog=str(shop.folder / "july"))
        shop.store.serve(shop.store.create(spec, shop.rows(1)).name)
        eventually(lambda: ask.get("/items/sku-1")["attributes"] == {"size": "July"})
        assert version(ask) == model.version
        shop.store.rollback()
        eventually(lambda: ask.get("/items/sku-1")["attributes"] == {"size": "1"})


def test_a_table_that_is_made_anew_is_taken_up_by_a_version_beside(shop: Shop) -> None:
    second = shop.create(1, serve=False)
    shop.neighbours(1, k=5)
    with serving(shop) as running:

        def width() -> int:
            table = running.site.open_version(second.name).neighbours
            return 0 if table is None else table.neighbours.manifest.width

        assert width() == 5
        for name in ("embeddings-1", "neighbours-1"):
            shutil.rmtree(shop.folder / name)
        shop.neighbours(1, k=7)
        eventually(lambda: width() == 7)


def test_what_waits_for_a_model_is_told_once(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    second = shop.create(1, serve=False)
    site = open_site(shop.places(), FAST)
    real = site._models.of
    site._models.of = lambda version: None if version.name == second.name else real(version)  # type: ignore[method-assign]
    with Running(site, FAST) as running:

        def told() -> int:
            return sum("cannot be brought" in record.getMessage() for record in caplog.records)

        assert running.client().form("PUT", "/items/new", title="red hat")[0] == 200
        shop.store.share({second.name: 0.5})
        eventually(lambda: told() == 1)
        assert running.client().form("PUT", "/items/newer", title="blue hat")[0] == 200
        eventually(lambda: told() == 2)
        time.sleep(10 * FAST.refresh)
        assert told() == 2


def test_a_swap_is_seen_and_what_was_put_comes_along(shop: Shop) -> None:
    old, new = shop.model(0).version, shop.model(1).version
    second = shop.create(1, serve=False)
    with serving(shop) as running:
        ask = running.client()
        assert ask.form("PUT", "/items/new-1", png("red"), title="red hat")[0] == 200
        assert ask.form("PUT", "/items/sku-2", title="green bag")[0] == 200
        assert ask("DELETE", "/items/sku-9")[0] == 200
        assert version(ask) == old
        shop.store.serve(second.name)
        eventually(lambda: version(ask) == new)
        answer = ask.get("/items/new-1/similar?k=24")
        assert (answer["model_version"], answer["source"], len(answer["results"])) == (new, "live", 23)
        assert "sku-9" not in {hit["id"] for hit in answer["results"]}
        assert ask.get("/items/sku-2")["title"] == "green bag"
        status, found = ask.form("POST", "/search?k=1", png("red"), title="red hat")
        assert status == 200 and found["model_version"] == new
        assert found["results"] == [{"id": "new-1", "score": pytest.approx(1, abs=1e-4)}]
        assert shop.store.table(second.name).get(["new-1"])[0].id == "new-1"


def test_a_compatible_model_embeds_what_is_new_in_the_served_version(shop: Shop) -> None:
    old, new = shop.model(0).version, shop.model(1).version
    served = shop.store.served
    assert served is not None
    with serving(shop) as running:
        ask = running.client()
        before = {name: shop.store.table().get([name])[0].vector for name in ("sku-1", "sku-2")}
        assert ask.form("POST", "/embed", title="red hat")[1]["model_version"] == old
        shop.store.admit(served.name, new)
        eventually(lambda: ask.form("POST", "/embed", title="red hat")[1]["model_version"] == new)
        assert version(ask) == old, "the version is the same"
        assert ask.form("PUT", "/items/sku-2", png("red"), title="red hat")[0] == 200
        rows = {name: shop.store.table().get([name])[0].vector for name in before}
        assert np.array_equal(rows["sku-1"], before["sku-1"]), "old vectors stay"
        wanted = shop.model(1).encode([Item("", "red hat", pictures=(packed(png("red")),))])[0]
        np.testing.assert_allclose(rows["sku-2"], wanted, atol=1e-4)
        assert len(ask.get("/items/sku-2/similar?k=5")["results"]) == 5


@pytest.mark.parametrize("clock", ["1970-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"])
def test_what_was_put_comes_along_whatever_the_clock_says(
    shop: Shop, clock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, now = shop.create(1, serve=False), "tgqformer.store.versions._now"
    with serving(shop) as running:
        ask = running.client()
        assert ask.form("PUT", "/items/early", title="red hat")[0] == 200
        monkeypatch.setattr(now, lambda: clock)
        after = shop.create(0, serve=False)  # begun after that write: its catalogue would know the item
        assert ask.form("PUT", "/items/late", title="blue hat")[0] == 200
        shop.store.serve(before.name)
        eventually(lambda: ask.get("/readyz")["version"] == before.name)
        assert [ask("GET", f"/items/{name}")[0] for name in ("early", "late")] == [200, 200]
        shop.store.serve(after.name)
        eventually(lambda: ask.get("/readyz")["version"] == after.name)
        assert [ask("GET", f"/items/{name}")[0] for name in ("early", "late")] == [404, 200]


def test_no_answer_mixes_versions_while_swaps_go_on(shop: Shop) -> None:
    shop.neighbours(1)
    names = ("v1", shop.create(1, serve=False).name)
    expected = {shop.model(which).version: which for which in (0, 1)}
    first = {which: shop.model(which).encode([shop.items[3]])[0] for which in (0, 1)}
    wrong: list[Any] = []
    done, all_seen = threading.Event(), [set[str]() for _ in range(3)]
    with serving(shop) as running:

        def read(seen: set[str]) -> None:
            ask = running.client()
            while not done.is_set():
                status, answer = ask.form("POST", "/embed", shop.items[3].pictures[0].data, **_fields(shop, 3))
                seen.add(answer["model_version"])
                which = expected[answer["model_version"]]
                if status != 200 or abs(first[which] - answer["vector"]).max() > 1e-4:
                    wrong.append(answer)
                near = ask.get("/items/sku-3/similar?k=4")
                want = running.site.open_version(near["model_version"]).similar("sku-3", 4)
                if [hit["id"] for hit in near["results"]] != [hit.id for hit in want.hits]:
                    wrong.append(near)

        readers = [threading.Thread(target=read, args=[seen]) for seen in all_seen]
        for reader in readers:
            reader.start()
        ask, turn = running.client(), 0
        while turn < 4 or (any(len(seen) < 2 for seen in all_seen) and not wrong):
            turn += 1
            shop.store.serve(names[turn % 2])
            eventually(lambda turn=turn: version(ask) == shop.model(turn % 2).version)  # type: ignore[misc]
            assert ask.form("PUT", f"/items/new-{turn}", title="red shoe")[0] == 200
            assert all(reader.is_alive() for reader in readers)
        done.set()
        for reader in readers:
            reader.join(WAIT)
        assert not wrong
        assert all(ask("GET", f"/items/new-{one}")[0] == 200 for one in range(1, turn + 1))


def _fields(shop: Shop, n: int) -> dict[str, str]:
    item = shop.items[n]
    return {
        "title": item.title or "", "brand": item.brand or "", "category": " > ".join(item.category),
        "attributes": f'{{"size": "{n}"}}',
    }  # fmt: skip


def test_neighbours_that_fit_are_used_as_soon_as_they_are_there(shop: Shop) -> None:
    second = shop.create(1, serve=False)
    where = shop.folder / "neighbours-1"
    places = replace(shop.places(), neighbours=(shop.folder / "neighbours-0", where))
    with Running(open_site(places, FAST), FAST) as running:
        ask = running.client()
        shop.store.serve(second.name)
        eventually(lambda: version(ask) == shop.model(1).version)
        assert ask.get("/items/sku-1/similar")["source"] == "live"
        shop.neighbours(1)
        eventually(lambda: ask.get("/items/sku-1/similar")["source"] == "precomputed")


def test_a_version_whose_model_is_missing_is_not_taken(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    known = shop.create(1, serve=False)
    places = replace(shop.places(), models=(shop.models[0],))
    with Running(open_site(places, FAST), FAST) as running:
        ask, site = running.client(), running.site
        lost = replace(known, model="/nowhere")
        with caplog.at_level("ERROR", logger="tgqformer.service"):
            site._swap(lost)
        assert version(ask) == shop.model(0).version and "--model" in caplog.text


def test_a_version_that_cannot_be_opened_is_tried_again(shop: Shop, tmp_path: Path) -> None:
    second = shop.create(1, serve=False)
    where = tmp_path / "model"
    places = replace(shop.places(), models=(shop.models[0], where))
    with Running(open_site(places, FAST), FAST) as running:
        ask, site = running.client(), running.site
        site._models.of = lambda version, real=site._models.of: real(replace(version, model=None))  # type: ignore[method-assign]
        shop.store.serve(second.name)
        eventually(lambda: ask.get("/readyz")["refused"] == second.name)
        assert version(ask) == shop.model(0).version
        eventually(lambda: site.refusal is not None and site.refusal.tries > 1)
        shutil.copytree(shop.models[1], where)
        eventually(lambda: version(ask) == shop.model(1).version)
        assert ask.get("/readyz")["refused"] is None
        shop.store.serve("v1")
        eventually(lambda: version(ask) == shop.model(0).version)


def test_deletions_come_along_without_a_model(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    model = shop.model(1)
    second = shop.store.create(VersionSpec(model.version, model.dim), shop.rows(1))
    with serving(shop) as running:
        assert running.client()("DELETE", "/items/sku-9")[0] == 200
        assert running.client().form("PUT", "/items/new-1", title="red hat")[0] == 200
    shop.store.serve(second.name)
    site = open_site(Places(str(shop.folder / "store"), shop.folder / "service"), FAST)
    assert site.served.embedder is None and not site.served.has("sku-9") and not site.served.has("new-1")
    assert "1 item, put" in caplog.text
    asyncio.run(site.close())
    with serving(shop) as running:  # with a model again, what waited is brought in
        assert running.client()("GET", "/items/new-1")[0] == 200


def test_versions_are_open_side_by_side(shop: Shop) -> None:
    second = shop.create(1, serve=False)
    site = open_site(shop.places(), FAST)
    beside = site.open_version(second.name)
    assert beside is site.open_version(shop.model(1).version) and beside is not site.served
    assert beside.similar("sku-1", 3).model_version == shop.model(1).version
    assert [one.name for one in site.versions()] == ["v1", second.name]
    with pytest.raises(ApiError, match="no version 'v9'"):
        site.open_version("v9")
