"""Which categories and brands a table holds, and which of them a person means by what was typed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from time import monotonic
from typing import Any

from tgqformer.catalog.offers import AVAILABILITY
from tgqformer.catalog.prices import CODES
from tgqformer.errors import alike
from tgqformer.store.base import Filter, StoreTable, UnknownValue

SEPARATOR = " > "
_SEPARATORS = re.compile(r"\s*(?:->|::|[›>»→|/\x1f])\s*")
_COMPARED, _SHOWN = 5000, 3
_OFFERED: dict[str, tuple[str, ...]] = {
    "availability": AVAILABILITY,
    "item_group": (),
    "currency": tuple(sorted(CODES)),
}
"""What else is filtered by, and what the values may be."""
_PATIENCE = 20
"""Values are read again at most for one part in so many of the time."""

Levels = tuple[str, ...]


class Facets:
    """The categories and brands of some items: a word means all that differ from it in capitals alone.

    A category is one level, or several that follow each other, with any of the usual marks between them.
    """

    def __init__(self, paths: Iterable[Levels], brands: Iterable[str]) -> None:
        self._runs: dict[str, set[Levels]] = defaultdict(set)
        self._brands: dict[str, set[str]] = defaultdict(set)
        for path in paths:
            for start in range(len(path)):
                for stop in range(start + 1, len(path) + 1):
                    self._runs[_folded(SEPARATOR.join(path[start:stop]))].add(path[start:stop])
        for brand in brands:
            self._brands[_plain(brand)].add(brand)

    def category(self, word: str) -> list[Levels]:
        """Return the runs of levels that a word means. Raise UnknownValue where there are none."""
        found = self._runs.get(_folded(word))
        if not found:
            names = {key: SEPARATOR.join(min(runs)) for key, runs in self._runs.items()}
            raise _unknown("category", word, _folded(word), names)
        return sorted(found)

    def brand(self, word: str) -> list[str]:
        """Return the brands that a word means. Raise UnknownValue where there are none."""
        found = self._brands.get(_plain(word))
        if not found:
            raise _unknown("brand", word, _plain(word), {key: min(names) for key, names in self._brands.items()})
        return sorted(found)


class KnownValues:
    """The values of a table that changes meanwhile. Thread-safe: two threads at most read the same twice."""

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        self._facets: Facets | None = None
        self._revision, self._due = -1, 0.0
        self._had = set[tuple[str, str]]()

    def meant(self, where: Filter) -> Filter:
        """Return a filter by the values that the table has. Raise UnknownValue for one that no item has."""
        where = self._offered(where)
        if not (where.category or where.brand):
            return where
        facets = self._read()
        runs = [run for word in where.category for run in self._category(facets, word)]
        return _with(where, runs, [brand for word in where.brand for brand in self._brand(facets, word)])

    def _offered(self, where: Filter) -> Filter:
        for kind, there in _OFFERED.items():
            for word in getattr(where, kind):
                if not self._has(kind, word):
                    known = [repr(one) for one in there if self._has(kind, one)]
                    hint = f"there are {', '.join(known)}" if known else f"check the {kind}"
                    raise UnknownValue(f"no item has the {kind} {word!r}; {hint}")
        return where

    def _has(self, kind: str, word: str) -> bool:
        """Say whether an item has, or had since this was made, such a value."""
        asked: dict[str, Any] = {kind: (word,)}
        if (kind, word) not in self._had and self._table.count(Filter(**asked)):
            if len(self._had) >= _COMPARED:
                self._had.clear()
            self._had.add((kind, word))
        return (kind, word) in self._had

    def _category(self, facets: Facets, word: str) -> list[Levels]:
        try:
            return facets.category(word)
        except UnknownValue:
            if self._table.count(Filter(category=(word,))):  # it has come since the values were read
                return [(word,)]
            raise

    def _brand(self, facets: Facets, word: str) -> list[str]:
        try:
            return facets.brand(word)
        except UnknownValue:
            if self._table.count(Filter(brand=(word,))):
                return [word]
            raise

    def _read(self) -> Facets:
        facets, revision = self._facets, self._table.revision()
        if facets is None or (revision != self._revision and monotonic() >= self._due):
            begun = monotonic()
            facets = self._facets = Facets(*self._table.values())
            took = monotonic() - begun
            self._revision, self._due = revision, begun + _PATIENCE * took
        return facets


def meant(facets: Facets, where: Filter) -> Filter:
    """Return a filter by the values that there are. Raise UnknownValue for one that no item has."""
    if not (where.category or where.brand):
        return where
    runs = [run for word in where.category for run in facets.category(word)]
    return _with(where, runs, [brand for word in where.brand for brand in facets.brand(word)])


def _with(where: Filter, runs: list[Levels], brands: Iterable[str]) -> Filter:
    levels = tuple(dict.fromkeys(run[0] for run in runs if len(run) == 1))
    paths = tuple(dict.fromkeys(run for run in runs if len(run) > 1))
    return replace(where, category=levels, path=(*where.path, *paths), brand=tuple(dict.fromkeys(brands)))


def _plain(word: str) -> str:
    return " ".join(word.casefold().split())


def _folded(word: str) -> str:
    return "\x1f".join(_plain(part) for part in _SEPARATORS.split(word) if part.strip())


def _unknown(kind: str, word: str, key: str, names: Mapping[str, str]) -> UnknownValue:
    """Make the error for a value that no item has; it names the nearest, or some that there are."""
    names = dict(sorted(names.items()))
    as_long = (other for other in names if abs(len(other) - len(key)) <= max(3, len(key) // 2))
    close = alike(key, islice(as_long, _COMPARED), _SHOWN)
    inside = [other for other in islice(names, _COMPARED) if key and key in other]
    near = [repr(names[other]) for other in dict.fromkeys([*close, *inside])][:_SHOWN]
    some = ", ".join(repr(names[other]) for other in islice(names, _SHOWN))
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    else:
        hint = f"there are {some}" + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")
    return UnknownValue(f"no item has the {kind} {word!r}; {hint if names else f'no item has a {kind}'}")
