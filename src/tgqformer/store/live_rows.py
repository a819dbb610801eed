"""What filters and rules read of a table's rows, in columns that grow; a row is a place in the index in memory."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tgqformer.catalog.offers import AVAILABILITY
from tgqformer.files import read_arrow, read_json, write_arrow, write_json
from tgqformer.store.base import Filter, Hit, StoreRow
from tgqformer.store.content import short_digest
from tgqformer.store.rules import Columns, Rules, looks_of
from tgqformer.types import Array, Bools, Ints

_NUMBERED = ("group", "path", "currency", "brand")
_TYPES = dict.fromkeys(_NUMBERED, np.int32) | {"stock": np.int8, "price": np.float64, "seen": np.uint64}
ROWS, NAMES = "rows.arrow", "names.json"
_OUT, _LOOK = AVAILABILITY.index("out_of_stock"), 192


@dataclass(frozen=True)
class RuleQuery:
    """The item that a list is for, as far as rules read it."""

    id: str
    group: str | None
    path: tuple[str, ...]
    currency: str | None
    price: float

    @classmethod
    def of(cls, row: StoreRow) -> RuleQuery:
        """Read it from a row, which need not be in the table."""
        return cls(row.id, row.item_group, row.category, row.currency, _price(row))


class LiveRows:
    """The rows of a table, as they are now. pictured: keep the looks of pictures, too (192 bytes a row).

    An item that gets another vector becomes a new row; its old one is not `alive` any more.
    """

    def __init__(self, *, pictured: bool = False) -> None:
        self.ids, self.place = list[str](), dict[str, int]()
        self.names = {name: Names() for name in _NUMBERED}
        self._alive = np.zeros(0, bool)
        self._columns: dict[str, Array] = {name: np.zeros(0, kind) for name, kind in _TYPES.items()}
        self._looks = np.zeros((0, _LOOK), np.uint8) if pictured else None
        self._looked = np.zeros(0, bool)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def pictured(self) -> bool:
        """Whether the looks of pictures are kept."""
        return self._looks is not None

    @property
    def alive(self) -> Bools:
        """Which rows are items now [n]."""
        return self._alive[: len(self)]

    @property
    def dead(self) -> int:
        """How many rows are items no more."""
        return len(self) - len(self.place)

    def append(self, row: StoreRow) -> int:
        """Add a row, in place of the item's earlier one, and return its number."""
        at = len(self)
        if at == len(self._alive):
            self._grow(max(1024, at + at // 4))
        if (old := self.place.get(row.id)) is not None:
            self._alive[old] = False
        self.ids.append(row.id)
        self.place[row.id], self._alive[at] = at, True
        self.put(at, row)
        return at

    def put(self, at: int, row: StoreRow) -> None:
        """Take over what a row says, besides its vector."""
        given = {"group": row.item_group, "path": row.category or None, "currency": row.currency, "brand": row.brand}
        for name, value in given.items():
            self._columns[name][at] = self.names[name].add(value)
        self._columns["stock"][at] = -1 if row.availability is None else AVAILABILITY.index(row.availability)
        self._columns["price"][at] = _price(row)
        self._columns["seen"][at] = short_digest(row.content)
        if self._looks is not None:
            self._looked[at] = row.look is not None
            if row.look is not None:
                self._looks[at] = np.frombuffer(row.look, np.uint8)

    def remove(self, item_id: str) -> None:
        """Take an item out; nothing where it is not there."""
        if (at := self.place.pop(item_id, None)) is not None:
            self._alive[at] = False

    def column(self, name: str) -> Array:
        """Return a column [n]."""
        return self._columns[name][: len(self)]

    def asked(self, at: int) -> RuleQuery:
        """Return what rules read of a row."""
        group, path, currency = (
            self.names[name].value(int(self._columns[name][at])) for name in ("group", "path", "currency")
        )
        return RuleQuery(self.ids[at], group, path or (), currency, float(self._columns["price"][at]))

    def has(self, where: Filter) -> bool:
        """Say whether an item has, or had, each stock, group and currency of a filter."""
        named = (("group", where.item_group), ("currency", where.currency))
        if any(word not in self.names[name].known for name, words in named for word in words):
            return False
        return all((self.column("stock") == AVAILABILITY.index(word)).any() for word in where.availability)

    def passing(self, where: Filter | None) -> Bools:
        """Say which rows [n] are items that pass a filter."""
        stays = self.alive.copy()
        if where is None:
            return stays
        if where.category or where.path:
            stays &= self._any_of("path", [path for path in self.names["path"].values if _in(path, where)])
        for name, words in (("brand", where.brand), ("group", where.item_group), ("currency", where.currency)):
            if words:
                stays &= self._any_of(name, words)
        if where.availability:
            stays &= np.isin(self.column("stock"), [AVAILABILITY.index(word) for word in where.availability])
        if where.in_stock:
            stays &= self.column("stock") != _OUT
        if where.min_price is not None:
            stays &= self.column("price") >= where.min_price
        if where.max_price is not None:
            stays &= self.column("price") <= where.max_price
        return stays

    def allowed(self, asked: RuleQuery, rules: Rules) -> Bools:
        """Say which rows [n] pass those rules that can be told of a row by itself."""
        stays = np.ones(len(self), bool)
        if rules.in_stock:
            stays &= self.column("stock") != _OUT
        if rules.same_category == "require" and asked.path:
            own, levels = asked.path, rules.category_levels or None
            paths = self.names["path"].values
            same = [own] if levels is None else [path for path in paths if path[:levels] == own[:levels]]
            stays &= self._any_of("path", same)
        if (rules.price_from is not None or rules.price_to is not None) and not np.isnan(asked.price):
            stays &= self.column("currency") == self.names["currency"].number(asked.currency)
            prices = self.column("price")
            stays &= prices >= asked.price * (rules.price_from or 0.0)  # NaN is neither
            stays &= prices <= (np.inf if rules.price_to is None else asked.price * rules.price_to)
        if rules.one_per_group and asked.group is not None:
            stays &= self.column("group") != self.names["group"].number(asked.group)
        stays[[self.place[one] for one in rules.exclude if one in self.place]] = False
        return stays

    def columns(self, asked: RuleQuery, look: bytes | None, rows: Ints) -> Columns:
        """Return what rules read of an item, at place 0, and of some rows after it."""
        given = {"group": asked.group, "path": asked.path or None, "currency": asked.currency}
        numbers = {
            name: np.append(self.names[name].number(value), self.column(name)[rows]).astype(np.int64)
            for name, value in given.items()
        }
        known = np.unique(numbers["path"])
        values = [asked.path if one == numbers["path"][0] else self.names["path"].value(one) for one in known.tolist()]
        path = np.where(numbers["path"] < 0, -1, np.searchsorted(known, numbers["path"]))
        looks = [look, *(self.look(at) for at in rows.tolist())] if self.pictured else [None] * (len(rows) + 1)
        return Columns(
            ids=[asked.id, *(self.ids[at] for at in rows.tolist())],
            group=numbers["group"],
            available=np.append(True, self.column("stock")[rows] != _OUT),
            price=np.append(asked.price, self.column("price")[rows]),
            currency=numbers["currency"],
            path=path,
            paths={value or ("",): place for place, value in enumerate(values)},
            look=looks_of(looks),
            groups={},
            currencies={},
        )

    def look(self, at: int) -> bytes | None:
        """Return the look of a row's picture, where looks are kept."""
        return self._looks[at].tobytes() if self._looks is not None and self._looked[at] else None

    def save(self, folder: Path) -> None:
        """Write all rows into a folder."""
        columns = {"id": pa.array(self.ids, pa.string()), "alive": pa.array(self.alive)}
        columns |= {name: pa.array(self.column(name)) for name in _TYPES}
        if self._looks is not None:
            columns["look"] = pa.array([self.look(at) for at in range(len(self))], pa.binary())
        write_arrow(folder / ROWS, pa.table(columns))
        write_json(folder / NAMES, {name: names.values for name, names in self.names.items()})

    @classmethod
    def load(cls, folder: Path, *, pictured: bool) -> LiveRows:
        """Read what `save` wrote.

        Raises: OSError, ValueError, KeyError, ArrowInvalid where it is not there, not whole, or has no looks.
        """
        table, found = read_arrow(folder / ROWS, sealed=True), cls(pictured=pictured)
        for name, values in read_json(folder / NAMES).items():
            for value in values:
                found.names[name].add(tuple(value) if isinstance(value, list) else value)
        found.ids = table["id"].to_pylist()
        found._grow(len(found.ids))
        found._alive[:] = table["alive"].to_numpy()
        found.place = {found.ids[at]: at for at in np.flatnonzero(found._alive).tolist()}
        for name in _TYPES:
            found._columns[name][:] = table[name].to_numpy()
        if found._looks is not None:
            for at, look in enumerate(table["look"].to_pylist()):
                if look is not None:
                    found._looks[at], found._looked[at] = np.frombuffer(look, np.uint8), True
        return found

    def _any_of(self, name: str, values: Iterable[Hashable]) -> Bools:
        """Say which rows have one of these values."""
        names = self.names[name]
        chosen = np.zeros(len(names.values) + 1, bool)  # the last is of rows that have none
        chosen[[names.known[value] for value in values if value in names.known]] = True
        return np.take(chosen, self.column(name))  # in half the time of chosen[…]

    def _grow(self, size: int) -> None:
        more = size - len(self._alive)
        self._alive, self._looked = (np.append(one, np.zeros(more, bool)) for one in (self._alive, self._looked))
        self._columns = {
            name: np.append(column, np.zeros(more, column.dtype)) for name, column in self._columns.items()
        }
        if self._looks is not None:
            self._looks = np.concatenate([self._looks, np.zeros((more, _LOOK), np.uint8)])


class Names:
    """Numbers for the values of a column, in the order in which they come first; -1 for none."""

    def __init__(self) -> None:
        self.known, self.values = dict[Any, int](), list[Any]()

    def add(self, value: Any) -> int:
        """Return the number of a value, which may be new."""
        if value is None:
            return -1
        if value not in self.known:
            self.known[value] = len(self.values)
            self.values.append(value)
        return self.known[value]

    def number(self, value: Any) -> int:
        """Return the number of a value; of one that is not there a number that none has."""
        return -1 if value is None else self.known.get(value, len(self.values))

    def value(self, number: int) -> Any:
        """Return the value of a number."""
        return self.values[number] if 0 <= number < len(self.values) else None


def _price(row: StoreRow | Hit) -> float:
    price = row.sale_price if row.sale_price is not None else row.price
    return np.nan if price is None else price


def _in(path: Sequence[str], where: Filter) -> bool:
    """Say whether a category path passes a filter."""
    if any(level in where.category for level in path):
        return True
    return any(
        tuple(path[start : start + len(run)]) == run for run in where.path for start in range(len(path) - len(run) + 1)
    )
