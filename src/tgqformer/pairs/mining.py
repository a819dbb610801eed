"""Mining pairs from interactions: windowed co-clicks, counted by sparse matrices and weighted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field

from tgqformer.config import Positive, PositiveFloat, settings
from tgqformer.errors import TgqError
from tgqformer.pairs.interactions import Interactions
from tgqformer.progress import progress
from tgqformer.topk import best_entries
from tgqformer.types import Doubles, Floats, Ints

PAIR_SCHEMA = pa.schema([("a", pa.string()), ("b", pa.string()), ("weight", pa.float32()), ("count", pa.int32())])
Weighting = Literal["count", "pmi", "swing"]
MAX_COMMON = 200
"""Sessions of one pair that Swing sums over at most; the sum grows with their square."""
_EXPANSION = 4_000_000
"""Co-clicks that are held at one time, about; with eight-byte numbers some 200 MB."""
MOST_SECONDS = 10**10
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@settings
class Window:
    """How far apart two clicks of a session may be.

    Args:
        items: in items; 1 for those side by side. seconds: in time. What is not given has no limit.
    """

    items: Annotated[int, Field(gt=0, le=10**6)] | None = None
    seconds: Annotated[int, Field(ge=0, le=MOST_SECONDS)] | None = None


def window_of(value: Any) -> Any:
    """Return the window that `10` (items), `30m` or a list of both means; anything else stays as it is.

    `session` or None is the whole session. Raise ValueError for a word that is no window.
    """
    if value is None or value == "session":
        return Window()
    if isinstance(value, bool) or not isinstance(value, int | str | list | tuple):
        return value
    limits: dict[str, int] = {}
    words = [str(word) for word in (value if isinstance(value, list | tuple) else [value])]
    if words == ["session"]:
        return Window()
    for word in words:
        number, unit = (word[:-1], word[-1]) if word[-1:] in _UNITS else (word, "")
        if not number.isdecimal():
            raise ValueError(f"a window is a number of items (5), a time (90s, 30m, 12h, 7d), or session; not {word!r}")
        kind = "seconds" if unit else "items"
        if kind in limits:
            raise ValueError(f"a window has one limit in {kind}, found {' and '.join(words)}")
        limits[kind] = int(number) * _UNITS.get(unit, 1)
    return limits


@settings
class MiningSettings:
    """How pairs are mined from interactions, see `pairs.mine_pairs`.

    Args:
        window: how far apart two clicks of a session may be: `10` (items), `30m`, `[10, 30m]`, or `session`.
        min_support: sessions that must hold a pair. cap: pairs of one item, at most.
        weighting: weight of a pair. alpha: Swing's smoothing.
        max_session: clicks of one session that count, the latest.
    """

    window: Annotated[Window, BeforeValidator(window_of)] = Window(items=10)
    min_support: Positive = 2
    cap: Positive = 50
    weighting: Weighting = "count"
    alpha: PositiveFloat = 1.0
    max_session: Annotated[int, Field(ge=2)] = 200

    def __post_init__(self) -> None:
        if self.alpha != 1.0 and self.weighting != "swing":
            raise ValueError(f"alpha is of the weighting swing, and says nothing with {self.weighting}")


EVERY_CO_CLICK = MiningSettings(window=Window(), min_support=1, cap=1000)
"""Every co-click of a session makes a pair: for sessions without accidental clicks."""


def mine_table(interactions: Interactions, mining: MiningSettings, *, shown: bool = False) -> pa.Table:
    """Mine pairs, as `pairs.mine_pairs` describes; return a table of `PAIR_SCHEMA`, sorted by (a, b)."""
    if mining.window.seconds is not None and interactions.times is None:
        raise TgqError("a window in seconds needs times, and these interactions have none; give a window in items")
    clicks = _Clicks.of(interactions, mining.max_session)
    kept: list[tuple[Ints, Ints, Floats, Ints]] = []
    with progress("mining pairs", len(clicks.names), shown=shown) as bar:
        for first, last in clicks.blocks(mining.window):
            a, b, count, weight = _weigh(clicks, first, last, mining)
            # Of partners of equal weight the one of more sessions comes first, then the first in the order of names.
            place = (count.max(initial=0) - count) * len(clicks.names) + b
            best, _ = best_entries(a, place, weight, mining.cap)
            kept.append((a[best], b[best], weight[best], count[best]))
            bar.advance(last - first)
    return _mutual(kept, clicks.names)


@dataclass(frozen=True)
class _Clicks:
    """Interactions sorted by (session, time, item); items and sessions coded in the order of their names.

    session, item, time: [n]. starts: [S + 1], where each session begins. by_item: places in these, ordered by item;
    item_starts: [I + 1], where each item begins in it. sessions: S x I matrix, 1 where the session has the item; CSR.
    items: its transpose, CSR. popular: [I], sessions that have the item.
    """

    session: Ints
    item: Ints
    time: Ints | None
    names: pa.StringArray
    starts: Ints
    by_item: Ints
    item_starts: Ints
    sessions: Any
    items: Any
    popular: Doubles

    @classmethod
    def of(cls, interactions: Interactions, max_session: int) -> _Clicks:
        from scipy.sparse import csr_matrix  # here: recipes name this module, and scipy takes long to import

        item_rank, names = _ranked(interactions.item_names)
        session_rank, session_names = _ranked(interactions.session_names)
        session, item = session_rank[interactions.sessions], item_rank[interactions.items]
        time = interactions.times
        order = np.lexsort((item, time, session)) if time is not None else np.argsort(session, kind="stable")
        from_end = np.searchsorted(session[order], session[order], side="right") - np.arange(len(order))
        order = order[from_end <= max_session]
        session, item = session[order], item[order]
        ones = np.ones(len(item), dtype=np.int32)
        sessions = csr_matrix((ones, (session, item)), shape=(len(session_names), len(names)))
        sessions.data[:] = 1
        items = sessions.T.tocsr()
        by_item = np.argsort(item, kind="stable")
        starts = np.searchsorted(session, np.arange(len(session_names) + 1))
        item_starts = np.searchsorted(item[by_item], np.arange(len(names) + 1))
        popular = np.diff(items.indptr).astype(np.float64)
        times = None if time is None else time[order]
        return cls(session, item, times, names, starts, by_item, item_starts, sessions, items, popular)

    def blocks(self, window: Window) -> Iterator[tuple[int, int]]:
        """Return ranges of items whose co-clicks fit `_EXPANSION` (at least one item a range)."""
        work = np.zeros(len(self.names))
        for first in range(0, len(self.item), _EXPANSION):
            at = np.arange(first, min(first + _EXPANSION, len(self.item)))
            low, high = self._reach(at, window)
            work += np.bincount(self.item[at], weights=high - low, minlength=len(self.names))
        yield from _fitting(work, _EXPANSION)

    def together(self, first: int, last: int) -> tuple[Ints, Ints, Ints]:
        """Return (item, other item, count of sessions) of items, by one product of sparse matrices."""
        product = (self.items[first:last] @ self.sessions).tocoo()
        a, b = product.row.astype(np.int64) + first, product.col.astype(np.int64)
        apart = a != b
        return a[apart], b[apart], product.data.astype(np.int64)[apart]

    @cached_property
    def _clock(self) -> Ints | None:
        """Seconds of the clicks that go on from session to session, far apart [n]; None where they overflow.

        Two clicks of a session are as far apart as their times; no window leads out of a session.
        """
        if self.time is None or not len(self.time):
            return None
        first = int(self.time.min())
        span = int(self.time.max()) - first + MOST_SECONDS + 1
        if span * len(self.starts) >= 2**63:
            return None
        return np.add(self.session * span, self.time - first, dtype=np.int64)

    def _reach(self, at: Ints, window: Window) -> tuple[Ints, Ints]:
        """Return the places [low, high) of the clicks that may be in the windows of the clicks `at`."""
        low, high = self.starts[self.session[at]], self.starts[self.session[at] + 1]
        if window.items is not None:
            low, high = np.maximum(low, at - window.items), np.minimum(high, at + window.items + 1)
        seconds = window.seconds
        if seconds is not None and (clock := self._clock) is not None:
            low = np.maximum(low, np.searchsorted(clock, clock[at] - seconds, side="left"))
            high = np.minimum(high, np.searchsorted(clock, clock[at] + seconds, side="right"))
        return low, high

    def co_clicks(self, first: int, last: int, window: Window) -> tuple[Ints, Ints, Ints]:
        """Return unique (item, other item, session) of the co-clicks of the items `first` to `last`, sorted."""
        at = self.by_item[self.item_starts[first] : self.item_starts[last]]
        low, high = self._reach(at, window)
        sizes = high - low
        mine = np.repeat(at, sizes)
        other = np.arange(int(sizes.sum())) + np.repeat(low - np.cumsum(sizes) + sizes, sizes)
        keep = self.item[mine] != self.item[other]
        if window.seconds is not None and self.time is not None:
            keep &= np.abs(self.time[mine] - self.time[other]) <= window.seconds
        mine, other = mine[keep], other[keep]
        # Two steps, so that no product of three numbers overflows.
        pairs, pair = np.unique(self.item[mine] * len(self.names) + self.item[other], return_inverse=True)
        pair, session = np.divmod(_distinct(pair * len(self.starts) + self.session[mine]), len(self.starts))
        a, b = np.divmod(pairs, len(self.names))
        return a[pair], b[pair], session


def _weigh(clicks: _Clicks, first: int, last: int, mining: MiningSettings) -> tuple[Ints, Ints, Ints, Floats]:
    """Return (item, other item, count, weight) for the items `first` to `last`, each pair in both directions."""
    if mining.window == Window() and mining.weighting != "swing":
        a, b, count = clicks.together(first, last)
        enough = count >= mining.min_support
        a, b, count = a[enough], b[enough], count[enough]
        weight = count.astype(np.float64)
    else:
        left, right, sessions = clicks.co_clicks(first, last, mining.window)
        starts = np.flatnonzero(np.diff(left, prepend=-1) | np.diff(right, prepend=-1))
        count = np.diff(starts, append=len(left))
        enough = count >= mining.min_support
        starts, count = starts[enough], count[enough]
        a, b = left[starts], right[starts]
        swing = mining.weighting == "swing"
        weight = _swing(clicks.sessions, sessions, starts, count, mining.alpha) if swing else count.astype(np.float64)
    if mining.weighting == "pmi":
        total = int((np.diff(clicks.starts) > 0).sum())
        weight = np.log(count * float(total) / (clicks.popular[a] * clicks.popular[b]))
    useful = weight.astype(np.float32) > 0
    return a[useful], b[useful], count[useful], weight[useful].astype(np.float32)


def _swing(matrix: Any, sessions: Ints, starts: Ints, count: Ints, alpha: float) -> Doubles:
    """Sum over the session pairs of each item pair, some item pairs at a time."""
    size = np.diff(matrix.indptr).astype(np.float64)
    common = np.minimum(count, MAX_COMMON)
    weight = np.zeros(len(count), dtype=np.float64)
    for first, last in _fitting(common * (common - 1) / 2, _EXPANSION / 8):
        pair, u, v = _session_pairs(sessions, starts[first:last], common[first:last])
        values = 1.0 / (np.sqrt(size[u] * size[v]) * (alpha + _overlap(matrix, u, v)))
        weight[first:last] = np.bincount(pair, weights=values, minlength=last - first)
    return weight


def _session_pairs(sessions: Ints, starts: Ints, common: Ints) -> tuple[Ints, Ints, Ints]:
    """Return (item pair, session u, session v), u before v, for all item pairs; those of equal count at one go."""
    out: list[tuple[Ints, Ints, Ints]] = []
    for size in np.unique(common):
        which = np.flatnonzero(common == size)
        left, right = np.triu_indices(int(size), k=1)
        base = starts[which][:, None]
        pair = np.repeat(which, len(left))
        out.append((pair, sessions[base + left].reshape(-1), sessions[base + right].reshape(-1)))
    pair, u, v = (np.concatenate(column) for column in zip(*out, strict=True))
    return pair, u, v


def _overlap(matrix: Any, u: Ints, v: Ints) -> Doubles:
    """Return |I_u ∩ I_v| of session pairs; each distinct one is counted once."""
    keys, inverse = np.unique(u * matrix.shape[0] + v, return_inverse=True)
    counts = np.zeros(len(keys), dtype=np.float64)
    for first in range(0, len(keys), 1 << 17):
        block = keys[first : first + (1 << 17)]
        shared = matrix[block // matrix.shape[0]].multiply(matrix[block % matrix.shape[0]])
        counts[first : first + len(block)] = np.asarray(shared.sum(axis=1)).reshape(-1)
    return counts[inverse]


def _fitting(work: Doubles, limit: float) -> Iterator[tuple[int, int]]:
    """Cut places 0 … n into ranges whose work stays within `limit` (at least one place a range)."""
    done = np.cumsum(work)
    first = 0
    while first < len(done):
        before = done[first - 1] if first else 0.0
        last = max(int(np.searchsorted(done, before + limit, side="right")), first + 1)
        yield first, last
        first = last


def _mutual(kept: list[tuple[Ints, Ints, Floats, Ints]], names: pa.StringArray) -> pa.Table:
    """Keep the pairs that stand in both directions."""
    if not kept:
        return PAIR_SCHEMA.empty_table()
    a, b, weight, count = (np.concatenate(column) for column in zip(*kept, strict=True))
    forward = a < b
    back = np.sort(b[~forward] * len(names) + a[~forward])
    key = a[forward] * len(names) + b[forward]
    place = np.minimum(np.searchsorted(back, key), max(len(back) - 1, 0))
    both = (back[place] == key) if len(back) else np.zeros(len(key), dtype=bool)
    order = np.flatnonzero(forward)[both][np.argsort(key[both], kind="stable")]
    columns = [names.take(pa.array(a[order])), names.take(pa.array(b[order])), pa.array(weight[order])]
    return pa.table([*columns, pa.array(count[order].astype(np.int32))], schema=PAIR_SCHEMA)


def _distinct(keys: Ints) -> Ints:
    """Return the distinct keys, sorted. Numpy's own `unique` hashes first, ten times slower on keys like these."""
    ordered = np.sort(keys)
    first = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def _ranked(names: pa.StringArray) -> tuple[Ints, pa.StringArray]:
    """Return for every name its place among the sorted distinct names, and those."""
    distinct = pc.unique(names)
    ordered = distinct.take(pc.sort_indices(distinct))
    places = pc.index_in(names, value_set=ordered)
    return places.to_numpy(zero_copy_only=False).astype(np.int64), ordered
