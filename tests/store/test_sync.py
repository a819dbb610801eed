"""`tgq sync`: what is new, changed or gone; interruptions; new versions. The same tests for every back end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from store_rows import tiny_embedder
from typer.testing import CliRunner

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.cli import app
from tgqformer.config import parse
from tgqformer.errors import TgqError
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.store import make_store, open_store
from tgqformer.store.base import FACTS, Filter, Store, StoreTable
from tgqformer.store.build import Build, build_store
from tgqformer.store.content import BLIND, SEEN
from tgqformer.store.embed import embed_catalog
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.follow import Followed
from tgqformer.store.lists import ROWS, write_ruled
from tgqformer.store.neighbours import Neighbours, build_neighbours
from tgqformer.store.rules import LISTS, Rules
from tgqformer.store.sync import SyncReport, SyncSettings, plan_sync, sync

FIRST = SyncSettings(new_version=True, label="first", workers=1)
PLAIN = SyncSettings(workers=1)


@pytest.fixture(scope="session")
def models(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Give two saved models whose weights differ."""
    folders = [tmp_path_factory.mktemp("models") / name for name in ("one", "two")]
    for seed, folder in enumerate(folders):
        tiny_embedder(tiny_model, seed).save(folder)
    return folders


@pytest.fixture(scope="session")
def model(models: list[Path]) -> ItemEmbedder:
    return ItemEmbedder.load(models[0])


def written(path: Path, items: Sequence[Item]) -> Catalog:
    with CatalogWriter(path, name="shop", pack=True, overwrite=True) as writer:
        for item in items:
            writer.add(item)
    return Catalog.open(path)


def run(catalog: Catalog, store: Store, model: ItemEmbedder, settings: SyncSettings = PLAIN) -> SyncReport:
    return sync(catalog, store, model, settings, shown=False)


def require_equal(table: StoreTable, items: Sequence[Item], model: ItemEmbedder) -> None:
    """The table holds exactly these items, as they are now."""
    rows = {row.id: row for row in table.get([name for name, _ in table.contents()])}
    assert sorted(rows) == sorted(item.id for item in items) and table.count() == len(items)
    vectors = model.encode(items, truncate_dim=table.version.dim)
    for item, vector in zip(items, vectors, strict=True):
        row = rows[item.id]
        assert (row.title, row.brand, row.category, row.price) == (item.title, item.brand, item.category, item.price)
        np.testing.assert_allclose(row.vector, vector, atol=1e-5)


def test_a_store_follows_its_catalogue(
    place: Callable[[], str], tmp_path: Path, tiny_items: list[Item], model: ItemEmbedder
) -> None:
    store = make_store(place())
    report = run(written(tmp_path / "a", tiny_items), store, model, FIRST)
    assert (report.embedded, report.built, report.version.label) == (12, True, "first")
    assert store.served is not None and store.served.name == "v1"
    require_equal(store.table(), tiny_items, model)
    again = run(written(tmp_path / "a", tiny_items), store, model)
    assert (again.embedded, again.updated, again.deleted, again.same) == (0, 0, 0, 12)

    now = tiny_items[1:10]
    now[0] = replace(now[0], price=9.5)  # the model does not read it
    now[1] = replace(now[1], title="blue bag")
    now[2] = replace(now[2], pictures=tiny_items[0].pictures)
    now.append(replace(tiny_items[0], id="new", price=3.0))
    revision = store.table().revision()
    report = run(written(tmp_path / "b", now), store, model)
    assert (report.embedded, report.updated, report.deleted, report.same) == (3, 1, 3, 6)
    assert store.table().revision() > revision and len(store.versions()) == 1
    require_equal(store.table(), now, model)
    assert [hit.id for hit in store.table().search(store.table().get(["new"])[0].vector, 3, Filter(max_price=5))] == [
        "new"
    ]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_what_changes_from_day_to_day_changes_no_vector(
    place: Callable[[], str],
    tmp_path: Path,
    tiny_items: list[Item],
    model: ItemEmbedder,
    monkeypatch: pytest.MonkeyPatch,
    dtype: Any,
) -> None:
    offer = {"availability": "in_stock", "item_group": "A", "currency": "EUR", "created": "2024-02-29"}
    items = [replace(item, price=10.0, **offer) for item in tiny_items]
    store = make_store(place())
    run(written(tmp_path / "a", items), store, model, replace(FIRST, dtype=dtype))
    before = {row.id: row for row in store.table().get([item.id for item in items])}

    def embeds(*given: object, **named: object) -> object:
        raise AssertionError("something is embedded again")

    monkeypatch.setattr(ItemEmbedder, "forward", embeds)
    changes: list[dict[str, Any]] = [
        {"availability": "out_of_stock"},
        {"price": 12.0, "sale_price": 8.0},
        {"item_group": None, "currency": "SEK", "created": "2025-01-01"},
    ]
    now = [replace(item, **change) for item, change in zip(items, changes, strict=False)] + items[len(changes) :]
    report = run(written(tmp_path / "b", now), store, model)
    assert (report.embedded, report.updated, report.deleted, report.same) == (0, 3, 0, len(items) - 3)
    for item in now:
        [row] = store.table().get([item.id])
        assert all(getattr(row, name) == getattr(item, name) for name in FACTS if name != "look")
        np.testing.assert_array_equal(row.vector, before[item.id].vector)
        assert row.look == before[item.id].look and (row.look is not None) == bool(item.pictures)
    assert store.table().count(Filter(in_stock=True)) == len(items) - 1


def test_a_sync_that_breaks_goes_on(
    place: Callable[[], str],
    tmp_path: Path,
    tiny_items: list[Item],
    model: ItemEmbedder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, catalog = make_store(place()), written(tmp_path / "a", tiny_items)
    small = replace(FIRST, batch_rows=2, batch_size=2)
    left, encode = iter(range(3)), model.encoders.encode  # type: ignore[union-attr]

    def breaks(*given: object, **named: object) -> object:
        if next(left, None) is None:
            raise TgqError("the power fails here")
        return encode(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(type(model.encoders), "encode", lambda _, *given, **named: breaks(*given, **named))
    with pytest.raises(TgqError, match="power fails"):
        run(catalog, store, model, small)
    monkeypatch.undo()
    assert store.versions() == [] and store.served is None
    report = run(catalog, open_store(store.where) if "://" not in store.where else store, model, small)
    assert 0 < report.same < 12 and report.embedded + report.same == 12
    store.refresh()
    require_equal(store.table(), tiny_items, model)


def test_a_new_model_is_built_beside(
    place: Callable[[], str], tmp_path: Path, tiny_items: list[Item], models: list[Path], model: ItemEmbedder
) -> None:
    store, catalog, other = make_store(place()), written(tmp_path / "a", tiny_items), ItemEmbedder.load(models[1])
    run(catalog, store, model, FIRST)
    with pytest.raises(TgqError, match=r"holds vectors of model \w+, this model is \w+: .* --new-version"):
        run(catalog, store, other)
    waiting = replace(FIRST, label="second", serve=False, dtype="float16", dim=4)
    assert run(catalog, store, other, waiting).version.name == "v2"
    assert store.served is not None and store.served.name == "v1"
    report = run(catalog, store, other, replace(waiting, serve=True))
    assert (report.version.name, report.same, report.built) == ("v2", 12, False), "what is whole is not built twice"
    assert store.served.name == "v2" and store.table().version.dim == 4
    changed = written(tmp_path / "b", tiny_items[:8])
    assert run(changed, store, model, replace(PLAIN, version="v1")).deleted == 4, "an old version can be kept fresh"
    assert store.table("v1").count() == 8 and store.table().count() == 12
    assert store.rollback().name == "v1"
    with pytest.raises(TgqError, match="either named or new"):
        run(catalog, store, other, replace(FIRST, version="v1"))
    with pytest.raises(TgqError, match="gives 8 dimensions, not 9"):
        run(catalog, store, other, replace(FIRST, dim=9))


def test_a_catalogue_that_lost_most_of_its_items_is_refused(
    tmp_path: Path, tiny_items: list[Item], model: ItemEmbedder
) -> None:
    store = make_store(tmp_path / "store")
    many = [replace(tiny_items[0], id=f"m{i}") for i in range(40)]
    run(written(tmp_path / "a", many), store, model, FIRST)
    few = written(tmp_path / "b", many[:10])
    with pytest.raises(TgqError, match="lacks 30 of the 40 items"):
        run(few, store, model)
    assert store.table().count() == 40
    assert run(few, store, model, replace(PLAIN, allow_shrink=True)).deleted == 30
    other = written(tmp_path / "c", [replace(tiny_items[0], id="other")])
    with pytest.raises(TgqError, match="lacks 10 of the 10 items"):
        run(other, store, model)


@pytest.mark.parametrize("given", [{"label": "x"}, {"dtype": "int8"}, {"dim": 4}, {"serve": False}, {"keep": 3}])
def test_what_is_said_of_a_new_version_needs_one(given: dict[str, Any]) -> None:
    with pytest.raises(TgqError, match=f"{next(iter(given))} can be set for a new version alone; give --new-version"):
        parse(SyncSettings, given, "the sync")


def test_pictures_that_cannot_be_read_are_tried_again(
    tmp_path: Path, tiny_items: list[Item], model: ItemEmbedder
) -> None:
    good = tiny_items[0]
    data = good.pictures[0].data
    assert data is not None
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(data)
    with CatalogWriter(tmp_path / "a", name="shop", pack=False, root=tmp_path / "photos") as writer:
        writer.add(replace(good, pictures=(Picture(good.pictures[0].digest, "a.png"),)))
    (tmp_path / "photos/a.png").unlink()
    catalog, store = Catalog.open(tmp_path / "a"), make_store(tmp_path / "store")
    report = run(catalog, store, model, FIRST)
    assert list(report.unreadable) == [good.id]
    assert dict(store.table().contents())[good.id][:SEEN] == BLIND
    (tmp_path / "photos/a.png").write_bytes(data)
    assert run(catalog, store, model).embedded == 1
    assert run(catalog, store, model).same == 1


def test_what_an_index_made_is_unchanged_for_a_sync(
    place: Callable[[], str], tmp_path: Path, tiny_items: list[Item], models: list[Path], model: ItemEmbedder
) -> None:
    catalog = written(tmp_path / "a", tiny_items)
    embed_catalog(model, catalog, tmp_path / "e", workers=1, shown=False)
    build = Build("indexed", models[0], "float16", truncate_dim=5)
    store = build_store(Embeddings.open(tmp_path / "e"), catalog, place(), build, show_progress_bar=False)
    version = store.served
    assert version is not None and (version.dim, version.dtype, version.label) == (5, "float16", "indexed")
    assert version.model == str(models[0].resolve()) and version.catalog == str(catalog.path.resolve())
    prompt = model.encoders.prompt  # type: ignore[union-attr]
    assert plan_sync(catalog, store.table(), prompt).same == 12
    torch.testing.assert_close(
        torch.tensor(store.table().get(["i2"])[0].vector),
        torch.tensor(model.encode([tiny_items[2]], truncate_dim=5)[0]),
        atol=1e-3,
        rtol=0,
    )
    unknown = build_store(Embeddings.open(tmp_path / "e"), catalog, store.where if "://" not in store.where
                          else str(tmp_path / "s"), show_progress_bar=False)  # fmt: skip
    assert plan_sync(catalog, unknown.table(), prompt).same == 12, "the embeddings know what they were made from"
    cut = build_store(Embeddings.open(tmp_path / "e"), catalog, tmp_path / "cut", Build(truncate_dim=5))
    assert cut.served is not None and cut.served.dim == 5, "the embeddings know that they may be cut"
    with pytest.raises(TgqError, match=r"was made by model .* name the model that embedded"):
        build_store(Embeddings.open(tmp_path / "e"), catalog, tmp_path / "x", Build(model=models[1]))
    assert not (tmp_path / "x").exists()
    with pytest.raises(TgqError, match="truncate_dim is 9"):
        build_store(Embeddings.open(tmp_path / "e"), catalog, tmp_path / "x", Build(truncate_dim=9))


def test_a_compatible_model_that_may_not_be_cut_joins_no_cut_version(
    tmp_path: Path, tiny_items: list[Item], models: list[Path], model: ItemEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, store = written(tmp_path / "a", tiny_items), make_store(tmp_path / "s")
    run(catalog, store, model, replace(PLAIN, new_version=True, dim=5))
    other = ItemEmbedder.load(models[1])
    other.compatible = (model.version,)
    monkeypatch.setattr(other, "frozen", object())
    with pytest.raises(TgqError, match="the first 5 of the model's"):
        run(catalog, store, other)
    assert store.versions()[-1].models == (model.version,)


def test_neighbours_follow_a_sync(
    tmp_path: Path, tiny_items: list[Item], models: list[Path], model: ItemEmbedder
) -> None:
    run_folder = tmp_path / "run"
    catalog = written(tmp_path / "a", tiny_items)
    embed_catalog(model, catalog, tmp_path / "e", workers=1, shown=False)
    embeddings = Embeddings.open(tmp_path / "e")
    store = build_store(embeddings, catalog, run_folder / "store", Build(model=models[0]), show_progress_bar=False)
    beside, elsewhere = run_folder / "neighbours", tmp_path / "elsewhere"
    for folder in (beside, elsewhere):
        build_neighbours(embeddings, folder, 3, show_progress_bar=False)
    write_ruled(Neighbours.open(elsewhere), catalog, Rules(in_stock=True), 2)
    (run_folder / "recipe.yaml").write_text("")
    now = [replace(tiny_items[4], title="Another title"), *tiny_items[6:], replace(tiny_items[1], id="new")]
    changed = written(tmp_path / "b", now)
    done = run(changed, store, model).neighbours[beside]
    assert isinstance(done, Followed) and done.changed and done.searched == done.fresh
    followed = Neighbours.open(beside)
    assert followed.ids() == [item.id for item in now]
    rows = store.table().get(followed.ids())
    scores = np.array([row.vector for row in rows]) @ np.array([row.vector for row in rows]).T
    np.fill_diagonal(scores, -1)
    for place, item_id in enumerate(followed.ids()):
        best = np.sort(scores[place])[::-1][:3]
        np.testing.assert_allclose([score for _, score in followed.of(item_id)], best, atol=1e-5)
    assert list(followed.contents()) == [dict(store.table().contents())[item.id][:SEEN] for item in now]

    before = (elsewhere / "manifest.json").read_text()
    assert run(changed, store, model, replace(PLAIN, neighbours=(elsewhere,))).neighbours[elsewhere] == done
    assert (elsewhere / "manifest.json").read_text() != before and not (beside / LISTS).exists()
    kept = (elsewhere / LISTS).read_text()
    assert json.loads(kept)["items"] == len(now)
    (elsewhere / ROWS).unlink()
    write_ruled(Neighbours.open(elsewhere), changed, Rules(in_stock=True), 2)
    assert (elsewhere / LISTS).read_text() == kept, "what is said of lists by rules is what a fresh build says"
    (beside / "vectors.npy").unlink()
    assert "no exact vectors" in str(run(catalog, store, model).neighbours[beside]), "the sync is done all the same"
    with pytest.raises(TgqError, match="no exact vectors"):
        run(changed, store, model, replace(PLAIN, neighbours=(beside,)))
    assert sorted(store.table().contents())[0][0] == "i0", "nothing was synced"


def tgq(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_commands(
    tmp_path: Path, tiny_items: list[Item], models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "shop", tiny_items)
    with pytest.raises(TgqError, match="is no store"):
        tgq("sync", "shop", "--store", "store")
    with pytest.raises(TgqError, match="which model"):
        tgq("sync", "shop", "--store", "store", "--new-version")
    output = tgq("sync", "shop", "--store", "store", "--model", models[0], "--new-version", "--label", "old")
    assert "version v1 of store: embedded 12, updated 0, deleted 0, unchanged 0" in output
    assert "unchanged 12" in tgq("sync", "shop", "--store", "store"), "the version knows its model"
    tgq("embed", "shop", "--model", models[0], "--to", "e", "--workers", "1")
    tgq("neighbours", "e", "--to", "n", "-k", "3")
    assert "neighbours in n: unchanged" in tgq("sync", "shop", "--store", "store", "--neighbours", "n")
    tgq("sync", "shop", "--store", "store", "--model", models[1], "--new-version", "--label", "new", "--dtype", "int8")
    listed = [line for line in tgq("store", "versions", "store").splitlines() if "8 x" in line]
    assert "old" in listed[0] and "8 x float32" in listed[0] and "served" not in listed[0]
    assert "new" in listed[1] and "8 x int8" in listed[1] and "served" in listed[1] and " 12 " in listed[1]
    assert "serves v1 again" in tgq("store", "rollback", "store")
    assert "serves v2" in tgq("store", "serve", "store", "v2")
    assert "0 of 12 rows indexed" in tgq("store", "optimize", "store", "--version", "v1")
    assert "v1 is gone" in tgq("store", "drop", "store", "v1")
    assert "i2" in tgq("similar", "i1", "--store", "store", "--version", "v2")
    with pytest.raises(TgqError, match="no item 'i99'; did you mean 'i9"):
        tgq("similar", "i99", "--store", "store")


def test_titles_that_the_model_cannot_read_are_told(
    tmp_path: Path, tiny_items: list[Item], models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "shop", [replace(item, title="红色 帆布 鞋") for item in tiny_items])
    output = tgq("sync", "shop", "--store", "store", "--model", models[0], "--new-version")
    assert "warning: " in output and "Chinese" in output and "embedded 12" in output
