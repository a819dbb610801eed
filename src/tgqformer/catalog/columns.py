"""Rows of which nothing is to be told, many at a time: what the cells of a column mean is asked once for each text.

`rows.RowCells` alone says what cells mean. A row with a finding, with a picture, or with anything else that is not
plain goes the way of single rows, at its place.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

from tgqformer.catalog.checks import MAX_ATTRIBUTES, Findings, clean, plain_texts
from tgqformer.catalog.item import Item
from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.offers import availability_of, day_of
from tgqformer.catalog.readers.base import Block, Rows, SourceRow
from tgqformer.catalog.rows import RowCells, cell_at, identified, plain_ids
from tgqformer.catalog.styles import SourceStyle

_ODD: Any = object()
"""What cells mean of which something is to be told."""
_KEPT, _LONG = 1 << 15, 200
"""Meanings that are kept of all columns together, some 10 MB; longer cells do not come again."""
_NO_PRICE = (None, None, None, None)
_PRICE = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,2})?")
"""A text that means the same price in every style."""
_ANY_PRICE = "1"
_GATHERED, _FEW = 64, 8
"""Rows that come one by one and are read together: so many at most, and at least."""
_IN_VAIN = 1000
"""So many more rows that were read together in vain than not, and single rows go as they come."""
_Columns = Mapping[str, Sequence[Any]]


@dataclass(slots=True)
class Plain:
    """Items without pictures of which nothing is to be told, and where they stand among the rows that were read.

    row: returns one of these rows. first: the place of the first item. items: their values in the order of `Item`, the
    attributes as pairs. filled: of each item the currency that its price names, and which fields it has: items alike in
    this count alike in the report.
    """

    row: Callable[[int], SourceRow]
    first: int
    items: list[tuple[Any, ...]]
    filled: list[tuple[Any, ...]]

    def __len__(self) -> int:
        return len(self.items)

    def parted(self, at: Sequence[int]) -> Iterator[Plain | SourceRow]:
        """Yield the rows at some places, in ascending order, by themselves, and what stands between them as it is."""
        start = 0
        for place in (*at, len(self)):
            if place > start:
                yield Plain(self.row, self.first + start, self.items[start:place], self.filled[start:place])
            if place < len(self):
                yield self.row(self.first + place)
            start = place + 1

    def kinds(self) -> Iterator[tuple[Item, str | None, int]]:
        """Yield (an item, the currency of its price, how many count as it does), in the order of the first of each."""
        first = dict(zip(reversed(self.filled), range(len(self) - 1, -1, -1), strict=True))
        for kind, times in Counter(self.filled).items():
            item = list(self.items[first[kind]])
            item[4] = dict(item[4])
            yield Item(*item), kind[0], times


class ByColumns:
    """Reads rows by their columns: those of a block, and others that follow each other.

    mapping, style: of the source.
    """

    def __init__(self, mapping: ColumnMapping, style: SourceStyle) -> None:
        self._mapping, self._style, self._missing = mapping, style, frozenset(mapping.missing)
        part = partial(_Meanings, self._missing, style, _KEPT // (6 + len(mapping.attributes)))
        self._parts = [
            part([mapping.brand], lambda cells: cells.text(mapping.brand, "brand")),
            part(mapping.category, lambda cells: cells.path(mapping.category)),
            part([mapping.group], lambda cells: cells.text(mapping.group, "group")),
            part([mapping.availability], lambda cells: cells.read(mapping.availability, availability_of)),
            part([mapping.created], lambda cells: cells.read(mapping.created, day_of)),
            *(part([name], partial(_attribute, name)) for name in mapping.attributes),
        ]
        self._offers = part([mapping.sale_price, *mapping.price, mapping.currency], partial(_money, mapping))
        self._needed = frozenset(mapping.columns())
        self._vain = 0
        self._fits = mapping.title is not None and self._named_alike(mapping.attributes)

    def stream(self, rows: Rows) -> Iterator[Plain | SourceRow]:
        """Stream rows in their order, those of which nothing is to be told as items already."""
        some: list[SourceRow] = []
        for one in rows:
            if isinstance(one, SourceRow) and self._may_be_plain(one):
                some.append(one)
                if len(some) == _GATHERED:
                    yield from self._gathered(some)
                    some = []
                continue
            yield from self._gathered(some)
            some = []
            if isinstance(one, SourceRow):
                yield one
            else:
                yield from self._block(one)
        yield from self._gathered(some)

    def _named_alike(self, names: tuple[str, ...]) -> bool:
        """Say whether each column of attributes gives one, of its own name."""
        found: Findings = []
        cells = RowCells({name: name for name in names}, self._missing, self._style, found)
        kept = tuple(cells.text(name, "attribute name") for name in names)
        return not found and kept == names and len({*names}) == len(names) <= MAX_ATTRIBUTES

    def _may_be_plain(self, row: SourceRow) -> bool:
        fields = row.fields
        if fields is None or row.notes or row.related or not self._fits or self._vain > _IN_VAIN:
            return False
        return not any(cell_at(fields, name) for name in self._mapping.pictures)

    def _gathered(self, rows: list[SourceRow]) -> Iterator[Plain | SourceRow]:
        if len(rows) < _FEW:
            yield from rows
            return
        columns = {name: [cell_at(row.fields or {}, name) for row in rows] for name in self._needed}
        for one in self._read(columns, len(rows), rows.__getitem__, set()):
            self._vain += 1 if isinstance(one, SourceRow) else -len(one)
            yield one

    def _block(self, block: Block) -> Iterator[Plain | SourceRow]:
        if self._fits and self._needed <= {*block.names}:
            columns = block.columns()
            shown = {place for name in self._mapping.pictures for place, cell in enumerate(columns[name]) if cell}
            if 2 * len(shown) <= len(block):
                return self._read(columns, len(block), block.row, shown)
        return block.rows()

    def _read(
        self, columns: _Columns, count: int, row: Callable[[int], SourceRow], odd: set[int]
    ) -> Iterator[Plain | SourceRow]:
        """Yield plain items, and rows. count: of the rows. row: returns one. odd: places of those not plain."""
        mapping = self._mapping
        ids, titles = self._ids(columns[mapping.id]), self._titles(columns[mapping.title or ""])
        brands, paths, groups, stocks, days, *attributes = (part.of(columns, count) for part in self._parts)
        money = self._money(columns, count)
        for values in (ids, titles, brands, paths, money, groups, stocks, days, *attributes):
            if _ODD in values:
                odd.update(place for place, value in enumerate(values) if value is _ODD)
        if odd:
            money = [_NO_PRICE if value is _ODD else value for value in money]
        prices, reduced, currencies, told = zip(*money, strict=True)
        none: list[tuple[()]] = [()] * count
        pairs = [tuple(filter(None, every)) for every in zip(*attributes, strict=True)] if attributes else none
        offers = (groups, stocks, reduced, currencies, days)
        items = zip(ids, titles, brands, paths, pairs, prices, none, *offers, strict=True)
        counted = (brands, prices, groups, stocks, reduced, days, *attributes)
        absent = ([value is None for value in values] for values in counted)
        filled = zip(told, map(bool, paths), *absent, strict=True)
        yield from Plain(row, 0, list(items), list(filled)).parted(sorted(odd))

    def _money(self, columns: _Columns, count: int) -> list[Any]:
        """Return what the cells of each row say of its price; that of a plain number hangs on its currency alone."""
        mapping = self._mapping
        alone = len(mapping.price) == 1 and mapping.sale_price is None and mapping.currency not in mapping.price
        if not alone or _ANY_PRICE in self._missing:
            return self._offers.of(columns, count)
        (name,) = mapping.price
        numbers = list(map(self._number, columns[name]))
        cells = [cell if number is None else _ANY_PRICE for cell, number in zip(columns[name], numbers, strict=True)]
        meant = self._offers.of({**columns, name: cells}, count)
        return [
            one if number is None or one is _ODD else (number, *one[1:])
            for one, number in zip(meant, numbers, strict=True)
        ]

    def _number(self, cell: Any) -> float | None:
        if type(cell) is str:
            return float(cell) if _PRICE.fullmatch(cell) and cell not in self._missing else None
        return float(cell) if type(cell) is float and 0 <= cell < math.inf else None

    def _ids(self, cells: Sequence[Any]) -> list[Any]:
        if not _are_texts(cells):
            return list(map(self._id, cells))
        return [cell if plain else self._id(cell) for cell, plain in zip(cells, plain_ids(cells), strict=True)]

    def _id(self, cell: Any) -> Any:
        name, _, found = identified(cell, self._mapping.id, self._style)
        return _ODD if name is None or found else name

    def _titles(self, cells: Sequence[Any]) -> list[Any]:
        if not _are_texts(cells):
            return list(map(self._title, cells))
        named = self._missing.isdisjoint(cells)
        every = zip(cells, plain_texts(cells, "title"), strict=True)
        return [cell if plain and named else self._title(cell) for cell, plain in every]

    def _title(self, cell: Any) -> Any:
        text, found = clean(cell, "title", self._style.language)
        return _ODD if text is None or found or text in self._missing else text


class _Meanings(dict[Any, Any]):
    """What the cells of some columns mean, by the cells; `_ODD` where something is to be told.

    read: says what cells mean. kept: so many meanings at most.
    """

    def __init__(
        self,
        missing: frozenset[str],
        style: SourceStyle,
        kept: int,
        columns: Sequence[str | None],
        read: Callable[[RowCells], Any],
    ) -> None:
        super().__init__()
        self._names = list(dict.fromkeys(name for name in columns if name is not None))
        self._missing, self._style, self._kept, self._read = missing, style, kept, read

    def of(self, columns: _Columns, count: int) -> list[Any]:
        """Return what the cells of each row mean. count: of the rows."""
        every = [columns[name] for name in self._names]
        rows = zip(*every, strict=True) if every else repeat((), count)
        if all(map(_are_texts, every)):
            return list(map(self.__getitem__, rows))
        keys = zip(repeat(None), *(map(repr, cells) for cells in every), strict=False)  # for 1, 1.0 and True are equal
        return [self[key] if key in self else self._keep(key, cells) for key, cells in zip(keys, rows, strict=True)]

    def __missing__(self, cells: tuple[str, ...]) -> Any:
        return self._keep(cells, cells)

    def _keep(self, key: tuple[str | None, ...], cells: tuple[Any, ...]) -> Any:
        found: Findings = []
        fields = dict(zip(self._names, cells, strict=True))
        value = self._read(RowCells(fields, self._missing, self._style, found))
        value = _ODD if found else value
        if all(len(part) < _LONG for part in key if part is not None):
            if len(self) >= self._kept:
                self.clear()
            self[key] = value
        return value


def _are_texts(cells: Sequence[Any]) -> bool:
    return {*map(type, cells)} == {str}


def _money(mapping: ColumnMapping, cells: RowCells) -> tuple[Any, ...]:
    """Return (price, sale price, currency, the currency that is told)."""
    return (*cells.money(mapping).values(), cells.currency)


def _attribute(name: str, cells: RowCells) -> Any:
    """Return (name, text) of an attribute, or None; a cell may hold a dictionary, or a list of pairs."""
    if str(cells.of(name)).lstrip().startswith(("{", "[(")):
        return _ODD
    text = cells.text(name, "attribute")
    return None if text is None else (name, text)
