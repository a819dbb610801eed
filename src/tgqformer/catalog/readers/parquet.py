"""Parquet files with any columns; pictures may be bytes in a column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.catalog.readers.base import FileReader, SourceRow, parts

SUFFIXES = (".parquet", ".pq")
_BATCH = 64


def parquet_rows(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
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


PARQUET = FileReader(
    "parquet",
    "Parquet files, or a folder of them; pictures may be a column of bytes",
    SUFFIXES,
    parquet_rows,
)
