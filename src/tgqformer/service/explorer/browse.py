"""Looking through a catalogue: words, category, brand, price and stock, a page at a time, in an order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.places import IdPlaces
from tgqformer.service.explorer.words import Vocabulary
from tgqformer.store.facets import Facets
from tgqformer.types import Bools, Ints

SEPARATOR = "\x1f"
MARKS = r"[^\pL\pN\x1f]+"
WORDS = 8
"""So many words of a search count; the others are left out."""


@dataclass(frozen=True)
class Facet:
    """A category or a brand, and how many items have it. `path` is the whole way to a category, from the root."""

    path: tuple[str, ...]
    count: int


Sort = Literal["", "price", "-price", "stock", "category", "new"]


@dataclass(frozen=True)
class Offered:
    """What is asked of price and stock, and the order. low, high: the price paid now; one without does not pass."""

    low: float | None = None
    high: float | None = None
    in_stock: bool = False
    sort: Sort = ""


class Browser:
    """The light columns of a catalogue in memory (about 150 bytes an item), searched by scanning them.

    Words match anywhere in id, title, brand or category, whatever their case. One that occurs nowhere matches without
    the marks between letters (tshirt, T-Shirt), else as the words that are spelt most like it. 100,000 items take about
    20 ms a word.
    """

    def __init__(self, catalog: Catalog) -> None:
        names = ["id", "title", "brand", "category", "price", "sale_price", "availability", "created"]
        table = catalog.table(names).combine_chunks()
        ids, titles, brands, categories, price, sale, stock, created = (_flat(table[name]) for name in names)
        self.ids = ids
        self._lower = pc.utf8_lower(ids)
        self._titles = pc.utf8_lower(pc.fill_null(titles, ""))
        self._brands = pc.fill_null(brands, "")
        self._paths = _joined(categories)
        parts = [self._lower, self._titles, pc.utf8_lower(self._brands), pc.utf8_lower(self._paths)]
        self._text = pc.binary_join_element_wise(*parts, SEPARATOR)
        self._price = np.asarray(pc.coalesce(sale, price).cast(pa.float64()).fill_null(np.nan))
        self._available = np.asarray(pc.fill_null(pc.not_equal(stock, "out_of_stock"), True))
        self._created = pc.fill_null(created, "")

    def __len__(self) -> int:
        return len(self.ids)

    def find(
        self, words: str = "", category: tuple[str, ...] = (), brand: str = "", offered: Offered | None = None
    ) -> Ints:
        """Return the positions of all items that fit, int64: an id itself first, titles that begin so next.

        words: all of them must occur. category: a path from the root; items in it or below it. brand: exactly this.
        Where there is no such path or brand, those that a person can mean by it, see `Facets`.

        Raises: UnknownValue for a category or a brand that no item has.
        """
        wanted, offered = _words(words), offered or Offered()
        fits = self._offered(offered)
        for word in wanted:
            fits = fits & self._with(word)[0]
        if category:
            fits = fits & np.asarray(self._in_category(category))
        if brand:
            exact = pc.equal(self._brands, brand)
            known = pc.any(exact).as_py()
            fits = fits & np.asarray(exact if known else pc.is_in(self._brands, pa.array(self.facets.brand(brand))))
        found = np.flatnonzero(fits)
        if wanted and len(found):
            own = pa.array(found)
            begins = np.asarray(pc.starts_with(self._titles.take(own), " ".join(wanted)))
            itself = np.asarray(pc.equal(self._lower.take(own), " ".join(wanted)))
            found = found[np.lexsort((found, ~begins, ~itself))]
        return self._sorted(found, offered.sort)

    def meant(self, words: str) -> dict[str, list[str]]:
        """Return what was taken for each word that occurs nowhere."""
        return {word: others for word in _words(words) if (others := self._with(word)[1])}

    def _with(self, word: str) -> tuple[Bools, list[str]]:
        """Return which items have a word; where none has it, those with the words nearest to it, and these."""
        found = np.asarray(pc.match_substring(self._text, word))
        if not found.any() and (bare := _bare(word)):
            found = np.asarray(pc.match_substring(self._joined_text, bare))
        if found.any():
            return found, []
        near = self._vocabulary.near(word)
        return reduce(np.logical_or, (np.asarray(pc.match_substring(self._text, one)) for one in near), found), near

    @cached_property
    def _joined_text(self) -> pa.Array:
        """The text without the marks between letters; parts stay apart."""
        return pc.replace_substring_regex(self._text, MARKS, "")

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        texts = pc.unique(pa.concat_arrays([self._titles, pc.utf8_lower(self._brands), pc.utf8_lower(self._paths)]))
        split = pc.split_pattern_regex(texts, r"[^\pL\pN]+")
        return Vocabulary(pc.unique(split.flatten()).to_pylist())

    def _offered(self, asked: Offered) -> Bools:
        """Return which items are in the band of prices, and in stock where that is asked."""
        fits = self._available.copy() if asked.in_stock else np.ones(len(self), bool)
        if asked.low is not None:
            fits &= self._price >= asked.low  # NaN is not
        if asked.high is not None:
            fits &= self._price <= asked.high
        return fits

    def _sorted(self, found: Ints, sort: Sort) -> Ints:
        """Order positions; what does not say stands last."""
        if not sort:
            return found
        if sort in ("price", "-price"):
            prices = self._price[found]
            key = np.where(np.isnan(prices), np.inf, prices if sort == "price" else -prices)
        elif sort == "stock":
            key = ~self._available[found]
        else:
            column = self._paths if sort == "category" else self._created
            rank = np.asarray(pc.rank(column, sort_keys="ascending", tiebreaker="dense")).astype(np.int64)[found]
            empty = np.asarray(pc.equal(column, ""))[found]
            key = np.where(empty, np.iinfo(np.int64).max, rank if sort == "category" else -rank)
        return found[np.argsort(key, kind="stable")]

    def _in_category(self, category: tuple[str, ...]) -> Any:
        """Return which items are in a category or below it."""
        path = SEPARATOR.join(category) + SEPARATOR
        closed = pc.binary_join_element_wise(self._paths, "", SEPARATOR)
        below = pc.starts_with(closed, path)
        if pc.any(below).as_py():
            return below
        within = pc.binary_join_element_wise("", closed, SEPARATOR)
        runs = self.facets.category(SEPARATOR.join(category))
        return reduce(pc.or_, (pc.match_substring(within, SEPARATOR.join(["", *run, ""])) for run in runs))

    @cached_property
    def facets(self) -> Facets:
        """What a word that a person typed can mean."""
        paths = self._paths.unique().to_pylist()
        return Facets(
            (tuple(path.split(SEPARATOR)) for path in paths if path), filter(None, self._brands.unique().to_pylist())
        )

    def positions(self, ids: Sequence[str]) -> list[int]:
        """Return where items stand in the catalogue; -1 for one that is not in it."""
        return self._places.of(ids).tolist()  # type: ignore[no-any-return]

    @cached_property
    def _places(self) -> IdPlaces:
        return IdPlaces(self.ids)

    @cached_property
    def categories(self) -> list[Facet]:
        """Every category at every level, the fullest first."""
        counts: Counter[tuple[str, ...]] = Counter()
        for value in pc.value_counts(self._paths).to_pylist():
            path = tuple(value["values"].split(SEPARATOR)) if value["values"] else ()
            for level in range(1, len(path) + 1):
                counts[path[:level]] += value["counts"]
        return [Facet(path, count) for path, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]

    @cached_property
    def brands(self) -> list[Facet]:
        """Every brand, the fullest first."""
        counts = {value["values"]: value["counts"] for value in pc.value_counts(self._brands).to_pylist()}
        named = sorted((-count, name) for name, count in counts.items() if name)
        return [Facet((name,), -count) for count, name in named]

    def roots(self) -> list[str]:
        """Return the first category of every item, in their order; empty where it has none."""
        return [path.split(SEPARATOR, 1)[0] for path in self._paths.to_pylist()]


def _words(text: str) -> list[str]:
    lowered: list[str] = pc.utf8_lower(pa.scalar(text)).as_py().split()[:WORDS]
    return lowered


def _bare(word: str) -> str:
    """Return a word without the marks between its letters."""
    return str(pc.replace_substring_regex(pa.scalar(word), MARKS, "").as_py())


def _flat(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _joined(categories: pa.Array) -> pa.Array:
    """Return category paths as texts; a missing one is empty."""
    filled = pc.fill_null(categories, pa.scalar([], type=categories.type))
    return pc.fill_null(pc.binary_join(filled, SEPARATOR), "")
