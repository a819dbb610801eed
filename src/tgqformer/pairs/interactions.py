"""Interactions: who touched which item, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tgqformer.errors import counted
from tgqformer.files import atomic_path
from tgqformer.pairs.columns import LogSettings
from tgqformer.pairs.log_files import OURS
from tgqformer.pairs.logs import ReadReport, read_log
from tgqformer.progress import console
from tgqformer.types import Bools, Floats, Int32s, Ints


@dataclass(frozen=True)
class Interactions:
    """n interactions; equal sessions (or users) and items share one name.

    sessions, items: int32 [n], places in `session_names` and `item_names`.
    times: int64 [n] seconds since 1970 (UTC), or None: then the order of the rows is the order in time.
    weights: float32 [n], or None.
    """

    sessions: Int32s
    items: Int32s
    session_names: pa.StringArray = field(repr=False)
    item_names: pa.StringArray = field(repr=False)
    times: Ints | None = None
    weights: Floats | None = None

    @classmethod
    def of(
        cls,
        sessions: Sequence[str],
        items: Sequence[str],
        times: Sequence[int] | Ints | None = None,
        weights: Sequence[float] | Floats | None = None,
    ) -> Interactions:
        """Make interactions from plain columns of equal length."""
        columns = {"session": pa.array(sessions, pa.string()), "item": pa.array(items, pa.string())}
        if times is not None:
            columns["time"] = pa.array(times, pa.int64())
        if weights is not None:
            columns["weight"] = pa.array(weights, pa.float32())
        return cls.from_table(pa.table(columns))

    @classmethod
    def from_table(cls, table: pa.Table) -> Interactions:
        """Make interactions from a table with the columns session, item and perhaps time (int64) and weight."""
        names, codes = {}, {}
        for column in ("session", "item"):
            values = table[column]
            if not pa.types.is_dictionary(values.type):
                values = values.dictionary_encode()
            if values.num_chunks != 1:  # as one piece, nothing is copied
                values = values.unify_dictionaries().combine_chunks()
            whole = values.chunk(0) if isinstance(values, pa.ChunkedArray) and values.num_chunks else values
            empty = not len(table)
            names[column] = pa.array([], pa.string()) if empty else whole.dictionary.cast(pa.string())
            codes[column] = np.zeros(0, np.int32) if empty else whole.indices.to_numpy().astype(np.int32, copy=False)
            used = np.bincount(codes[column], minlength=len(names[column])) > 0
            if not used.all():  # rows that were left out had them
                names[column] = names[column].filter(pa.array(used))
                codes[column] = (np.cumsum(used) - 1).astype(np.int32)[codes[column]]
        times = table["time"].to_numpy().astype(np.int64, copy=False) if "time" in table.column_names else None
        weights = table["weight"].to_numpy().astype(np.float32, copy=False) if "weight" in table.column_names else None
        return cls(codes["session"], codes["item"], names["session"], names["item"], times, weights)

    def __len__(self) -> int:
        return len(self.items)

    def table(self) -> pa.Table:
        """Return the interactions as a table (session, item: dictionaries of strings; time, weight where known)."""
        columns: dict[str, pa.Array] = {
            "session": pa.DictionaryArray.from_arrays(pa.array(self.sessions), self.session_names),
            "item": pa.DictionaryArray.from_arrays(pa.array(self.items), self.item_names),
        }
        if self.times is not None:
            columns["time"] = pa.array(self.times)
        if self.weights is not None:
            columns["weight"] = pa.array(self.weights)
        return pa.table(columns)

    def where(self, keep: Bools) -> Interactions:
        """Return the interactions whose place in `keep` (bool [n]) is True; the names stay."""
        times = None if self.times is None else self.times[keep]
        weights = None if self.weights is None else self.weights[keep]
        return Interactions(self.sessions[keep], self.items[keep], self.session_names, self.item_names, times, weights)

    def within(self, ids: Sequence[str]) -> Interactions:
        """Keep the interactions with these items; `matching.check_items` tells where that is hardly any."""
        known = pc.is_in(self.item_names, value_set=pa.array(ids, pa.string())).to_numpy(zero_copy_only=False)
        return self.where(known.astype(bool)[self.items] if len(self) else np.zeros(0, dtype=bool))

    def write(self, path: Path) -> None:
        """Write Parquet, atomically; `read_interactions` reads it."""
        with atomic_path(path) as unfinished:
            pq.write_table(self.table().replace_schema_metadata(OURS), unfinished)


def read_interactions(
    path: str | Path,
    log: LogSettings = LogSettings(),  # noqa: B008
    *,
    report: ReadReport | None = None,
) -> Interactions:
    """Read a log: a table (CSV, TSV, with any delimiter), Parquet, JSON, or lines `user item item …`; or a folder.

    Files may be gzipped. Ids are kept as the text in the file (leading zeros stay). What forms of times are read,
    `times.TimeReader` says.

    Args:
        log: how it is read; what is not named is guessed. report: is filled with what was kept and what was left out;
            without one, that is told on standard error, and a bar counts the rows.

    Raises:
        TgqError: when a file or a column is absent, or no row can be used.
    """
    told = report if report is not None else ReadReport()
    table = read_log(Path(path), log, told, shown=report is None)
    if report is None and told.bad_rows:
        console.print(f"{path}: {counted(told.bad_rows, 'row')} left out: {told.first_reasons()}", markup=False)
    for warning in told.warnings if report is None else ():
        console.print(f"{path}: {warning}", style="yellow", markup=False)
    return Interactions.from_table(table)
