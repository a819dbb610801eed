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

from tgqformer.errors import TgqError, option
from tgqformer.pairs.interactions import Interactions
from tgqformer.progress import progress
from tgqformer.types import Array, Doubles, Int32s, Ints, Shorts

if TYPE_CHECKING:
    from tgqformer.pairs.mining import Window

MOST_SECONDS = 10**10
EXPANSION = 500_000
"""Co-clicks that are held at one time, about. Larger blocks cost a third more: their memory comes anew each time."""

MOST_BUCKETS = 20_000
"""So many buckets of sessions more may be made, about, for keys that fit an integer."""


@dataclass(frozen=True)
class Clicks:
    """Interactions sorted by (session, time, item); items and sessions coded in the order of their names.

    item: int32 [n]. starts: [S + 1], where each session begins. back, ahead: [n], how many clicks before and after each
    lie in its window. 6 bytes a click where no session is long. `by_item` takes 8 more, `sessions` 5.
    """

    item: Int32s
    names: pa.StringArray
    starts: Ints
    back: Array
    ahead: Array

    @classmethod
    def of(cls, interactions: Interactions, max_session: int, window: Window, *, shown: bool = False) -> Clicks:
        """Sort interactions; of a session only the last `max_session` stay. A bar counts them where it is `shown`.

        Sessions are dealt into buckets first, so that a bucket is sorted in the cache. The interactions are let go
        then: their memory is free where nobody else holds them.

        Raise TgqError for a window in seconds where there are no times.
        """
        if window.seconds is not None and interactions.times is None:
            raise TgqError(
                "a window in seconds needs times, and no column was taken for them: "
                f"name it with {option('time')}, or give a window in items"
            )
        item_rank, names = _ranked(interactions.item_names)
        session_rank = _ranked(interactions.session_names)[0]
        counts = np.bincount(interactions.sessions, minlength=len(session_rank))
        sizes = np.bincount(session_rank, counts, minlength=int(session_rank.max(initial=-1)) + 1).astype(np.int64)
        buckets = _buckets(sizes, len(names), interactions.times)
        session, item, time = _dealt(interactions, session_rank, item_rank, sizes, buckets)
        del interactions, session_rank, item_rank
        kept = np.minimum(sizes, max_session)
        since, starts = (np.concatenate([[0], np.cumsum(some)]) for some in (sizes, kept))
        kind = np.uint8 if kept.max(initial=0) <= 256 else np.int32
        back, ahead = np.empty(starts[-1], kind), np.empty(starts[-1], kind)
        with progress("sorting clicks", int(since[-1]), shown=shown) as bar:
            for first, last in buckets:
                at, to = slice(since[first], since[last]), slice(starts[first], starts[last])
                clock, clicked = _sorted(session[at], None if time is None else time[at], item[at])
                if to.stop - to.start < len(clicked):
                    ends = np.repeat(since[first + 1 : last + 1] - since[first], sizes[first:last])
                    late = np.arange(len(clicked)) >= ends - max_session
                    clock, clicked = None if clock is None else clock[late], clicked[late]
                item[to] = clicked  # from the front, so what is not read yet stays
                back[to], ahead[to] = _reach(starts[first : last + 1] - starts[first], clock, window)
                bar.advance(int(at.stop - at.start))
        return cls(item[: starts[-1]], names, starts, back, ahead)

    @cached_property
    def by_item(self) -> Any:
        """The places of clicks [S, I], CSC: item after item, and the session of each click."""
        from scipy.sparse import csr_matrix  # here: recipes name this module, and scipy takes long to import

        places = np.arange(len(self.item), dtype=np.int64 if len(self.item) >= 2**31 else np.int32)
        return csr_matrix((places, self.item, self.starts), shape=(len(self.starts) - 1, len(self.names))).tocsc()

    @cached_property
    def sessions(self) -> Any:
        """An S x I matrix, 1 where the session has the item; CSR of int8."""
        from scipy.sparse import csr_matrix

        shape = (len(self.starts) - 1, len(self.names))
        found = csr_matrix((np.ones(len(self.item), np.int8), self.item.copy(), self.starts.copy()), shape=shape)
        found.sum_duplicates()
        found.data[:] = 1
        return found

    @cached_property
    def counted(self) -> tuple[Any, Any]:
        """The same as int32, which sums need, and its transpose; CSR."""
        found = self.sessions.astype(np.int32, copy=False)
        return found, found.T.tocsr()

    @cached_property
    def popular(self) -> Doubles:
        """How many sessions have an item [I]."""
        return np.bincount(self.sessions.indices, minlength=len(self.names)).astype(np.float64)

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[tuple[int, int]]:
        """Cut items into ranges, one item at least, whose co-clicks fit `EXPANSION` and whose keys fit an integer."""
        yield from ((first + start, first + stop) for start, stop in fitting(self.work[first:last], EXPANSION))

    @cached_property
    def work(self) -> Doubles:
        """About how many co-clicks each item has [I]; more, where keys would not fit an integer."""
        keys = len(self.names) * float(len(self.starts)) / 2**62
        work = np.full(len(self.names), EXPANSION * keys)
        for first in range(0, len(self.item), EXPANSION):
            at = slice(first, first + EXPANSION)
            near = self.back[at].astype(np.float64) + self.ahead[at] + 1
            work += np.bincount(self.item[at], weights=near, minlength=len(self.names))
        return work

    def together(self, first: int, last: int) -> tuple[Ints, Ints, Ints]:
        """Return (item, other item, count of sessions) of items, by one product of sparse matrices."""
        sessions, items = self.counted
        product = (items[first:last] @ sessions).tocoo()
        a, b = product.row.astype(np.int64) + first, product.col.astype(np.int64)
        apart = a != b
        return a[apart], b[apart], product.data.astype(np.int64)[apart]

    def co_clicks(self, first: int, last: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Return (item, other item, first place, sessions) of the pairs of the items `first` to `last`, sorted.

        A pair's sessions stand in the last array from its first place to that of the next pair.
        """
        of = slice(self.by_item.indptr[first], self.by_item.indptr[last])
        at, session = self.by_item.data[of].astype(np.int64), self.by_item.indices[of]
        sizes = self.back[at].astype(np.int64) + self.ahead[at] + 1
        other = np.repeat(at - self.back[at] - np.cumsum(sizes) + sizes, sizes)
        other += np.arange(len(other))
        theirs = self.item[other]
        keep, many = np.repeat(self.item[at], sizes) != theirs, len(self.starts)
        key = np.repeat((self.item[at].astype(np.int64) - first) * len(self.names) * many + session, sizes)
        pair, holding = np.divmod(distinct(key[keep] + theirs[keep].astype(np.int64) * many), many)
        begins = np.flatnonzero(np.diff(pair, prepend=-1))
        a, b = np.divmod(pair[begins], len(self.names))
        return a + first, b, begins, holding


def _buckets(sizes: Ints, items: int, times: Ints | None) -> list[tuple[int, int]]:
    """Return ranges of up to 65,536 sessions and `EXPANSION` clicks; of fewer, where their keys would be too large."""
    span = int(times.max()) - int(times.min()) + 1 if times is not None and len(times) else EXPANSION
    keys = min(items * float(span) / 2**62, MOST_BUCKETS / max(1, len(sizes)))
    work = sizes.astype(np.float64) + EXPANSION * max(keys, 2.0**-16)
    return list(fitting(work, EXPANSION))


def _dealt(
    log: Interactions, session_rank: Int32s, item_rank: Int32s, sizes: Ints, buckets: list[tuple[int, int]]
) -> tuple[Shorts, Int32s, Array | None]:
    """Return session (its number in the bucket), item (its rank) and time of all clicks, bucket after bucket.

    In a bucket they stand in the order of the rows. Times are counted from the first on, and take 4 bytes, where all
    lie within 136 years.
    """
    begins = np.array([first for first, _ in buckets], np.int64)
    kind = np.uint16 if len(buckets) <= 2**16 else np.int32  # numbers of 16 bits are sorted by counting
    bucket = (np.searchsorted(begins, session_rank, side="right") - 1).astype(kind)
    number = (session_rank - begins[bucket]).astype(np.uint16)
    free = np.concatenate([[0], np.cumsum(sizes)])[begins]
    session, item, time, low = np.empty(len(log), np.uint16), np.empty(len(log), np.int32), None, 0
    if log.times is not None:
        narrow = len(log) > 0 and int(log.times.max()) - int(log.times.min()) < 2**32
        time, low = np.empty(len(log), np.uint32 if narrow else np.int64), log.times.min() if narrow else 0
    for first in range(0, len(log), EXPANSION):
        rows = slice(first, first + EXPANSION)
        codes = log.sessions[rows]
        which = bucket[codes]
        order, counts = np.argsort(which, kind="stable"), np.bincount(which, minlength=len(buckets))
        to = np.repeat(free - np.cumsum(counts) + counts, counts) + np.arange(len(codes))
        free += counts
        session[to], item[to] = number[codes[order]], item_rank[log.items[rows][order]]
        if time is not None and log.times is not None:
            time[to] = (log.times[rows] - low)[order]
    return session, item, time


def _sorted(session: Shorts, time: Array | None, item: Int32s) -> tuple[Ints | None, Int32s]:
    """Return times and items in the order of sessions, then of times and items, or as the rows stand without times."""
    if time is None:
        return None, item[in_order(session, np.arange(len(session)))[1]]
    _, time, item = in_order(session, time, item)
    return time.astype(np.int64), item


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


def _ranked(names: pa.StringArray) -> tuple[Int32s, pa.StringArray]:
    """Return for every name its place among the sorted distinct names, and those."""
    order = pc.sort_indices(names)
    ordered = names.take(order)
    new = np.ones(len(names), bool)
    new[1:] = pc.not_equal(ordered[1:], ordered[:-1]).to_numpy(zero_copy_only=False)
    places = np.empty(len(names), np.int32)
    places[order.to_numpy()] = np.cumsum(new, dtype=np.int32) - 1
    return places, ordered if new.all() else ordered.filter(pa.array(new))
