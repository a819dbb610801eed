"""Pairs: which items belong together, mined from interactions or read from lists, and their split.

A pair is unordered (a < b as text), never of an item with itself, and stands once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scipy.sparse as sp
from numpy.typing import NDArray

from tgqformer.catalog.interactions import Interactions
from tgqformer.catalog.splits import PARTS, ItemSplit
from tgqformer.errors import TgqError
from tgqformer.files import atomic_path
from tgqformer.progress import progress

SCHEMA = pa.schema([("a", pa.string()), ("b", pa.string()), ("weight", pa.float32()), ("count", pa.int32())])
Weighting = Literal["count", "pmi", "swing"]
WEIGHTINGS: tuple[Weighting, ...] = ("count", "pmi", "swing")
_EXPANSION = 4_000_000
"""Co-clicks that are held at one time, about; with eight-byte numbers some 100 MB."""
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Unordered pairs of items: a table of `SCHEMA`, sorted by (a, b)."""

    table: pa.Table

    @classmethod
    def of(
        cls,
        a: Sequence[str],
        b: Sequence[str],
        weight: Sequence[float] | None = None,
        count: Sequence[int] | None = None,
    ) -> Pairs:
        """Make pairs from columns of equal length: turned to a < b, self pairs left out.

        Where a pair stands several times its weights and counts are summed. Both are 1 where none are given.
        """
        ones = np.ones(len(a), dtype=np.int32)
        table = pa.table(
            [
                pa.array(a, pa.string()), pa.array(b, pa.string()),
                pa.array(ones if weight is None else weight, pa.float32()),
                pa.array(ones if count is None else count, pa.int32()),
            ],
            schema=SCHEMA,
        )  # fmt: skip
        return cls(_canonical(table))

    @classmethod
    def read(cls, path: str | Path) -> Pairs:
        """Read what `write` wrote. Raises TgqError when there is no such file, or it is not pairs."""
        path = Path(path)
        if not path.is_file():
            raise TgqError(f"there is no file of pairs {path}; `tgq pairs mine` or `tgq pairs simulate` makes one")
        table = pq.read_table(path)
        if not {"a", "b"} <= set(table.column_names):
            raise TgqError(f"{path} is not a file of pairs: it has the columns {table.column_names}, not a and b")
        ones = pa.array(np.ones(len(table), np.int32))
        columns = [table[name] if name in table.column_names else ones for name in SCHEMA.names]
        return cls(_canonical(pa.table(columns, names=SCHEMA.names).cast(SCHEMA)))

    def write(self, path: Path) -> None:
        """Write Parquet, atomically."""
        with atomic_path(path) as unfinished:
            pq.write_table(self.table, unfinished)

    def __len__(self) -> int:
        return len(self.table)

    def positions(self, ids: Sequence[str]) -> Ints:
        """Give the places of both items in `ids`; int64 [n, 2]. Raises TgqError for an item that `ids` has not."""
        found = [pc.index_in(self.table[side], value_set=pa.array(ids, pa.string())) for side in ("a", "b")]
        for side, places in zip(("a", "b"), found, strict=True):
            if places.null_count:
                name = self.table[side].filter(pc.is_null(places))[0].as_py()
                raise TgqError(
                    f"{places.null_count} pairs have an unknown item (first: {name!r}); use pairs.within(ids)"
                )
        return np.stack([places.to_numpy().astype(np.int64) for places in found], axis=1)

    def within(self, ids: Sequence[str]) -> Pairs:
        """Keep the pairs of which both items are in `ids`."""
        known = pa.array(ids, pa.string())
        both = pc.and_(*(pc.is_in(self.table[side], value_set=known) for side in ("a", "b")))
        return Pairs(self.table.filter(both))

    def ids(self) -> list[str]:
        """Give the items that have a pair, sorted."""
        both = pa.chunked_array([*self.table["a"].chunks, *self.table["b"].chunks], type=pa.string())
        return sorted(pc.unique(both).to_pylist())


@dataclass(frozen=True)
class Window:
    """How far apart two clicks of a session may be: in items (1: neighbours) and in seconds; None: no limit."""

    items: int | None = None
    seconds: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("items", self.items), ("seconds", self.seconds)):
            if value is not None and value < (1 if name == "items" else 0):
                raise TgqError(f"a window of {value} {name} holds no pair; give at least 1, or leave it out")


@dataclass(frozen=True)
class PairSets:
    """Pairs inside each part of an item split, and the split."""

    train: Pairs
    val: Pairs
    test: Pairs
    split: ItemSplit


def split_pairs(pairs: Pairs, split: ItemSplit) -> PairSets:
    """Keep the pairs of which both items are in one part; pairs across parts, or of unknown items, are left out."""
    side = [split.codes(pairs.table[name].to_pylist()) for name in ("a", "b")]
    inside = [pairs.table.filter(pa.array((side[0] == part) & (side[1] == part))) for part in range(len(PARTS))]
    return PairSets(Pairs(inside[0]), Pairs(inside[1]), Pairs(inside[2]), split)


def pairs_from_related(path: str | Path, kinds: Sequence[str] | None = None) -> Pairs:
    """Read co-purchase lists: Parquet (id, other, kind), as the importer writes; `kinds` None takes all.

    Weight and count are the number of rows that name the pair (in either direction). Raises TgqError.
    """
    path = Path(path)
    if not path.is_file():
        raise TgqError(f"there is no file {path}; an import of a catalogue with co-purchase lists writes it")
    table = pq.read_table(path)
    if not {"id", "other", "kind"} <= set(table.column_names):
        raise TgqError(f"{path} has the columns {table.column_names}, not id, other and kind")
    if kinds is not None:
        have = sorted(filter(None, pc.unique(table["kind"]).to_pylist()))
        absent = [kind for kind in kinds if kind not in have]
        if absent:
            raise TgqError(f"{path} has no kind {absent[0]!r}; it has {', '.join(have)}")
        table = table.filter(pc.is_in(table["kind"], value_set=pa.array(kinds)))
    return Pairs.of(table["id"].to_pylist(), table["other"].to_pylist())


def mine_pairs(
    interactions: Interactions,
    *,
    window: Window | None = None,
    min_support: int = 2,
    cap: int = 50,
    weighting: Weighting = "count",
    alpha: float = 1.0,
    max_session: int = 200,
    shown: bool = False,
) -> Pairs:
    """Mine pairs of items that are clicked in the same session (within the window).

    `count` of a pair is the number of sessions that hold it; pairs below `min_support` are dropped. Then an item keeps
    its `cap` heaviest partners (ties by count, then id), and a pair stays when *both* of its items keep it, so no item
    has more than `cap` pairs. Only the latest `max_session` clicks of a session count.

    Weights, with S sessions, S_i of them with item i and I_u the items of session u:
    - count: the count.
    - pmi: log(count · S / (S_a · S_b)); pairs with 0 or less (no more often than by chance) are dropped.
    - swing: Σ over u < v of the sessions that hold the pair, w_u · w_v / (alpha + |I_u ∩ I_v|), w_u = 1/√|I_u|
      (Yang et al. 2020, arXiv 2010.05525). One session alone makes no swing, so such pairs are dropped. Of a pair that
      more than 200 sessions hold, the first 200 in order of their names are summed.

    The result does not depend on the order of the rows (where there are times). Memory: the interactions, some 100 MB
    for a block of items, and at most `cap` partners for each item. Raises TgqError for settings that make no sense.
    """
    _check(min_support, cap, weighting, alpha, max_session)
    clicks = _Clicks.of(interactions, max_session)
    kept: list[tuple[Ints, Ints, NDArray[np.float32], Ints]] = []
    with progress("mining pairs", clicks.n_items, shown=shown) as bar:
        for first, last in clicks.blocks(window):
            a, b, count, weight = _weigh(clicks, first, last, window, min_support, weighting, alpha)
            best = _heaviest(a, b, weight, count, cap)
            kept.append((a[best], b[best], weight[best], count[best]))
            bar.advance(last - first)
    return _mutual(kept, clicks.names)


@dataclass(frozen=True)
class _Clicks:
    """Interactions sorted by (session, time, item); items coded in the order of their names, sessions too."""

    session: Ints
    item: Ints
    time: Ints | None
    names: pa.StringArray
    n_items: int
    matrix: Any
    """Sessions x items, 1 where the item is in the session; CSR."""

    @classmethod
    def of(cls, interactions: Interactions, max_session: int) -> _Clicks:
        item_rank, names = _ranked(interactions.item_names)
        session_rank, sessions = _ranked(interactions.session_names)
        session, item = session_rank[interactions.sessions], item_rank[interactions.items]
        time = interactions.times
        order = np.lexsort((item, time, session)) if time is not None else np.argsort(session, kind="stable")
        session, item = session[order], item[order]
        # The place counted from the end of its session.
        ends = np.searchsorted(session, session, side="right")
        latest = ends - np.arange(len(session)) <= max_session
        session, item = session[latest], item[latest]
        ones = np.ones(len(item), dtype=np.int32)
        matrix = sp.csr_matrix((ones, (session, item)), shape=(len(sessions), len(names)))
        matrix.data[:] = 1
        return cls(session, item, None if time is None else time[order][latest], names, len(names), matrix)

    def blocks(self, window: Window | None) -> Iterator[tuple[int, int]]:
        """Give ranges of items whose co-clicks fit `_EXPANSION` (at least one item a range)."""
        lengths = np.bincount(self.session, minlength=self.matrix.shape[0])
        width = lengths[self.session]
        if window is not None and window.items is not None:
            width = np.minimum(width, 2 * window.items)
        work = np.cumsum(np.bincount(self.item, weights=width, minlength=self.n_items))
        first = 0
        while first < self.n_items:
            done = work[first - 1] if first else 0.0
            last = max(int(np.searchsorted(work, done + _EXPANSION, side="right")), first + 1)
            yield first, last
            first = last

    def co_clicks(self, first: int, last: int, window: Window | None) -> tuple[Ints, Ints, Ints]:
        """Give unique (item, other item, session) of all co-clicks of the items `first` to `last`, sorted."""
        at = np.flatnonzero((self.item >= first) & (self.item < last))
        low = np.searchsorted(self.session, self.session[at], side="left")
        high = np.searchsorted(self.session, self.session[at], side="right")
        if window is not None and window.items is not None:
            low, high = np.maximum(low, at - window.items), np.minimum(high, at + window.items + 1)
        sizes = high - low
        mine = np.repeat(at, sizes)
        other = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(low, sizes)
        keep = self.item[mine] != self.item[other]
        if window is not None and window.seconds is not None:
            if self.time is None:
                raise TgqError(
                    "a window in seconds needs times, and these interactions have none; give a window in items"
                )
            keep &= np.abs(self.time[mine] - self.time[other]) <= window.seconds
        triples = np.stack([self.item[mine[keep]], self.item[other[keep]], self.session[mine[keep]]], axis=1)
        triples = np.unique(triples, axis=0) if len(triples) else triples.reshape(0, 3)
        return triples[:, 0], triples[:, 1], triples[:, 2]


def _weigh(
    clicks: _Clicks, first: int, last: int, window: Window | None, support: int, weighting: Weighting, alpha: float
) -> tuple[Ints, Ints, Ints, NDArray[np.float32]]:
    """Give (a, b, count, weight) of the pairs of a block of items with their partners, both directions."""
    sessions: Ints | None = None
    if window is None and weighting != "swing":
        product = (clicks.matrix[:, first:last].T.tocsr() @ clicks.matrix).tocoo()
        a, b, count = product.row.astype(np.int64) + first, product.col.astype(np.int64), product.data.astype(np.int64)
        keep = (a != b) & (count >= support)
        a, b, count = a[keep], b[keep], count[keep]
    else:
        left, right, sessions = clicks.co_clicks(first, last, window)
        starts = (
            np.flatnonzero(np.r_[len(left) > 0, (np.diff(left) != 0) | (np.diff(right) != 0)]) if len(left) else left
        )
        counts = np.diff(np.r_[starts, len(left)])
        keep = counts >= support
        a, b, count = left[starts[keep]], right[starts[keep]], counts[keep]
        if weighting == "swing":
            weight = _swing(clicks.matrix, sessions, starts[keep], count, alpha)
            positive = weight > 0
            return a[positive], b[positive], count[positive], weight[positive]
    if weighting == "count":
        return a, b, count, count.astype(np.float32)
    popular = np.asarray(clicks.matrix.sum(axis=0)).reshape(-1).astype(np.float64)
    total = len(np.unique(clicks.session))
    pmi = np.log(count * float(total) / (popular[a] * popular[b])).astype(np.float32)
    more = pmi > 0
    return a[more], b[more], count[more], pmi[more]


_MAX_COMMON = 200


def _swing(matrix: Any, sessions: Ints, starts: Ints, count: Ints, alpha: float) -> NDArray[np.float32]:
    """Sum over the session pairs of each item pair, some item pairs at a time."""
    size = np.asarray(matrix.sum(axis=1)).reshape(-1).astype(np.float64)
    common = np.minimum(count, _MAX_COMMON)
    work = np.cumsum(common * (common - 1) // 2)
    weight = np.zeros(len(count), dtype=np.float64)
    first = 0
    while first < len(count):
        done = work[first - 1] if first else 0
        last = max(int(np.searchsorted(work, done + _EXPANSION // 8, side="right")), first + 1)
        pair, u, v = _session_pairs(sessions, starts[first:last], common[first:last])
        values = 1.0 / (np.sqrt(size[u] * size[v]) * (alpha + _overlap(matrix, u, v)))
        weight[first:last] = np.bincount(pair, weights=values, minlength=last - first)
        first = last
    return weight.astype(np.float32)


def _session_pairs(sessions: Ints, starts: Ints, common: Ints) -> tuple[Ints, Ints, Ints]:
    """Give (item pair, session u, session v), u before v, for all item pairs; those of equal count at one go."""
    out: list[tuple[Ints, Ints, Ints]] = []
    for size in np.unique(common):
        which = np.flatnonzero(common == size)
        left, right = np.triu_indices(int(size), k=1)
        base = starts[which][:, None]
        pair = np.repeat(which, len(left))
        out.append((pair, sessions[base + left].reshape(-1), sessions[base + right].reshape(-1)))
    pair, u, v = (np.concatenate(column) for column in zip(*out, strict=True))
    return pair, u, v


def _overlap(matrix: Any, u: Ints, v: Ints) -> NDArray[np.float64]:
    """Give |I_u ∩ I_v| of session pairs; each distinct one is counted once."""
    keys, inverse = np.unique(u * matrix.shape[0] + v, return_inverse=True)
    counts = np.zeros(len(keys), dtype=np.float64)
    for first in range(0, len(keys), 1 << 17):
        block = keys[first : first + (1 << 17)]
        shared = matrix[block // matrix.shape[0]].multiply(matrix[block % matrix.shape[0]])
        counts[first : first + len(block)] = np.asarray(shared.sum(axis=1)).reshape(-1)
    return counts[inverse]


def _heaviest(a: Ints, b: Ints, weight: NDArray[np.float32], count: Ints, cap: int) -> Ints:
    """Give the rows of the `cap` heaviest partners of every item a."""
    order = np.lexsort((b, -count, -weight, a))
    sorted_a = a[order]
    rank = np.arange(len(a)) - np.searchsorted(sorted_a, sorted_a, side="left")
    kept: Ints = order[rank < cap]
    return kept


def _mutual(kept: list[tuple[Ints, Ints, NDArray[np.float32], Ints]], names: pa.StringArray) -> Pairs:
    """Keep the pairs that stand in both directions."""
    if not kept:
        return Pairs(SCHEMA.empty_table())
    a, b, weight, count = (np.concatenate(column) for column in zip(*kept, strict=True))
    forward = a < b
    back = np.sort(b[~forward] * len(names) + a[~forward])
    key = a[forward] * len(names) + b[forward]
    place = np.minimum(np.searchsorted(back, key), max(len(back) - 1, 0))
    both = (back[place] == key) if len(back) else np.zeros(len(key), dtype=bool)
    order = np.flatnonzero(forward)[both][np.argsort(key[both], kind="stable")]
    columns = [names.take(pa.array(a[order])), names.take(pa.array(b[order])), pa.array(weight[order])]
    return Pairs(pa.table([*columns, pa.array(count[order].astype(np.int32))], schema=SCHEMA))


def _ranked(names: pa.StringArray) -> tuple[Ints, pa.StringArray]:
    """Give for every name its place among the sorted distinct names, and those."""
    distinct = pc.unique(names)
    ordered = distinct.take(pc.sort_indices(distinct))
    places = pc.index_in(names, value_set=ordered)
    return places.to_numpy(zero_copy_only=False).astype(np.int64), ordered


def _canonical(table: pa.Table) -> pa.Table:
    """Turn every pair to a < b, leave out self pairs, sum those that stand several times, and sort."""
    table = table.filter(pc.not_equal(table["a"], table["b"]))
    turned = pc.greater(table["a"], table["b"])
    low, high = pc.if_else(turned, table["b"], table["a"]), pc.if_else(turned, table["a"], table["b"])
    table = pa.table([low, high, table["weight"], table["count"]], names=SCHEMA.names)
    summed = table.group_by(["a", "b"], use_threads=False).aggregate([("weight", "sum"), ("count", "sum")])
    renamed = summed.select(["a", "b", "weight_sum", "count_sum"]).rename_columns(SCHEMA.names)
    return renamed.cast(SCHEMA).sort_by([("a", "ascending"), ("b", "ascending")])


def _check(min_support: int, cap: int, weighting: str, alpha: float, max_session: int) -> None:
    if weighting not in WEIGHTINGS:
        raise TgqError(f"there is no weighting {weighting!r}; there are {', '.join(WEIGHTINGS)}")
    for name, value, least in (("min_support", min_support, 1), ("cap", cap, 1), ("max_session", max_session, 2)):
        if value < least:
            raise TgqError(f"{name} is {value}; it must be at least {least}")
    if not alpha > 0:
        raise TgqError(f"alpha is {alpha}; it must be above 0")
