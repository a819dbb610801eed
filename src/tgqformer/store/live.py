"""A table searched in memory: what a service asks for many times a second. The table stays the truth.

Vectors lie in a graph (`memory.py`), what filters and rules read in columns (`live_rows.py`). Own writes are told by
`wrote`; what others wrote is found by `refresh`, at the cost of what they changed. A copy on disk saves making the
graph anew after a restart: what changed since is taken in then.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa

from tgqformer.errors import TgqError
from tgqformer.files import checksum, read_json, write_json
from tgqformer.stages import atomic_folder
from tgqformer.store.base import Filter, Hit, StoreRow, StoreTable, UnknownValue
from tgqformer.store.content import BLIND, short_digest
from tgqformer.store.facets import Facets, meant
from tgqformer.store.live_rows import NAMES, LiveRows, RuleQuery
from tgqformer.store.memory import CODES, GRAPH, MemoryIndex
from tgqformer.store.rows import check_vector, parts, quantised, unit
from tgqformer.store.rules import PLAIN, SLACK, Chosen, Rules, choose
from tgqformer.types import Bools, Floats, Ints, Vectors

KIND, FORMAT = "live index", 4
ABOUT, SEALED = "about.json", (NAMES, GRAPH, CODES)  # the rows have a checksum of their own
AT_ONCE, STEP, PUT = 2048, 128, 8  # rows read at once, put into the graph at once, and while searches wait
WORN = 0.25  # share of rows that are items no more: then it is made anew


class LiveTable:
    """The items of a table in memory. Thread-safe; `refresh` and `save` from one thread. Made by `build` or `load`.

    Needs 4 bytes a dimension for the vectors, an eighth for their codes, and some 230 for an item; right after it was
    made, with room to grow, some 2,000.
    """

    def __init__(self, table: StoreTable, index: MemoryIndex, rows: LiveRows, revision: int) -> None:
        self._table, self._index, self._rows, self._revision = table, index, rows, revision
        self._writing, self._refreshing, self._meanwhile = threading.Lock(), False, set[str]()
        self._facets: tuple[tuple[int, int], Facets] | None = None
        self.recall = 1.0
        self.saved = False

    @classmethod
    def build(
        cls, table: StoreTable, *, pictured: bool = False, stop: Callable[[], bool] = lambda: False
    ) -> LiveTable | None:
        """Read all rows and make the graph: about a millisecond a row. Blocking; None where `stop` said so."""
        revision, index, rows = table.revision(), MemoryIndex(table.version.dim), LiveRows(pictured=pictured)
        for part in parts(table.rows(), AT_ONCE):
            for row in part:
                rows.append(row)
            for some in parts(part, STEP):
                if stop():
                    return None
                index.add(np.array([row.vector for row in some], np.float32))
        found = cls(table, index, rows, revision)
        found.recall = index.measure(rows.alive)
        found.refresh()
        return found

    @classmethod
    def load(cls, table: StoreTable, folder: Path, *, pictured: bool = False) -> LiveTable | None:
        """Read what `save` wrote, and take in what changed since; None where that is of no use."""
        try:
            about = _whole(folder)
            if about["format"] != FORMAT or about["dim"] != table.version.dim or (pictured and not about["pictured"]):
                return None
            rows = LiveRows.load(folder, pictured=pictured)
            index = MemoryIndex.load(folder, about["dim"], about["width"], about["candidates"])
            if len(index) != len(rows):
                return None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, pa.ArrowInvalid):
            return None
        found = cls(table, index, rows, about["revision"])
        found.recall, found.saved = about["recall"], True
        found.refresh()
        return found

    def save(self, folder: Path) -> None:
        """Write it to a folder, whole or not at all; searches go on, writes wait."""
        with self._writing, atomic_folder(folder, KIND, overwrite=True) as unfinished, self._index.lock.shared():
            self._index.save(unfinished)
            self._rows.save(unfinished)
            measured = {"width": self._index.width, "candidates": self._index.candidates, "recall": self.recall}
            about = {"dim": self._index.dim, "revision": self._revision, "pictured": self._rows.pictured}
            sums = {name: checksum(unfinished / name) for name in SEALED if (unfinished / name).exists()}
            whole = {"format": FORMAT, **about, **measured, "sums": sums}
            write_json(unfinished / ABOUT, whole | {"sum": _sum(whole)})
            self.saved = True

    def __len__(self) -> int:
        return len(self._rows.place)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._rows.place

    @property
    def width(self) -> int:
        """How many candidates a search of the graph looks at, at least."""
        return self._index.width

    @property
    def worn(self) -> bool:
        """Whether so many rows are items no more that it should be made anew."""
        return self._rows.dead > max(AT_ONCE, WORN * len(self._rows))

    # --- searches -----------------------------------------------------------------------------------------------------

    def similar(self, item_id: str, k: int, where: Filter | None, rules: Rules) -> tuple[list[Hit], Chosen] | None:
        """Return the list of an item by the rules; None where only the table can tell (see `listed`)."""
        with self._index.lock.shared():
            if (at := self._rows.place.get(item_id)) is None:
                return None
            asked, look = self._rows.asked(at), self._rows.look(at)
            return self._listed(asked, look, self._index.vectors()[at].copy(), k, where, rules)

    def listed(self, query: StoreRow, k: int, where: Filter | None, rules: Rules) -> tuple[list[Hit], Chosen] | None:
        """Return the list of a row that need not be in the table. Hits have an id and a score, and no more.

        None where only the table can tell: a filter that nothing passes, or by a value that no item has; a rule of
        pictures whose looks are not kept.
        """
        check_vector(query.vector, self._index.dim, "the vector to search")
        vector = unit(np.asarray(query.vector, np.float32)[None])[0]
        with self._index.lock.shared():
            return self._listed(RuleQuery.of(query), query.look, vector, k, where, rules)

    def _listed(
        self, asked: RuleQuery, look: bytes | None, vector: Floats, k: int, where: Filter | None, rules: Rules
    ) -> tuple[list[Hit], Chosen] | None:
        rows = self._rows
        if k < 1:
            raise TgqError(f"k is the number of items to find, at least 1; got {k}")
        if (rules.same_picture_once and not rows.pictured) or (where and not rows.has(where)):
            return None
        try:
            passing = rows.passing(where and meant(self._known(), where))
        except UnknownValue:
            return None
        if where and not passing.any():
            return None
        if (own := rows.place.get(asked.id)) is not None:
            passing[own] = False
        size = rules.pool(k) * (1 if rules == PLAIN else SLACK) + len(rules.exclude)
        narrowed, hidden = False, dict[str, Ints]()
        while True:
            places, scores = self._nearest(vector, size, passing)
            chosen = self._chosen(asked, look, places, scores, k, rules)
            hidden = hidden | chosen.hidden
            low = rules.min_score is not None and bool(len(scores)) and float(scores[-1]) < rules.min_score
            if chosen.enough or len(places) < size or low:
                hits = [Hit(rows.ids[places[at - 1]], min(1.0, float(scores[at - 1]))) for at in chosen.places.tolist()]
                return hits, replace(chosen, hidden=hidden)
            if not narrowed:  # those that pass the rules may be few and far: look among them alone
                passing &= rows.allowed(asked, rules)
                narrowed = True
            else:
                size *= SLACK

    def _nearest(self, vector: Floats, k: int, passing: Bools) -> tuple[Ints, Floats]:
        """Return rows and cosines, best first, equal ones by id as a store has them."""
        places, scores = self._index.search(vector, k, passing)
        ids = self._rows.ids
        order = sorted(range(len(places)), key=lambda at: (-scores[at], ids[places[at]]))
        return places[order], scores[order]

    def _chosen(
        self, asked: RuleQuery, look: bytes | None, places: Ints, scores: Floats, k: int, rules: Rules
    ) -> Chosen:
        columns, vectors = self._rows.columns(asked, look, places), self._index.vectors()

        def of(chosen: Ints) -> Vectors:
            return np.asarray(vectors[places[chosen - 1]])

        return choose(columns, 0, np.arange(1, len(places) + 1), scores, k, rules, of)

    def _known(self) -> Facets:
        """Return the categories and brands that there were at any time; a new one makes them anew."""
        paths, brands = self._rows.names["path"].values, self._rows.names["brand"].values
        size = len(paths), len(brands)
        if self._facets is None or self._facets[0] != size:
            self._facets = size, Facets(paths, brands)
        return self._facets[1]

    # --- changes ------------------------------------------------------------------------------------------------------

    def wrote(self, rows: Sequence[StoreRow], deleted: Iterable[str] = ()) -> None:
        """Take in own writes, once they are in the table."""
        gone = list(deleted)
        with self._writing:
            if self._refreshing:
                self._meanwhile.update([row.id for row in rows], gone)
            self._apply(rows, gone)

    def refresh(self) -> bool:
        """Take in what was written to the table since the last look; return whether anything was. Blocking."""
        revision = self._table.revision()
        if revision <= self._revision:
            return False
        with self._writing:
            self._refreshing, self._meanwhile = True, set[str]()
        touched = self._table.touched(self._revision)
        ids = sorted(self._compared() if touched is None else touched)
        for part in parts(ids, AT_ONCE):
            rows = {row.id: row for row in self._table.rows(part)}
            with self._writing:  # what was written meanwhile is newer than what was read
                mine = self._meanwhile
                kept = [row for row in rows.values() if row.id not in mine]
                self._apply(kept, [one for one in part if one not in rows and one not in mine])
        with self._writing:
            self._revision, self._refreshing = revision, False
        return bool(ids)

    def _compared(self) -> set[str]:
        """Return the ids of all items that are not as the table has them: reads the ids and digests of all."""
        seen, place, found, there = self._rows.column("seen"), self._rows.place, set[str](), set[str]()
        for item_id, content in self._table.contents():
            there.add(item_id)
            at, unsure = place.get(item_id), not content or content.startswith(BLIND)
            if at is None or unsure or int(seen[at]) != short_digest(content):
                found.add(item_id)
        return found | (place.keys() - there)

    def _apply(self, rows: Sequence[StoreRow], gone: Sequence[str]) -> None:
        """Put rows in and take items out; searches wait for a few rows at a time."""
        self.saved = self.saved and not rows and not gone
        for part in parts(rows, PUT):
            with self._index.lock.alone():
                self._put(part)
        with self._index.lock.alone():
            for item_id in gone:
                self._rows.remove(item_id)

    def _put(self, part: Sequence[StoreRow]) -> None:
        vectors, known, new = _kept(part, self._table), self._index.vectors(), list[int]()
        for number, (row, vector) in enumerate(zip(part, vectors, strict=True)):
            at = self._rows.place.get(row.id)
            if at is not None and np.array_equal(known[at], vector):
                self._rows.put(at, row)
            else:
                new.append(number)
        if new:
            self._index.add(vectors[new])  # first: what raises leaves the rows as they are
            for number in new:
                self._rows.append(part[number])


def _whole(folder: Path) -> dict[str, Any]:
    """Read what a copy says of itself. Raise ValueError where a bit of it, or of its files, is not as it was."""
    about: dict[str, Any] = read_json(folder / ABOUT)
    if about.pop("sum") != _sum(about):
        raise ValueError(f"{folder / ABOUT} is damaged")
    for name, said in about["sums"].items():
        if checksum(folder / name) != said:
            raise ValueError(f"{folder / name} is damaged")
    return about


def _sum(about: dict[str, Any]) -> int:
    return crc32(json.dumps(about, sort_keys=True).encode())


def needed(rows: int, dim: int) -> int:
    """Return about how many bytes of memory the items of a table take here while it is made."""
    return rows * (4 * dim + 2000)


def _kept(rows: Sequence[StoreRow], table: StoreTable) -> Vectors:
    """Return the vectors [n, d] of rows as the table gives them back."""
    vectors, dtype = unit(np.array([row.vector for row in rows], np.float32)), table.version.dtype
    return vectors if dtype == "float32" else unit(quantised(unit(quantised(vectors, dtype)), dtype))
