"""Mining pairs from interactions: windowed co-clicks, counted by sparse matrices and weighted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field

from tgqformer.config import Positive, PositiveFloat, settings
from tgqformer.pairs.clicks import EXPANSION, MOST_SECONDS, Clicks, fitting
from tgqformer.progress import progress
from tgqformer.topk import best_entries
from tgqformer.types import Doubles, Floats, Int32s, Ints

PAIR_SCHEMA = pa.schema([("a", pa.string()), ("b", pa.string()), ("weight", pa.float32()), ("count", pa.int32())])
Weighting = Literal["count", "pmi", "swing"]
MAX_COMMON = 200
"""Sessions of one pair that Swing sums over at most; the sum grows with their square."""
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


Found = tuple[Int32s, Int32s, Floats, Int32s]
"""(item, other item, weight, count) of pairs, [n] each."""


def mine_table(clicks: Clicks, mining: MiningSettings, *, shown: bool = False) -> pa.Table:
    """Mine pairs, as `pairs.mine_pairs` describes; return a table of `PAIR_SCHEMA`, sorted by (a, b)."""
    kept = list[Found]()
    with progress("mining pairs", len(clicks.names), shown=shown) as bar:
        for items, found in mined(clicks, mining):
            kept.append(found)
            bar.advance(items)
    return mutual(kept, clicks.names)


def mined(
    clicks: Clicks, mining: MiningSettings, first: int = 0, last: int | None = None
) -> Iterator[tuple[int, Found]]:
    """Find the best partners of the items `first` to `last`, some items at a time; yield (how many, what was found)."""
    for start, stop in clicks.blocks(first, last):
        a, b, count, weight = _weigh(clicks, start, stop, mining)
        # Of partners of equal weight the one of more sessions comes first, then the first in the order of names.
        place = (count.max(initial=0) - count) * len(clicks.names) + b
        best, _ = best_entries(a, place, weight, mining.cap)
        found = a[best].astype(np.int32), b[best].astype(np.int32), weight[best], count[best].astype(np.int32)
        yield stop - start, found


def _weigh(clicks: Clicks, first: int, last: int, mining: MiningSettings) -> tuple[Ints, Ints, Ints, Floats]:
    """Return (item, other item, count, weight) for the items `first` to `last`, each pair in both directions."""
    if mining.window == Window() and mining.weighting != "swing":
        a, b, count = clicks.together(first, last)
        enough = count >= mining.min_support
        a, b, count = a[enough], b[enough], count[enough]
        weight = count.astype(np.float64)
    else:
        a, b, starts, sessions = clicks.co_clicks(first, last)
        count = np.diff(starts, append=len(sessions))
        enough = count >= mining.min_support
        a, b, starts, count = a[enough], b[enough], starts[enough], count[enough]
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
    for first, last in fitting(common * (common - 1) / 2, EXPANSION):
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
        counts[first : first + len(block)] = np.diff(shared.tocsr().indptr)
    return counts[inverse]


def mutual(kept: Sequence[Found], names: pa.StringArray) -> pa.Table:
    """Keep the pairs that stand in both directions."""
    if not kept:
        return PAIR_SCHEMA.empty_table()
    a, b, weight, count = (np.concatenate(column) for column in zip(*kept, strict=True))
    forward = a < b
    back = np.sort(b[~forward] * np.int64(len(names)) + a[~forward])
    key = a[forward] * np.int64(len(names)) + b[forward]
    place = np.minimum(np.searchsorted(back, key), max(len(back) - 1, 0))
    both = (back[place] == key) if len(back) else np.zeros(len(key), dtype=bool)
    order = np.flatnonzero(forward)[both][np.argsort(key[both], kind="stable")]
    columns = [names.take(pa.array(a[order])), names.take(pa.array(b[order])), pa.array(weight[order])]
    return pa.table([*columns, pa.array(count[order])], schema=PAIR_SCHEMA)
