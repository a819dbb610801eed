"""The batches of a log, put together as they come: ids become numbers at once, so that no id is kept for each click."""

from __future__ import annotations

from tempfile import SpooledTemporaryFile

import numpy as np
import pyarrow as pa

from tgqformer.types import Array

PENDING = 1 << 20  # ids that wait until they get their numbers, at least
IN_MEMORY = 1 << 26  # bytes of a column; more go to a temporary file


class Gathered:
    """Tables of the same columns, one after the other.

    While they come, rows lie in temporary files, and memory holds the distinct ids. The ids that are known are read
    again only when as many new ones wait. So the cost grows with the rows.
    """

    def __init__(self) -> None:
        self._columns: dict[str, _Ids | _Numbers] = {}
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Put a table behind the others."""
        self.rows += len(table)
        for name in table.column_names:
            ids = pa.types.is_dictionary(table.schema.field(name).type)
            column = self._columns.setdefault(name, _Ids() if ids else _Numbers())
            for chunk in table[name].chunks:
                column.add(chunk)

    def table(self) -> pa.Table:
        """Return all, each column in one piece; nothing is left here."""
        for column in self._columns.values():
            column.finish()
        pa.default_memory_pool().release_unused()
        return pa.table({name: self._columns.pop(name).whole() for name in list(self._columns)})


class _Numbers:
    """Numbers of one type, in a file."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        self._type, self._rows = np.dtype(np.int32), 0

    def add(self, chunk: pa.Array) -> None:
        values = chunk.to_numpy()
        self._type, self._rows = values.dtype, self._rows + len(values)
        self._file.write(values.tobytes())

    def finish(self) -> None:
        """Do what is left to do."""

    def whole(self) -> pa.Array:
        found: Array = np.empty(self._rows, self._type)
        self._file.seek(0)
        if self._file.readinto(found.view(np.uint8).data) != found.nbytes:
            raise OSError("a temporary file of this program was cut short by another")
        self._file.close()
        return pa.array(found)


class _Ids(_Numbers):
    """Places in a list of distinct ids, which only grows."""

    def __init__(self) -> None:
        super().__init__()
        self._names = pa.array([], pa.string())
        self._pending: list[pa.DictionaryArray] = []
        self._waiting = 0

    def add(self, chunk: pa.DictionaryArray) -> None:
        self._pending.append(chunk)
        self._waiting += len(chunk.dictionary)
        if self._waiting > max(PENDING, len(self._names)):
            self.finish()

    def finish(self) -> None:
        """Give the ids that wait their numbers; those of others stay, since their list comes first."""
        known = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), self._names)
        one = pa.chunked_array([known, *self._pending]).unify_dictionaries()
        self._pending, self._waiting = [], 0
        self._names = one.chunk(0).dictionary
        for chunk in one.chunks[1:]:
            super().add(chunk.indices)

    def whole(self) -> pa.Array:
        return pa.DictionaryArray.from_arrays(super().whole(), self._names)
