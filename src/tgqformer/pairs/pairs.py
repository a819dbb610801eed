"""Pairs: which items belong together, read from lists or mined (`tgqformer.pairs.mining`), and their split.

A pair is unordered (a < b as text), never of an item with itself, and stands once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tgqformer.errors import TgqError, counted
from tgqformer.files import atomic_path
from tgqformer.pairs.clicks import Clicks
from tgqformer.pairs.interactions import Interactions
from tgqformer.pairs.mining import PAIR_SCHEMA, MiningSettings, mine_table
from tgqformer.pairs.splits import PARTS, ItemSplit
from tgqformer.types import Ints


@dataclass(frozen=True)
class Pairs:
    """Unordered pairs of items: a table of `PAIR_SCHEMA`, sorted by (a, b)."""

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
        columns = (a, b, ones if weight is None else weight, ones if count is None else count)
        arrays = [pa.array(values, kind) for values, kind in zip(columns, PAIR_SCHEMA.types, strict=True)]
        return cls(_canonical(pa.table(arrays, schema=PAIR_SCHEMA)))

    @classmethod
    def read(cls, path: str | Path) -> Pairs:
        """Read what `write` wrote. Raise TgqError when there is no such file, or it is not pairs."""
        path = Path(path)
        if not path.is_file():
            raise TgqError(f"there is no file of pairs {path}; `tgq pairs mine` or `tgq pairs simulate` makes one")
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            made = f"`tgq pairs mine {path} --to pairs.parquet` makes one"
            raise TgqError(f"{path} is not a file of pairs (Parquet with a and b); {made}") from error
        if not {"a", "b"} <= set(table.column_names):
            raise TgqError(f"{path} is not a file of pairs: it has the columns {table.column_names}, not a and b")
        ones = pa.array(np.ones(len(table), np.int32))
        columns = [table[name] if name in table.column_names else ones for name in PAIR_SCHEMA.names]
        return cls(_canonical(pa.table(columns, names=PAIR_SCHEMA.names).cast(PAIR_SCHEMA)))

    @classmethod
    def together(cls, parts: Sequence[Pairs]) -> Pairs:
        """Put pairs together; where a pair stands in several parts its weights and counts are summed."""
        return cls(_canonical(pa.concat_tables([part.table for part in parts])))

    def write(self, path: Path, notes: Mapping[str, str] | None = None) -> None:
        """Write Parquet, atomically; notes: what else stands in its metadata."""
        with atomic_path(path) as unfinished:
            pq.write_table(self.table.replace_schema_metadata(notes), unfinished)

    def __len__(self) -> int:
        return len(self.table)

    def positions(self, ids: Sequence[str]) -> Ints:
        """Return the places of both items in `ids`; int64 [n, 2]. Raise TgqError for an item that `ids` has not."""
        found = [pc.index_in(self.table[side], value_set=pa.array(ids, pa.string())) for side in ("a", "b")]
        for side, places in zip(("a", "b"), found, strict=True):
            if places.null_count:
                name = self.table[side].filter(pc.is_null(places))[0].as_py()
                raise TgqError(
                    f"{counted(places.null_count, 'pair')} with an unknown item, first {name!r}; use pairs.within(ids)"
                )
        return np.stack([places.to_numpy().astype(np.int64) for places in found], axis=1)

    def within(self, ids: Sequence[str]) -> Pairs:
        """Keep the pairs of which both items are in `ids`."""
        known = pa.array(ids, pa.string())
        both = pc.and_(*(pc.is_in(self.table[side], value_set=known) for side in ("a", "b")))
        return Pairs(self.table.filter(both))

    def ids(self) -> list[str]:
        """Return the items that have a pair, sorted."""
        both = pa.chunked_array([*self.table["a"].chunks, *self.table["b"].chunks], type=pa.string())
        return sorted(pc.unique(both).to_pylist())


@dataclass(frozen=True)
class PairSets:
    """Pairs for training, validation and test, and the split of the items.

    Split by items, pairs lie inside a part, and `cross` are those whose items are in two parts. Split by time, they are
    those of three periods; the part of an item is the period that knew it first, and there are no `cross`.
    """

    train: Pairs
    val: Pairs
    test: Pairs
    split: ItemSplit
    cross: Pairs
    by_time: bool = False


def split_pairs(pairs: Pairs, split: ItemSplit) -> PairSets:
    """Sort pairs by the parts of their items; those with an unknown item are left out."""
    side = [split.codes(pairs.table[name].to_pylist()) for name in ("a", "b")]
    inside = [pairs.table.filter(pa.array((side[0] == part) & (side[1] == part))) for part in range(len(PARTS))]
    across = pairs.table.filter(pa.array((side[0] != side[1]) & (side[0] >= 0) & (side[1] >= 0)))
    return PairSets(Pairs(inside[0]), Pairs(inside[1]), Pairs(inside[2]), split, Pairs(across))


def check_parts(pairs: Pairs, sets: PairSets) -> None:
    """Raise TgqError where no pair is left to train on, or to test on."""
    for name, part in (("train", sets.train), ("test", sets.test)):
        if not len(part):
            raise TgqError(
                f"no pair has both of its items in the part {name!r} of the split, of {counted(len(pairs), 'pair')} of "
                f"{counted(len(pairs.ids()), 'item')}; give more pairs, or that part a larger share"
            )


def pairs_from_related(path: str | Path, kinds: Sequence[str] | None = None) -> Pairs:
    """Read co-purchase lists: Parquet (id, other, kind), as the importer writes; `kinds` None takes all.

    Weight and count are the number of rows that name the pair (in either direction). Raise TgqError.
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
    mining: MiningSettings = MiningSettings(),  # noqa: B008
    *,
    shown: bool = False,
) -> Pairs:
    """Mine pairs of items that are clicked in the same session, within the window.

    `count` of a pair is the number of sessions that hold it; pairs below `min_support` are dropped. Then an item keeps
    its `cap` heaviest partners (ties by count, then id), and a pair stays when *both* of its items keep it, so no item
    has more than `cap` pairs. Only the latest `max_session` clicks of a session count.

    Weights, with S sessions, S_i of them with item i and I_u the items of session u:
    - count: the count.
    - pmi: log(count · S / (S_a · S_b)); pairs with 0 or less (no more often than by chance) are dropped.
    - swing: Σ over u < v of the sessions that hold the pair, w_u · w_v / (alpha + |I_u ∩ I_v|), w_u = 1/√|I_u|
      (Yang et al. 2020, arXiv 2010.05525). One session alone makes no swing, so such pairs are dropped. Of a pair that
      more than 200 sessions hold, the first 200 in order of their names are summed.

    The result does not depend on the order of the rows (where there are times). Memory: the interactions, some 20 bytes
    a click, some 200 MB for a block of items, and at most `cap` partners for each item.

    Raise TgqError for a window in seconds where there are no times.
    """
    return Pairs(
        mine_table(Clicks.of(interactions, mining.max_session, mining.window, shown=shown), mining, shown=shown)
    )


def _canonical(table: pa.Table) -> pa.Table:
    """Turn every pair to a < b, leave out self pairs, sum those that stand several times, and sort."""
    table = table.filter(pc.not_equal(table["a"], table["b"]))
    turned = pc.greater(table["a"], table["b"])
    low, high = pc.if_else(turned, table["b"], table["a"]), pc.if_else(turned, table["a"], table["b"])
    table = pa.table([low, high, table["weight"], table["count"]], names=PAIR_SCHEMA.names)
    summed = table.group_by(["a", "b"], use_threads=False).aggregate([("weight", "sum"), ("count", "sum")])
    renamed = summed.select(["a", "b", "weight_sum", "count_sum"]).rename_columns(PAIR_SCHEMA.names)
    return renamed.cast(PAIR_SCHEMA).sort_by([("a", "ascending"), ("b", "ascending")])
