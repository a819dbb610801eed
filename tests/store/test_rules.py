"""Lists with rules: each rule by hand, and the same list from the table of neighbours as from a search."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from store_rows import clusters, rows_of, tiny_embedder
from typer.testing import CliRunner

from tgqformer.catalog import Catalog, CatalogWriter, Item, Picture, import_catalog
from tgqformer.catalog.pictures import ALIKE, look_of
from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.store import lists, make_store
from tgqformer.store.base import StoreRow, StoreTable
from tgqformer.store.build import Build, build_store
from tgqformer.store.embed import embed_catalog
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.lists import list_of, write_ruled
from tgqformer.store.neighbours import build_neighbours
from tgqformer.store.rows import unit
from tgqformer.store.rules import (
    PLAIN,
    Columns,
    Rules,
    choose,
    listed,
    load_rules,
    looks_of,
    rules_beside,
    similar,
)

CASE = "id,item_group_id,title,category,price,availability,color,size\n" + "".join(
    f"TEE-{color}-{size},TEE,Heavy cotton tee,Clothing > Shirts,25.00,{stock},{color},{size}\n"
    for size, stock in (("XS", "out_of_stock"), ("S", "out_of_stock"), ("M", "in_stock"), ("L", "in_stock"))
    for color in ("red", "blue")
)
CASE += "".join(
    f"T2-{i},T2-{i},{color} shirt no {i},Clothing > Shirts,1{i},in_stock,{color},M\n"
    for i, color in enumerate(("green", "black", "white", "yellow", "grey"))
)


def columns(**facts: list[Any]) -> Columns:
    """Columns of a query and the items after it, whose vectors do not matter."""
    count = len(next(iter(facts.values())))
    rows = [
        StoreRow(f"i{i}", np.zeros(2, np.float32), **{name: values[i] for name, values in facts.items()})
        for i in range(count)
    ]
    return Columns.of(rows)


def places_of(found: Columns, rules: Rules, k: int = 10, scores: list[float] | None = None) -> list[int]:
    count = len(found.ids) - 1
    given = np.array(scores or np.linspace(0.9, 0.1, count), np.float32)
    return choose(found, 0, np.arange(1, count + 1), given, k, rules).places.tolist()


def test_one_of_a_group_and_none_of_the_querys_own() -> None:
    found = columns(item_group=["A", "A", "B", None, "B", "C", None])
    assert places_of(found, Rules()) == [2, 3, 5, 6]
    assert places_of(found, PLAIN) == [1, 2, 3, 4, 5, 6]
    alone = columns(item_group=[None, "A", None, "A"])
    assert places_of(alone, Rules()) == [1, 2]


def test_stock_ids_and_scores() -> None:
    found = columns(availability=["out_of_stock", "in_stock", "out_of_stock", None, "preorder"])
    assert places_of(found, Rules(in_stock=True)) == [1, 3, 4]
    assert places_of(found, Rules(exclude=("i1", "i9"))) == [2, 3, 4]
    assert places_of(found, Rules(min_score=0.5), scores=[0.9, 0.5, 0.4, 0.1]) == [1, 2]


def test_price_in_times_of_the_querys() -> None:
    found = columns(price=[20.0, 9.0, 10.0, 40.0, 41.0, None, 80.0], sale_price=[None] * 6 + [30.0])
    assert places_of(found, Rules(price_from=0.5, price_to=2)) == [2, 3, 6]
    with np.errstate(all="raise"):  # a caller may send any number, and the log is not for warnings of it
        assert places_of(found, Rules(price_from=1e308)) == []
        assert places_of(found, Rules(price_from=0.5, price_to=1e308)) == places_of(found, Rules(price_from=0.5))
    assert places_of(found, Rules(price_to=2)) == [1, 2, 3, 6]
    assert places_of(columns(price=[None, 1.0, None]), Rules(price_to=2)) == [1, 2]
    two = columns(price=[20.0, 20.0, 20.0, 20.0], currency=["EUR", "JPY", "EUR", None])
    assert places_of(two, Rules(price_to=2)) == [2]
    row = replace(StoreRow("i1", np.zeros(2, np.float32)), price=20.0, currency="EUR")
    assert places_of(two.patched([(1, row)]), Rules(price_to=2)) == [1, 2]
    with pytest.raises(TgqError, match="above price_to"):
        Rules().changed({"price_from": 2, "price_to": 1}, "rules")


def test_the_category_is_required_or_boosted() -> None:
    found = columns(category=[("A", "x"), ("B",), ("A", "x"), ("A", "y"), ()])
    assert places_of(found, Rules(same_category="require")) == [2]
    assert places_of(found, Rules(same_category="require", category_levels=1)) == [2, 3]
    scores = [0.9, 0.85, 0.5, 0.4]
    assert places_of(found, Rules(same_category="boost", boost=0.1), scores=scores) == [2, 1, 3, 4]
    assert places_of(found, Rules(same_category="boost", boost=0.01), scores=scores) == [1, 2, 3, 4]
    assert places_of(columns(category=[(), ("B",)]), Rules(same_category="require")) == [1]


@pytest.mark.parametrize("diversity", [0.2, 0.5, 1.0])
def test_diversity_is_marginal_relevance_as_written(diversity: float) -> None:
    vectors = unit(clusters(31, 8))
    scores = vectors[1:] @ vectors[0]
    order = np.argsort(-scores, kind="stable")
    rows = Columns.of(StoreRow(f"i{i}", vector) for i, vector in enumerate(vectors))
    chosen = choose(rows, 0, order + 1, scores[order], 5, Rules(diversity=diversity), lambda places: vectors[places])
    pool, taken = list((order + 1)[:15]), list[int]()
    while len(taken) < 5:  # the definition, one item at a time

        def worth(place: int) -> float:
            near = max((float(vectors[place] @ vectors[one]) for one in taken), default=0.0)
            return (1 - diversity) * float(vectors[place] @ vectors[0]) - diversity * near

        taken.append(max(pool, key=worth))
        pool.remove(taken[-1])
    assert chosen.places.tolist() == taken and chosen.enough
    np.testing.assert_allclose(chosen.scores, vectors[taken] @ vectors[0], atol=1e-6)


def picture(seed: int, quality: int = 90, size: tuple[int, int] = (256, 256)) -> bytes:
    colours = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), np.uint8)
    buffer, drawn = BytesIO(), Image.fromarray(colours).resize((256, 256), Image.Resampling.BICUBIC)
    drawn.resize(size).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_near_identical_pictures_count_once() -> None:
    looks = [look_of(one) for one in (picture(1), picture(2), picture(1, 60), picture(1, size=(300, 300)), picture(3))]
    found = columns(look=[looks[1], looks[0], looks[2], looks[1], looks[4], None, None])
    assert places_of(found, Rules(same_picture_once=True)) == [1, 4, 5, 6]
    row = [bytes([60 + step, 180 + step] * 96) for step in (0, 2, 4, 7)]
    assert places_of(columns(look=[None, *row]), Rules(same_picture_once=True)) == [1, 3, 4]  # no chain of small steps


def earring(shape: int, quality: int = 90, side: int = 480) -> bytes:
    """A small thing on white, as shops photograph jewellery."""
    image = np.full((480, 480, 3), 255, np.uint8)
    parts = np.random.default_rng(shape).random((4, 4)) < 0.5
    image[200:280, 210:250] = np.where(np.kron(parts, np.ones((20, 10)))[..., None], 165, 235)
    drawn, buffer = Image.fromarray(image), BytesIO()
    drawn.resize((side, side), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_products_of_one_colour_and_shape_do_not_count_as_one() -> None:
    looks = [look_of(earring(shape)) for shape in range(8)]
    looks += [look_of(earring(3, 60, side)) for side in (480, 288, 720, 150)]
    near = np.abs(np.diff(looks_of(looks[:8]), axis=0)).max(1)
    assert near.min() <= ALIKE and near.max() <= 16, "none of 8 x 8 places tells much"
    found = columns(look=[None, *looks])
    assert places_of(found, Rules(same_picture_once=True)) == list(range(1, 9))
    plain = [bytes([shade] * 192) for shade in (255, 255, 249)]
    assert places_of(columns(look=[None, *plain]), Rules(same_picture_once=True)) == [1, 3]


SETS = [
    PLAIN,
    Rules(),
    Rules(in_stock=True, min_score=0.1),
    Rules(same_category="require", category_levels=1, price_to=3.0, exclude=("i5", "i17")),
    Rules(in_stock=True, same_category="boost", boost=0.2, category_levels=1),
    Rules(diversity=0.4, same_picture_once=True, in_stock=True),
]


def test_the_table_of_neighbours_and_a_search_give_the_same_list(
    write: Callable[..., Embeddings], tmp_path: Path
) -> None:
    vectors = unit(clusters(240, 16))
    rows = list(rows_of(vectors))
    rows = [replace(row, look=picture_look(i)) for i, row in enumerate(rows)]
    store = make_store(tmp_path / "store")
    table: StoreTable = store.table(store.create(VersionSpec("v1", 16), rows).name)
    neighbours = build_neighbours(write(vectors), tmp_path / "n", 100, show_progress_bar=False)
    found = Columns.of(rows)
    for rules in SETS:
        answered = 0
        for row in rows[::7]:
            chosen = list_of(neighbours, found, row.id, 6, rules)
            hits, _ = listed(table, row, 6, None, rules)
            if chosen.enough:
                answered += 1
                assert [found.ids[place] for place in chosen.places] == [hit.id for hit in hits], rules
        assert answered > 5, rules


def picture_look(i: int) -> bytes:
    return np.random.default_rng(i // 2).integers(0, 256, 192, np.uint8).tobytes()


def test_a_search_goes_on_until_the_list_is_full(tmp_path: Path) -> None:
    vectors = clusters(300, 8)
    rows = [
        StoreRow(f"i{i}", vector, item_group="one" if i < 250 else f"g{i}", availability="in_stock")
        for i, vector in enumerate(vectors)
    ]
    store = make_store(tmp_path / "store")
    table = store.table(store.create(VersionSpec("m1", 8), rows).name)
    hits = similar(table, "i3", 20)
    assert len(hits) == 20 and {hit.item_group for hit in hits}.isdisjoint({"one"})
    assert len(similar(table, "i3", 100)) == len(similar(table, "i3", 10**9)) == 50  # there are no more
    with pytest.raises(TgqError, match="at least 1"):
        similar(table, "i3", 0)


def test_rules_are_read_from_a_recipe_and_unknown_ones_named(tmp_path: Path) -> None:
    file = tmp_path / "run/recipe.yaml"
    file.parent.mkdir()
    file.write_text("name: shop\nmodels: []\nrules: {in_stock: true, diversity: 0.2}\n")
    assert load_rules(file) == rules_beside(str(tmp_path / "run/store")) == Rules(in_stock=True, diversity=0.2)
    assert rules_beside(str(tmp_path / "store")) == rules_beside("s3://bucket/store") == Rules()
    file.write_text("in_stok: true\n")
    with pytest.raises(TgqError, match="did you mean 'in_stock'"):
        load_rules(file)


def test_variants_do_not_fill_the_list(
    tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.csv").write_text(CASE)
    model = tiny_embedder(tiny_model, 0)
    model.save(tmp_path / "model")
    import_catalog("shop.csv", "cat", mapping={"attributes": ["color", "size", "availability"]})
    catalog = Catalog.open("cat")
    embed_catalog(model, catalog, tmp_path / "emb", workers=1, shown=False)
    build_store(Embeddings.open(tmp_path / "emb"), catalog, "store", Build(model=tmp_path / "model"))
    assert "5" in tgq("similar", "TEE-red-M", "--store", "store", "-k", 10)
    said = tgq("similar", "TEE-red-M", "--store", "store", "-k", 10)
    assert all(f"T2-{i}" in said for i in range(5)) and said.count("TEE-") == 1
    assert "left out: 7 by one_per_group" in said
    every = tgq("similar", "TEE-red-M", "--store", "store", "-k", 20, "--rule", "one_per_group=false", "--in-stock")
    assert "TEE-blue-M" in every and "-XS" not in every and "left out: 4 by in_stock" in every
    only = tgq("similar", "T2-0", "--store", "store", "-k", 20, "--where", "availability=out_of_stock")
    assert "T2-1" not in only and "TEE-" in only
    for wrong, hint in (("--rule divrsity=1", "did you mean 'diversity'"), ("--where stock=1", "nothing to filter by")):
        result = CliRunner().invoke(app, ["similar", "T2-0", "--store", "store", *wrong.split()])
        assert isinstance(result.exception, TgqError) and hint in str(result.exception)


def test_what_rules_leave_is_measured_and_written(write: Callable[..., Embeddings], tmp_path: Path) -> None:
    with CatalogWriter(tmp_path / "cat", name="x", pack=True) as writer:
        for i in range(40):
            writer.add(Item(f"i{i}", f"Mug {i}", item_group=f"g{i // 4}", pictures=(known(i),)))
    catalog = Catalog.open(tmp_path / "cat")
    assert next(catalog.items()).pictures[0].look == look_of(picture(0))
    neighbours = build_neighbours(write(clusters(40, 8)), tmp_path / "n", 12, show_progress_bar=False)
    told = write_ruled(neighbours, catalog, Rules(), 6, tmp_path / "lists.parquet")
    written = pq.read_table(tmp_path / "lists.parquet").to_pylist()
    assert told.full == sum(len(row["neighbours"]) == 6 for row in written) and 0 < told.share <= 1
    groups = {item.id: item.item_group for item in catalog.items()}
    for row in written:
        shown = [groups[name] for name in row["neighbours"]]
        assert len(set(shown)) == len(shown) and groups[row["id"]] not in shown
    kept = json.loads((tmp_path / "n/lists.json").read_text())
    assert kept["full"] == told.full and kept["hidden"] == told.hidden and kept["rules"]["one_per_group"]
    said = tgq("neighbours", tmp_path / "embeddings", "--to", tmp_path / "n", "-k", 12, "--catalog", tmp_path / "cat")
    assert "have a full list of 10 by the rules" in said


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--rules", "rules.yaml"], "give their catalogue with --catalog"),
        (["--rules", "nowhere.yaml", "--catalog", "cat"], "nowhere.yaml"),
        (["--catalog", "other"], "was not made from other"),
        (["--length", "5"], "give their catalogue with --catalog"),
        (["--length", "20", "-k", "10", "--catalog", "cat"], "a table of 10 neighbours cannot fill lists of 20"),
    ],
)
def test_neighbours_are_not_computed_where_their_lists_by_rules_cannot_be_made(
    words: list[str], hint: str, write: Callable[..., Embeddings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, first in (("cat", 0), ("other", 1)):
        with CatalogWriter(tmp_path / name, name="x", pack=True) as writer:
            for i in range(first, first + 40):
                writer.add(Item(f"i{i}", f"Mug {i}"))
    (tmp_path / "rules.yaml").write_text("in_stock: true")
    write(clusters(40, 8))
    result = CliRunner().invoke(app, ["neighbours", "embeddings", "--to", "near", *words])
    assert isinstance(result.exception, TgqError) and hint in str(result.exception)
    assert not (tmp_path / "near").exists()


def test_a_list_that_a_search_would_choose_from_more_candidates_is_not_called_full(
    write: Callable[..., Embeddings], tmp_path: Path
) -> None:
    """A diverse list of 6 is chosen from 18 candidates: 12 are too few, unless there are no others."""
    with CatalogWriter(tmp_path / "cat", name="x", pack=True) as writer:
        for i in range(40):
            writer.add(Item(f"i{i}", f"Mug {i}"))
    embeddings, catalog = write(clusters(40, 8)), Catalog.open(tmp_path / "cat")
    full = [
        write_ruled(build_neighbours(embeddings, tmp_path / str(k), k, show_progress_bar=False), catalog, rules, 6).full
        for k, rules in ((12, Rules()), (12, Rules(diversity=0.5)), (20, Rules(diversity=0.5)))
    ]
    assert full == [40, 0, 40]
    every = build_neighbours(embeddings, tmp_path / "every", 39, show_progress_bar=False)
    assert write_ruled(every, catalog, Rules(diversity=0.5), 20).full == 40


@pytest.mark.parametrize("rules", [Rules(in_stock=True), Rules(price_to=1.2, diversity=0.3, same_picture_once=True)])
def test_only_lists_that_may_have_changed_are_chosen_anew(
    write: Callable[..., Embeddings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: Rules
) -> None:
    def catalog_of(name: str, sold: set[int]) -> Catalog:
        with CatalogWriter(tmp_path / name, name="x", pack=True) as writer:
            for i in range(40):
                stock = "out_of_stock" if i in sold else "in_stock"
                facts = {
                    "availability": stock,
                    "price": 90.0 if i in sold else 10.0 + i / 10,
                    "item_group": f"g{i // 2}",
                }
                writer.add(Item(f"i{i}", f"Mug {i}", pictures=(known(i),), **facts))
        return Catalog.open(tmp_path / name)

    chosen, choosing = list[str](), lists.list_of
    monkeypatch.setattr(lists, "list_of", lambda *given: chosen.append(given[2]) or choosing(*given))
    neighbours = build_neighbours(
        write(clusters(40, 8), contents=[f"{i:032x}" for i in range(1, 41)]), tmp_path / "n", 6
    )
    first, later = catalog_of("first", {3}), catalog_of("later", {3, 7})
    assert lists.renew_ruled(neighbours.path, first) is None, "nothing is said of lists yet"
    write_ruled(neighbours, first, rules, 3)
    assert len(chosen) == 40
    before = (neighbours.path / "lists.json").read_bytes()
    assert lists.renew_ruled(neighbours.path, first) and len(chosen) == 40
    assert (neighbours.path / "lists.json").read_bytes() == before
    told = lists.renew_ruled(neighbours.path, later)
    touched = {name for name in neighbours.ids() if name == "i7" or "i7" in dict(neighbours.of(name))}
    assert set(chosen[40:]) == touched and len(chosen) == 40 + len(touched) < 80
    renewed = (neighbours.path / "lists.json").read_bytes()
    (neighbours.path / lists.ROWS).unlink()
    assert write_ruled(neighbours, later, rules, 3) == told
    assert (neighbours.path / "lists.json").read_bytes() == renewed != before


def known(i: int) -> Picture:
    return Picture(Picture.digest_of(picture(i)), None, picture(i))


def tgq(*words: object) -> str:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result.output


def test_diversity_without_vectors_is_refused() -> None:
    found = columns(price=[1.0, 1.0, 1.0])
    with pytest.raises(TgqError, match="only where the neighbours have vectors"):
        choose(found, 0, np.arange(1, 3), np.ones(2, np.float32), 2, Rules(diversity=0.5))
