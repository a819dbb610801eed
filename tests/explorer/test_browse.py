"""Looking through a catalogue: words, categories, brands; asked of a small one by hand, of random ones by property."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgqformer.catalog.catalog import Catalog, CatalogWriter
from tgqformer.catalog.item import Item
from tgqformer.service.explorer.browse import Browser
from tgqformer.store.facets import UnknownValue

ROWS = [
    Item("a1", "Blue linen shirt", "Acme", ("Clothes", "Shirts")),
    Item("a2", "Shirt of linen, blue", "Bolt", ("Clothes", "Shirts", "Long")),
    Item("b1", "Desk lamp", "acme", ("Home",)),
    Item("b2", None, None, ()),
    Item("x|%", "100% wool (scarf)", "Bolt", ("Clothes & more",)),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(written(tmp_path_factory.mktemp("browse") / "catalog", ROWS))


def written(path: Path, items: list[Item]) -> Catalog:
    with CatalogWriter(path, name="rows", pack=False) as writer:
        for item in items:
            writer.add(item)
    return Catalog.open(path)


def ids(browser: Browser, found: np.ndarray) -> list[str]:
    return [browser.ids[int(place)].as_py() for place in found]


@pytest.mark.parametrize(
    ("words", "category", "brand", "expected"),
    [
        ("", (), "", ["a1", "a2", "b1", "b2", "x|%"]),
        ("LINEN blue", (), "", ["a1", "a2"]),
        ("shirt", (), "", ["a2", "a1"]),  # titles that begin with the words stand first
        ("acme", (), "", ["a1", "b1"]),
        ("", (), "Acme", ["a1"]),
        ("", ("Clothes",), "", ["a1", "a2"]),  # not "Clothes & more"
        ("", ("Clothes", "Shirts", "Long"), "", ["a2"]),
        ("", ("Shirts",), "", ["a1", "a2"]),  # no path from the root, but a level
        ("", ("clothes › SHIRTS",), "", ["a1", "a2"]),
        ("", (), "BOLT", ["a2", "x|%"]),
        ("", (), "ACME", ["a1", "b1"]),
        ("100% (scarf)", (), "", ["x|%"]),
        ("b2", (), "", ["b2"]),
        ("nothing", (), "", []),
    ],
)
def test_find(browser: Browser, words: str, category: tuple[str, ...], brand: str, expected: list[str]) -> None:
    assert ids(browser, browser.find(words, category, brand)) == expected


def test_what_no_item_has_is_told_with_the_nearest(browser: Browser) -> None:
    with pytest.raises(UnknownValue, match="no item has the category 'Shirt'; did you mean 'Shirts'"):
        browser.find(category=("Shirt",))
    with pytest.raises(UnknownValue, match="no item has the brand 'Blot'; did you mean 'Bolt'"):
        browser.find(brand="Blot")


def test_facets_count_items_at_every_level(browser: Browser) -> None:
    assert [(one.path, one.count) for one in browser.categories] == [
        (("Clothes",), 2), (("Clothes", "Shirts"), 2), (("Clothes", "Shirts", "Long"), 1),
        (("Clothes & more",), 1), (("Home",), 1),
    ]  # fmt: skip
    assert [(one.path, one.count) for one in browser.brands] == [(("Bolt",), 2), (("Acme",), 1), (("acme",), 1)]


def test_position(browser: Browser) -> None:
    assert [browser.position(name) for name in ("a1", "x|%", "no")] == [0, 4, -1]


def test_an_empty_catalogue(tmp_path: Path) -> None:
    browser = Browser(written(tmp_path / "catalog", []))
    assert len(browser) == len(browser.find("x")) == browser.position("x") + 1 == len(browser.categories) == 0


LETTERS = "aAbBéÉжЖßστ %_\\'1"


@settings(max_examples=40, deadline=None)
@given(titles=st.lists(st.text(LETTERS, max_size=8), min_size=1, max_size=6), words=st.text(LETTERS, max_size=5))
def test_every_title_that_has_the_words_is_found_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, titles: list[str], words: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "catalog"
    browser = Browser(written(path, [Item(f"{n}", title) for n, title in enumerate(titles)]))
    found = set(ids(browser, browser.find(words)))
    for n, title in enumerate(titles):
        text = f"{n}\x1f{title.lower()}"
        assert (f"{n}" in found) == all(word in text for word in words.lower().split())
