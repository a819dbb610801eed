"""Splits: which items are for training, validation and test; which interactions are before and after a time.

The part of an item follows from (seed, id) alone, by a stable hash: items that join the catalogue later never move
the others, and every machine gives the same split.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.errors import TgqError
from tgqformer.files import atomic_path
from tgqformer.pairs.interactions import Interactions
from tgqformer.types import Bytes, Doubles

PARTS = ("train", "val", "test")
FRACTIONS = (0.7, 0.05, 0.25)
"""Shares of train, val and test that the benchmarks use (docs/pairs.md says why)."""
_SCHEMA = pa.schema([("id", pa.string()), ("part", pa.string())])


@dataclass(frozen=True)
class ItemSplit:
    """The part (train, val or test) of every item.

    `ids` are unique; `parts` holds, in the same order, places in `PARTS` (int8 [N]).
    """

    ids: tuple[str, ...]
    parts: Bytes = field(repr=False)

    @classmethod
    def by_hash(cls, ids: Iterable[str], fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> ItemSplit:
        """Split items by a stable hash of (seed, id); `fractions` are the shares of train, val and test.

        Raise TgqError when the fractions are not three shares that sum to one, or an id stands twice.
        """
        bounds = _bounds(fractions)
        ids = tuple(ids)
        uniform = np.array([stable_uniform(seed, name) for name in ids], dtype=np.float64)
        return cls(_unique(ids), np.searchsorted(bounds, uniform, side="right").astype(np.int8))

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, name: str) -> list[str]:
        """Return the ids of one part, in order. Raise TgqError for a part that is not in `PARTS`."""
        if name not in PARTS:
            raise TgqError(f"there is no part {name!r}; the parts are {', '.join(PARTS)}")
        return [self.ids[place] for place in np.flatnonzero(self.parts == PARTS.index(name))]

    def counts(self) -> dict[str, int]:
        """Return the number of items of each part."""
        return {name: int((self.parts == place).sum()) for place, name in enumerate(PARTS)}

    def codes(self, ids: Sequence[str]) -> Bytes:
        """Return for each id the place of its part in `PARTS`, or -1 for an item that the split has not; int8 [n]."""
        return np.array([self._codes.get(name, -1) for name in ids], dtype=np.int8)

    def save(self, path: Path) -> None:
        """Write (id, part) as Parquet, atomically."""
        names = pa.array([PARTS[part] for part in self.parts], type=pa.string())
        with atomic_path(path) as unfinished:
            pq.write_table(pa.table([pa.array(self.ids, type=pa.string()), names], schema=_SCHEMA), unfinished)

    @classmethod
    def load(cls, path: Path) -> ItemSplit:
        """Read what `save` wrote, or any Parquet file with the columns id and part. Raise TgqError."""
        if not path.is_file():
            raise TgqError(f"there is no split {path}; `tgq pairs simulate` or `ItemSplit.save` writes one")
        table = pq.read_table(path)
        if not {"id", "part"} <= set(table.column_names):
            raise TgqError(f"{path} is not a split: it has the columns {table.column_names}, not id and part")
        parts = table["part"].to_pylist()
        unknown = sorted({str(part) for part in parts} - set(PARTS))
        if unknown:
            raise TgqError(f"{path} names a part {unknown[0]!r}; the parts are {', '.join(PARTS)}")
        codes = np.array([PARTS.index(part) for part in parts], dtype=np.int8)
        return cls(_unique(tuple(table["id"].cast(pa.string()).to_pylist())), codes)

    @cached_property
    def _codes(self) -> dict[str, int]:
        return dict(zip(self.ids, self.parts.tolist(), strict=True))


def split_by_time(interactions: Interactions, time: int) -> tuple[Interactions, Interactions]:
    """Split interactions into those before `time` (seconds since 1970, UTC) and those at or after it.

    Raise TgqError when the interactions have no times.
    """
    if interactions.times is None:
        raise TgqError("these interactions have no times, so they cannot be split by time; name the column of times")
    early = interactions.times < time
    return interactions.where(early), interactions.where(~early)


def cut_by_time(
    interactions: Interactions, ids: Sequence[str], fractions: Sequence[float] = FRACTIONS
) -> tuple[list[Interactions], ItemSplit]:
    """Cut interactions into three periods that hold these shares of them, and split items by their first period.

    Interactions of one second stay together. An item of `ids` that was never clicked is of the first period. Raise
    TgqError when the interactions have no times.
    """
    bounds, times = _bounds(fractions), interactions.times
    if times is None:
        raise TgqError("these interactions have no times, so they cannot be split by time; name the column of times")
    ordered = np.append(np.sort(times), np.iinfo(np.int64).max)
    cuts = ordered[np.rint(bounds * len(times)).astype(np.int64)]
    period = np.searchsorted(cuts, times, side="right")
    first = np.full(len(interactions.item_names), len(PARTS), np.int8)
    np.minimum.at(first, interactions.items, period.astype(np.int8))
    seen = dict(zip(interactions.item_names.to_pylist(), first.tolist(), strict=True))
    parts = np.array([seen.get(name, 0) % len(PARTS) for name in ids], dtype=np.int8)
    return [interactions.where(period == part) for part in range(len(PARTS))], ItemSplit(_unique(tuple(ids)), parts)


def stable_uniform(*key: object) -> float:
    """Return a number in [0, 1) that depends on nothing but `key` (BLAKE2b of its JSON)."""
    digest = blake2b(json.dumps(key).encode(), digest_size=8).digest()
    return float((int.from_bytes(digest, "big") >> 11) * 2.0**-53)


def _bounds(fractions: Sequence[float]) -> Doubles:
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.shape != (3,) or (shares < 0).any() or abs(float(shares.sum()) - 1) > 1e-6:
        raise TgqError(f"fractions {tuple(fractions)} must be three shares (train, val, test) that sum to 1")
    # The last bound is 1 by definition; rounding must not leave a gap below it.
    return np.cumsum(shares)[:2]


def _unique(ids: tuple[str, ...]) -> tuple[str, ...]:
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise TgqError(f"the id {twice[0]!r} stands more than once; an item has one part")
    return ids
