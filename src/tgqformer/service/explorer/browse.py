"""Looking through a catalogue: words, category and brand, a page at a time; the browser never sees it all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tgqformer.catalog.catalog import Catalog
from tgqformer.store.facets import Facets
from tgqformer.types import Ints

SEPARATOR = "\x1f"
WORDS = 8
"""So many words of a search count; the others are left out."""


@dataclass(frozen=True)
class Facet:
    """A category or a brand, and how many items have it. `path` is the whole way to a category, from the root."""

    path: tuple[str, ...]
    count: int


class Browser:
    """The light columns of a catalogue in memory (about 100 bytes an item), searched by scanning them.

    Words match anywhere in id, title, brand or category, whatever their case. 100,000 items take about 20 ms a
    word.
    """

    def __init__(self, catalog: Catalog) -> None:
        table = catalog.table(["id", "title", "brand", "category"]).combine_chunks()
        columns = [_flat(table[name]) for name in table.column_names]
        ids, titles, brands, categories = columns
        self.ids = ids
        self._titles = pc.utf8_lower(pc.fill_null(titles, ""))
        self._brands = pc.fill_null(brands, "")
        self._paths = _joined(categories)
        parts = [pc.utf8_lower(ids), self._titles, pc.utf8_lower(self._brands), pc.utf8_lower(self._paths)]
        self._text = pc.binary_join_element_wise(*parts, SEPARATOR)

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, words: str = "", category: tuple[str, ...] = (), brand: str = "") -> Ints:
        """Return the positions of all items that fit, int64: titles that begin with the words first, then in order.

        words: all of them must occur. category: a path from the root; items in it or below it. brand: exactly this.
        Where there is no such path or brand, those that a person can mean by it, see `Facets`.

        Raises: UnknownValue for a category or a brand that no item has.
        """
        wanted = pc.utf8_lower(pa.scalar(words)).as_py().split()[:WORDS]
        fits = pa.array(np.ones(len(self), dtype=bool))
        for word in wanted:
            fits = pc.and_(fits, pc.match_substring(self._text, word))
        if category:
            fits = pc.and_(fits, self._in_category(category))
        if brand:
            exact = pc.equal(self._brands, brand)
            known = pc.any(exact).as_py()
            fits = pc.and_(fits, exact if known else pc.is_in(self._brands, pa.array(self.facets.brand(brand))))
        found = np.asarray(pc.indices_nonzero(fits), dtype=np.int64)
        if not wanted or not len(found):
            return found
        begins = np.asarray(pc.starts_with(self._titles.take(pa.array(found)), " ".join(wanted)))
        return np.concatenate([found[begins], found[~begins]])

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

    def position(self, item_id: str) -> int:
        """Return where an item stands in the catalogue; -1 where it is not in it."""
        return int(pc.index(self.ids, item_id).as_py())

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


def _flat(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _joined(categories: pa.Array) -> pa.Array:
    """Return category paths as texts; a missing one is empty."""
    filled = pc.fill_null(categories, pa.scalar([], type=categories.type))
    return pc.fill_null(pc.binary_join(filled, SEPARATOR), "")
