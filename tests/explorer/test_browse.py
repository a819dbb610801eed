"""Looking through a catalogue: words, categories, brands; asked of a small one by hand, of random ones by property."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.service.explorer.browse import Browser, Offered
from tgqformer.service.explorer.words import distances
from tgqformer.store.base import UnknownValue

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
    assert browser.positions(["a1", "x|%", "no"]) == [0, 4, -1]


def test_an_empty_catalogue(tmp_path: Path) -> None:
    browser = Browser(written(tmp_path / "catalog", []))
    assert len(browser) == len(browser.find("x")) == browser.positions(["x"])[0] + 1 == len(browser.categories) == 0


LETTERS = "aAbBéÉжЖßστ %_\\'1"


@settings(max_examples=40, deadline=None)
@given(titles=st.lists(st.text(LETTERS, max_size=8), min_size=1, max_size=6), words=st.text(LETTERS, max_size=5))
def test_every_title_that_has_the_words_is_found_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, titles: list[str], words: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "catalog"
    browser = Browser(written(path, [Item(f"{n}", title) for n, title in enumerate(titles)]))
    texts = [f"{n}\x1f{title.lower()}" for n, title in enumerate(titles)]
    assume(all(any(word in text for text in texts) for word in words.lower().split()))  # the others are guessed
    found = set(ids(browser, browser.find(words)))
    for n, text in enumerate(texts):
        assert (f"{n}" in found) == all(word in text for word in words.lower().split())


SHORT = st.text("abcd", min_size=1, max_size=7)
FORGIVING = [
    Item("g1", "Acoustic Guitar", "Fender", ("Music",), price=300.0, created="2024-02-01"),
    Item("t1", "Cotton T-Shirt", "Acme", ("Clothes",), price=20.0, sale_price=10.0, availability="in_stock"),
    Item("t2", "Polo shirt", "Acme", ("Clothes",), price=15.0, availability="out_of_stock", created="2024-03-01"),
    Item("k1", "Kitchen aid", None, ()),
]


@pytest.fixture(scope="module")
def forgiving(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(written(tmp_path_factory.mktemp("forgiving") / "catalog", FORGIVING))


@pytest.mark.parametrize(
    ("words", "expected", "meant"),
    [
        ("gitar", ["g1"], {"gitar": ["guitar"]}),
        ("guitra", ["g1"], {"guitra": ["guitar"]}),  # two letters swapped
        ("acoustik guitars", ["g1"], {"acoustik": ["acoustic"], "guitars": ["guitar"]}),
        ("tshirt", ["t1"], {}),
        ("T-SHIRT", ["t1"], {}),
        ("shirts", ["t1", "t2"], {"shirts": ["shirt"]}),
        ("fendr", ["g1"], {"fendr": ["fender"]}),
        ("T2", ["t2"], {}),
        ("cat", [], {}),  # three letters: no guess
        ("zzzzzzzz", [], {}),
        ("--", [], {}),
    ],
)
def test_words_that_are_spelt_otherwise(
    forgiving: Browser, words: str, expected: list[str], meant: dict[str, list[str]]
) -> None:
    assert ids(forgiving, forgiving.find(words)) == expected
    assert forgiving.meant(words) == meant


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (Offered(low=10, high=15), ["t1", "t2"]),  # the price paid now
        (Offered(low=16), ["g1"]),  # one without a price does not pass
        (Offered(in_stock=True), ["g1", "t1", "k1"]),
        (Offered(sort="price"), ["t1", "t2", "g1", "k1"]),
        (Offered(sort="-price"), ["g1", "t2", "t1", "k1"]),
        (Offered(sort="stock"), ["g1", "t1", "k1", "t2"]),
        (Offered(sort="category"), ["t1", "t2", "g1", "k1"]),
        (Offered(sort="new"), ["t2", "g1", "t1", "k1"]),
    ],
)
def test_price_stock_and_order(forgiving: Browser, offered: Offered, expected: list[str]) -> None:
    assert ids(forgiving, forgiving.find(offered=offered)) == expected


def test_an_id_stands_first(tmp_path: Path) -> None:
    browser = Browser(written(tmp_path / "catalog", [Item("x1", "7 lamps"), Item("7", "Chair"), Item("17", "Desk")]))
    assert ids(browser, browser.find("7")) == ["7", "x1", "17"]


@given(
    word=st.text("abcd", min_size=1, max_size=7), others=st.lists(st.text("abcd", min_size=1, max_size=7), min_size=1)
)
@settings(deadline=None)
def test_distances_are_those_of_the_textbook(word: str, others: list[str]) -> None:
    table = np.array(others, "<U8")
    found = distances(word, table.view(np.uint32).reshape(len(others), 8), np.char.str_len(table).astype(np.int64))
    assert found.tolist() == [textbook(word, other) for other in others]


def textbook(a: str, b: str) -> int:
    d = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            d[i, j] = min(d[i - 1, j] + 1, d[i, j - 1] + 1, d[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                d[i, j] = min(d[i, j], d[i - 2, j - 2] + 1)
    return d[len(a), len(b)]
