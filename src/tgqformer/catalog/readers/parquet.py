"""Parquet files with any columns; pictures may be bytes in a column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.readers.base import SourceRow, files_of, folder_of, parts

SUFFIXES = (".parquet", ".pq")
_BATCH = 64


class ParquetReader:
    """Reads Parquet files of one schema or several."""

    name = "parquet"
    about = "Parquet files (.parquet), or a folder of them; pictures may be a column of bytes"
    mapping: ColumnMapping | None = None

    def sniff(self, path: Path) -> bool:
        """Say whether there are Parquet files."""
        return bool(parts(path, SUFFIXES))

    def rows(self, path: Path) -> Iterator[SourceRow]:
        """Stream the rows of all files, in order of their names."""
        for file in files_of(path, SUFFIXES):
            yield from parquet_rows(file)

    def root(self, path: Path) -> Path:
        """Picture names are relative to the folder of the file."""
        return folder_of(path)


def parquet_rows(file: Path) -> Iterator[SourceRow]:
    """Stream the rows of one file, a few at a time; a damaged file ends with a row that says so."""
    number = 0
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(_BATCH, use_threads=False):
                for fields in batch.to_pylist():
                    number += 1
                    yield SourceRow(file.name, number, fields)
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield SourceRow(file.name, number + 1, reason=f"the Parquet file cannot be read from here on: {words}")


def columns_of(path: Path) -> set[str]:
    """Return the column names of the first Parquet file of a source; none where there is no readable one."""
    for file in parts(path, SUFFIXES)[:1]:
        try:
            return set(pq.read_schema(file).names)
        except (OSError, pa.ArrowException):
            return set()
    return set()
