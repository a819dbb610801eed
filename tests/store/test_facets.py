"""Filters as people type them: paths with any separator, any capitals; what no item has is told with the nearest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tgqformer.store import make_store
from tgqformer.store.base import Filter, StoreRow, StoreTable, UnknownValue
from tgqformer.store.facets import Facets, KnownValues
from tgqformer.store.ledger import VersionSpec

PATHS = [("Clothing", "Shirts"), ("Men", "Clothing", "Shirts"), ("clothing", "Shoes/Boots"), ("Home & Garden",)]
FACETS = Facets(PATHS, ["Nordfaden", "NORDFADEN", "L'Or", "Tonwerk"])


@pytest.mark.parametrize("mark", [" > ", " › ", ">", "/", " | ", " » ", " -> ", "::", " → "])
def test_a_path_is_read_with_any_separator_and_any_capitals(mark: str) -> None:
    for words in (("Clothing", "Shirts"), ("CLOTHING", "shirts")):
        assert FACETS.category(mark.join(words)) == [("Clothing", "Shirts")]
    assert FACETS.category(mark.join(("men", "clothing"))) == [("Men", "Clothing")]


def test_a_level_means_all_that_differ_in_capitals_alone() -> None:
    assert FACETS.category("clothing") == [("Clothing",), ("clothing",)]
    assert FACETS.category(" home  &  garden") == [("Home & Garden",)]
    assert FACETS.category("shoes/boots") == FACETS.category("Shoes > Boots") == [("Shoes/Boots",)]
    assert FACETS.brand("nordfaden") == ["NORDFADEN", "Nordfaden"] and FACETS.brand("l'or") == ["L'Or"]


@pytest.mark.parametrize(
    ("kind", "word", "hint"),
    [
        ("category", "shirt", "did you mean 'Shirts'"),
        ("category", "Shirts > Clothing", "there are|did you mean"),
        ("category", "Men > Shirts", "did you mean"),
        ("category", "", "there are 'Clothing'.* more"),
        ("category", " > ", "there are 'Clothing'"),
        ("brand", "nordfadn", "did you mean 'NORDFADEN'"),
        ("brand", "ton", "did you mean 'Tonwerk'"),
        ("brand", "", "there are .*, 'NORDFADEN', 'Tonwerk'"),
    ],
)
def test_what_no_item_has_is_an_error_with_the_nearest(kind: str, word: str, hint: str) -> None:
    with pytest.raises(UnknownValue, match=f"no item has the {kind} '{word}'; .*({hint})"):
        getattr(FACETS, kind)(word)


def test_where_nothing_has_a_value_that_is_said() -> None:
    with pytest.raises(UnknownValue, match="no item has the brand 'x'; no item has a brand"):
        Facets([], []).brand("x")


def test_a_table_finds_what_is_meant(place: Callable[[], str]) -> None:
    table = _table(place())
    values = KnownValues(table)
    assert table.values() == (set(PATHS), {"Nordfaden", "NORDFADEN"})
    meant = values.meant(Filter(category=("clothing › shirts", "HOME & GARDEN"), brand=("nordfaden",), max_price=9))
    assert meant == Filter(("Home & Garden",), ("NORDFADEN", "Nordfaden"), None, 9, (("Clothing", "Shirts"),))
    assert sorted(hit.id for hit in table.search(np.eye(4, dtype=np.float32)[0], 9, meant)) == ["i0", "i1", "i3"]
    assert values.meant(Filter(min_price=3)) == Filter(min_price=3)


def test_a_value_is_known_as_soon_as_it_is_written(place: Callable[[], str]) -> None:
    table = _table(place())
    values = KnownValues(table)
    with pytest.raises(UnknownValue):
        values.meant(Filter(brand=("Fresh",)))
    table.upsert([StoreRow("new", np.eye(4, dtype=np.float32)[0], None, "Fresh", ("New",))], model_version="m1")
    assert values.meant(Filter(("New",), ("Fresh",))) == Filter(("New",), ("Fresh",))


def test_what_no_item_is_sold_by_is_told_with_what_there_is(place: Callable[[], str]) -> None:
    table = _table(place())
    vector = np.eye(4, dtype=np.float32)[0]
    sold = StoreRow("sold", vector, None, None, (), 9.0, item_group="TEE", availability="preorder", currency="EUR")
    table.upsert([sold], model_version="m1")
    values = KnownValues(table)
    meant = values.meant(Filter(item_group=("TEE",), availability=("PreOrder",), currency=("eur",)))
    assert [hit.id for hit in table.search(vector, 9, meant)] == ["sold"]
    for kind, word, hint in (
        ("currency", "USD", "there are 'EUR'"),
        ("availability", "in_stock", "there are 'preorder'"),
        ("item_group", "tee", "check the item_group"),
    ):
        given: dict[str, Any] = {kind: (word,)}
        with pytest.raises(UnknownValue, match=f"no item has the {kind} '{word}'; {hint}"):
            values.meant(Filter(**given))


def _table(where: str) -> StoreTable:
    rows = [
        StoreRow(f"i{at}", vector, None, "Nordfaden" if at % 2 else "NORDFADEN", path, float(at))
        for at, (path, vector) in enumerate(zip(PATHS, np.eye(4, dtype=np.float32), strict=True))
    ]
    store = make_store(where)
    return store.table(store.create(VersionSpec("m1", 4), rows).name)
