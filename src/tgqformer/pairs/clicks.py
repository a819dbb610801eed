"""Clicks in the order of their sessions, and which of them are near each other: what mining counts.

Numbers are packed into one integer and sorted as such, which costs a quarter of sorting by several columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tgqformer.pairs.interactions import Interactions
from tgqformer.types import Array, Doubles, Int32s, Ints

if TYPE_CHECKING:
    from tgqformer.pairs.mining import Window

MOST_SECONDS = 10**10
EXPANSION = 500_000
"""Co-clicks that are held at one time, about. Larger blocks cost a third more: their memory comes anew each time."""


@dataclass(frozen=True)
class Clicks:
    """Interactions sorted by (session, time, item); items and sessions coded in the order of their names.

    session, item: int32 [n]. starts: [S + 1], where each session begins. back, ahead: [n], how many clicks before and
    after each lie in its window. by_item: places in these, ordered by item; item_starts: [I + 1], where each item
    begins in it. 14 bytes a click, 8 more for Swing and PMI.
    """

    session: Int32s
    item: Int32s
    names: pa.StringArray
    starts: Ints
    back: Array
    ahead: Array
    by_item: Array
    item_starts: Array

    @classmethod
    def of(cls, interactions: Interactions, max_session: int, window: Window) -> Clicks:
        """Sort interactions; of a session only the last `max_session` stay."""
        item_rank, names = _ranked(interactions.item_names)
        session_rank, session_names = _ranked(interactions.session_names)
        time = interactions.times
        if time is not None:
            session, time, item = in_order(session_rank[interactions.sessions], time, item_rank[interactions.items])
        else:  # as the rows stand
            session, order = in_order(session_rank[interactions.sessions], np.arange(len(interactions)))
            item = item_rank[interactions.items[order]]
        sizes = np.bincount(session, minlength=len(session_names))
        if sizes.max(initial=0) > max_session:
            late = np.arange(len(session)) >= np.repeat(np.cumsum(sizes) - max_session, sizes)
            session, item, time = session[late], item[late], None if time is None else time[late]
            sizes = np.minimum(sizes, max_session)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        reach, time = _reach(starts, time, window), None
        return cls(session, item, names, starts, *reach, *_by_item(item, len(names)))

    @cached_property
    def sessions(self) -> Any:
        """An S x I matrix, 1 where the session has the item; CSR."""
        from scipy.sparse import csr_matrix  # here: recipes name this module, and scipy takes long to import

        shape = (len(self.starts) - 1, len(self.names))
        found = csr_matrix((np.ones(len(self.item), np.int32), self.item.copy(), self.starts.copy()), shape=shape)
        found.sum_duplicates()
        found.data[:] = 1
        return found

    @cached_property
    def items(self) -> Any:
        """Its transpose, CSR."""
        return self.sessions.T.tocsr()

    @cached_property
    def popular(self) -> Doubles:
        """How many sessions have an item [I]."""
        return np.bincount(self.sessions.indices, minlength=len(self.names)).astype(np.float64)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Return ranges of items whose co-clicks fit `EXPANSION` and whose keys fit an integer, at least one item."""
        keys = len(self.names) * float(len(self.starts)) / 2**62
        work = np.full(len(self.names), EXPANSION * keys)
        for first in range(0, len(self.item), EXPANSION):
            at = slice(first, first + EXPANSION)
            near = self.back[at].astype(np.float64) + self.ahead[at] + 1
            work += np.bincount(self.item[at], weights=near, minlength=len(self.names))
        yield from fitting(work, EXPANSION)

    def together(self, first: int, last: int) -> tuple[Ints, Ints, Ints]:
        """Return (item, other item, count of sessions) of items, by one product of sparse matrices."""
        product = (self.items[first:last] @ self.sessions).tocoo()
        a, b = product.row.astype(np.int64) + first, product.col.astype(np.int64)
        apart = a != b
        return a[apart], b[apart], product.data.astype(np.int64)[apart]

    def co_clicks(self, first: int, last: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Return (item, other item, first place, sessions) of the pairs of the items `first` to `last`, sorted.

        A pair's sessions stand in the last array from its first place to that of the next pair.
        """
        at = self.by_item[self.item_starts[first] : self.item_starts[last]].astype(np.int64)
        sizes = self.back[at].astype(np.int64) + self.ahead[at] + 1
        other = np.repeat(at - self.back[at] - np.cumsum(sizes) + sizes, sizes)
        other += np.arange(len(other))
        theirs = self.item[other]
        keep, many = np.repeat(self.item[at], sizes) != theirs, len(self.starts)
        key = np.repeat((self.item[at].astype(np.int64) - first) * len(self.names) * many + self.session[at], sizes)
        pair, session = np.divmod(distinct(key[keep] + theirs[keep].astype(np.int64) * many), many)
        begins = np.flatnonzero(np.diff(pair, prepend=-1))
        a, b = np.divmod(pair[begins], len(self.names))
        return a + first, b, begins, session


def _reach(starts: Ints, time: Ints | None, window: Window) -> tuple[Array, Array]:
    """Return how many clicks before and after each click [n] are in its session and its window.

    Times are looked up in a clock that goes on from session to session, so that no window leads out of one.
    """
    sizes = np.diff(starts)
    kind = np.uint8 if sizes.max(initial=0) <= 256 else np.int32
    back, ahead = np.empty(starts[-1], kind), np.empty(starts[-1], kind)
    low, span = (int(time.min()), int(time.max()) - int(time.min())) if time is not None and len(time) else (0, 0)
    span += MOST_SECONDS + 1
    for first, last in fitting(sizes + EXPANSION * (span / 2**62), EXPANSION):
        begin, end = starts[first], starts[last]
        at, session = np.arange(begin, end), np.repeat(np.arange(last - first), sizes[first:last])
        since, until = starts[first + session], starts[first + session + 1]
        if window.items is not None:
            since, until = np.maximum(since, at - window.items), np.minimum(until, at + window.items + 1)
        if window.seconds is not None and time is not None:
            clock = time[begin:end] if last == first + 1 else session * span + (time[begin:end] - low)
            near = np.iinfo(np.int64)
            early = np.maximum(clock, near.min + window.seconds) - window.seconds
            late = np.minimum(clock, near.max - window.seconds) + window.seconds
            since = np.maximum(since, begin + np.searchsorted(clock, early, side="left"))
            until = np.minimum(until, begin + np.searchsorted(clock, late, side="right"))
        back[begin:end], ahead[begin:end] = at - since, until - at - 1
    return back, ahead


def in_order(*columns: Array) -> list[Array]:
    """Sort rows by the first column, then by the next; return the columns. As one integer, where that fits."""
    if not len(columns[0]):
        return list(columns)
    lows = [int(column.min()) for column in columns]
    spans = [int(column.max()) - low + 1 for column, low in zip(columns, lows, strict=True)]
    if prod(spans) >= 2**63:
        order = np.lexsort(columns[::-1])
        return [column[order] for column in columns]
    key, kinds = np.zeros(len(columns[0]), np.int64), [column.dtype for column in columns]
    for column, low, span in zip(columns, lows, spans, strict=True):
        key *= span
        key += column
        key -= low
    del columns, column  # what is not needed any more goes first: this is where mining needs most memory
    key.sort()
    found: list[Array] = []
    for kind, low, span in list(zip(kinds, lows, spans, strict=True))[:0:-1]:
        rest = key % span
        rest += low
        found.append(rest.astype(kind, copy=False))
        key //= span
    key += lows[0]
    return [key.astype(kinds[0], copy=False), *found[::-1]]


def fitting(work: Doubles, limit: float) -> Iterator[tuple[int, int]]:
    """Cut places 0 … n into ranges whose work stays within `limit` (at least one place a range)."""
    done = np.cumsum(work)
    first = 0
    while first < len(done):
        before = done[first - 1] if first else 0.0
        last = max(int(np.searchsorted(done, before + limit, side="right")), first + 1)
        yield first, last
        first = last


def distinct(keys: Ints) -> Ints:
    """Return the distinct keys, sorted; sorts `keys` itself. Numpy's own `unique` hashes first, ten times slower."""
    keys.sort()
    first = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return keys[first]


def _by_item(item: Int32s, items: int) -> tuple[Array, Array]:
    """Return the places of each item, one item after the other [n], and where each begins [I + 1], by counting."""
    from scipy.sparse import csr_matrix

    rows = np.arange(len(item) + 1, dtype=np.int64 if len(item) >= 2**31 else np.int32)
    found = csr_matrix((np.ones(len(item), np.int8), item, rows), shape=(len(item), items)).tocsc()
    return found.indices, found.indptr.astype(np.int64)


def _ranked(names: pa.StringArray) -> tuple[Int32s, pa.StringArray]:
    """Return for every name its place among the sorted distinct names, and those."""
    distinct_names = pc.unique(names)
    ordered = distinct_names.take(pc.sort_indices(distinct_names))
    places = pc.index_in(names, value_set=ordered)
    return places.to_numpy(zero_copy_only=False).astype(np.int32), ordered
