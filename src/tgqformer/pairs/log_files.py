"""The files of a log, of any kind, as batches of columns; tables and objects are read as the catalogue reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from tgqformer.catalog.nested import paths_in, rows_of, value_at
from tgqformer.catalog.readers.base import SourceRow
from tgqformer.catalog.readers.jsonlines import json_rows
from tgqformer.catalog.readers.lines import (
    DAMAGED,
    MAX_LINE,
    bare_name,
    encoding_of,
    open_binary,
    packer_of,
    read_lines,
)
from tgqformer.catalog.readers.parquet import parquet_rows
from tgqformer.catalog.readers.table import Record, records
from tgqformer.catalog.shape import LOOK, TableShape, plain_name, shape_of
from tgqformer.errors import TgqError, counted, option
from tgqformer.pairs.columns import USUAL, LogSettings
from tgqformer.pairs.times import FIRST, LAST, seconds_of
from tgqformer.types import Bools, Doubles, Ints

Add = Callable[..., None]
"""`ReadReport.add`: notes one bad row by file, row, reason and kind."""
OURS = {b"tgqformer": b"interactions"}
"""In the schema of files that `Interactions.write` makes: times are seconds, whatever they look like."""
_BATCH, _PEEK, _BLOCK = 1 << 16, 200, 4 << 20
_TABLES, _JSON, _PARQUET = (".csv", ".tsv"), (".jsonl", ".ndjson", ".json"), (".parquet", ".pq")
_NO_LOGS = {".xlsx": "an Excel workbook", ".xls": "an Excel workbook", ".zip": "an archive", ".xml": "XML"}


@dataclass
class Batch:
    """Some rows of a log: columns by name, and the number of each row in its file."""

    table: pa.Table
    rows: Ints
    trusted: bool = False
    _texts: dict[str, tuple[pa.ChunkedArray, Bools]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    def text(self, name: str) -> tuple[pa.ChunkedArray, Bools]:
        """Return a column as text without white space around it ("" for a missing value), and where it is not UTF-8."""
        if name not in self._texts:
            self._texts[name] = _text(self._column(name), len(self))
        return self._texts[name]

    def seconds(self, name: str) -> Doubles | None:
        """Return the seconds since 1970 (NaN: none) of a column that is times by its type; else None."""
        values = self._column(name)
        if values is None:
            return None
        if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
            exact = values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
            return np.asarray(np.floor(exact.cast(pa.float64(), safe=False).to_numpy() / 1e6), dtype=np.float64)
        if self.trusted:
            return np.asarray(values.cast(pa.float64()).to_numpy(), dtype=np.float64)
        return None

    def _column(self, name: str) -> pa.ChunkedArray | None:
        name = name.removesuffix("[]")
        return self.table[name] if name in self.table.column_names else None


@dataclass(frozen=True)
class LogFile:
    """An opened file of a log: the names of its columns, and its batches once the columns are chosen.

    words: whether its lines are a user and its items.
    """

    names: Sequence[str]
    batches: Callable[[LogSettings], Iterator[Batch]]
    words: bool = False


def files_of(path: Path) -> list[Path]:
    """Return the files of a log: itself, or those in a folder and its sub-folders, by name.

    Raise TgqError where there are none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise TgqError(f"there is no file {path}; name a log of interactions (CSV, TSV, Parquet, JSON, text)")
    inside = [file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file() and file.stat().st_size]
    found = [path / file for file in inside if not any(part.startswith((".", "_")) for part in file.parts)]
    if not found:
        raise TgqError(f"there is no file in the folder {path}")
    return found


def open_log_file(path: Path, log: LogSettings, add: Add) -> LogFile:
    """Open one file of a log, of the kind that its ending or its content tells.

    Raise TgqError where it cannot be read, or has no names for its columns.
    """
    ending = Path(bare_name(path)).suffix
    if ending in _NO_LOGS:
        raise TgqError(f"{path} is {_NO_LOGS[ending]}, which is no log that can be read; export it as CSV")
    start = _start(path)
    parquet = ending in _PARQUET or start.startswith(b"PAR1")
    objects = ending in _JSON or start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"
    for name, vain in (("columns", parquet or objects), ("encoding", parquet)):
        if vain and getattr(log, name):
            raise TgqError(f"{path} is {'Parquet' if parquet else 'JSON'}, of which {option(name)} says nothing")
    if parquet:
        return _parquet(path)
    if objects:
        return _objects(path, json_rows(path, log.encoding), add)
    look = [line.text for line in islice(read_lines(path, log.encoding), LOOK) if line.fault is None]
    usual = USUAL | {plain_name(name) for name in (*log.session, log.item, log.time, log.weight, *log.where) if name}
    if ending in _TABLES:
        shape = shape_of(look, usual, delimiters=("\t",) if ending == ".tsv" else (",", ";", "\t", "|"))
    else:
        shape = shape_of(look, usual, delimiters=(",", ";", "\t", "|", " "))
        if shape is not None and shape.known < 2 and shape.delimiter in "\t " and not log.columns:
            return _word_lines(path, look, log, add)
    if shape is None:
        raise TgqError(f"{path} has no rows")
    return _table(path, shape, log, add)


def _start(path: Path) -> bytes:
    try:
        with open_binary(path) as file:
            return file.read(64)
    except DAMAGED as error:
        raise TgqError(f"{path} cannot be read: {error}") from error


# --- tables -----------------------------------------------------------------------------------------------------------


def _table(path: Path, shape: TableShape, log: LogSettings, add: Add) -> LogFile:
    """Read with every column as text, so that no id loses its zeros; rows of a wrong width go to the report."""
    names, skip = [name.strip() for name in shape.names], shape.header + 1
    if log.columns:
        if len(log.columns) != len(names):
            raise TgqError(
                f"{path} has {counted(len(names), 'column')}, and {option('columns')} names {len(log.columns)}"
            )
        names, skip = list(log.columns), shape.header + (shape.known >= 2)
    elif shape.headless:
        raise TgqError(
            f"{path}: the first line ({shape.delimiter.join(names)[:80]}) looks like data, not like names of columns; "
            f"name them in their order, for example {option('columns')} session,item,time"
        )

    def batches(log: LogSettings) -> Iterator[Batch]:
        if _has_odd_quotes(path, shape.delimiter, log.encoding):
            found = records(path, log.encoding, shape=shape)
            return _record_batches(path, names, islice(found, skip - shape.header, None), add)
        return _table_batches(path, names, skip, shape.delimiter, log.encoding, add)

    return LogFile(names, batches)


def _has_odd_quotes(path: Path, delimiter: str, encoding: str | None) -> bool:
    """Say whether a quote may be a slip, or open a cell of several lines: Arrow would read on to the next quote.

    None is, where each line by itself is made of cells that are quoted whole or begin with another sign. Lines of
    UTF-16 and UTF-32 are not looked at.
    """
    if (encoding_of(path, encoding) or "").startswith(("utf-16", "utf-32")):
        return True
    mark = re.escape(delimiter)
    cell = rf'(?:[^"{mark}][^{mark}]*|"(?:[^"]|"")*"|)'
    try:
        with open_binary(path) as file:
            while block := file.read(_BLOCK) + file.readline(MAX_LINE):
                if b'"' in block:
                    lines = pa.array(block.split(b"\n"), pa.binary())
                    quoted = lines.filter(pc.match_substring(lines, '"'))
                    if not pc.all(pc.match_substring_regex(quoted, rf"^{cell}(?:{mark}{cell})*\r?$")).as_py():
                        return True
    except DAMAGED:  # who reads it says so
        pass
    return False


def _record_batches(path: Path, names: list[str], found: Iterator[Record], add: Add) -> Iterator[Batch]:
    """Read as the catalogue does, which tells a quote that is a slip; some twenty times slower."""
    cells, rows = list[list[bytes]](), list[int]()
    for number, record in enumerate(found, 1):
        if record.cells is None:
            add(path, number, record.reason or "unreadable")
        elif len(record.cells) != len(names):
            reason = f"{counted(len(record.cells), 'field')} where {len(names)} are expected"
            add(path, number, reason, "a wrong number of fields")
        else:
            cells.append([_as_bytes(cell, utf8=record.utf8) for cell in record.cells])
            rows.append(number)
        if len(rows) >= _BATCH:
            yield _of_bytes(names, cells, rows)
            cells, rows = [], []
    if rows:
        yield _of_bytes(names, cells, rows)


def _of_bytes(names: list[str], cells: list[list[bytes]], rows: list[int]) -> Batch:
    columns = [pa.array(column, pa.binary()) for column in zip(*cells, strict=True)]
    return Batch(pa.table(columns, names=names), np.array(rows, np.int64))


def _as_bytes(cell: str, *, utf8: bool) -> bytes:
    """Return the bytes of a cell as they stand in the file, or none of UTF-8 where its line is not."""
    return cell.encode() if utf8 else cell.replace("\ufffd", "\udc81").encode("cp1252", "surrogateescape")


def _table_batches(
    path: Path, names: list[str], skip: int, delimiter: str, encoding: str | None, add: Add
) -> Iterator[Batch]:
    skipped: list[int] = []

    def leave_out(row: pc_csv.InvalidRow) -> str:
        number = (row.number or skip + 1) - skip
        if len(skipped) < 1000:  # as many as are listed: rows behind them keep their numbers
            skipped.append(number)
        reason = f"{row.actual_columns} fields where {row.expected_columns} are expected"
        add(path, number, reason, "a wrong number of fields")
        return "skip"

    types = dict.fromkeys(names, pa.binary())
    code = encoding_of(path, encoding)
    read = pc_csv.ReadOptions(column_names=names, skip_rows=skip, use_threads=False, block_size=_BLOCK)
    if code not in (None, "utf-8"):
        read.encoding = code
    try:
        packer = packer_of(path)
        opened = pa.PythonFile(open_binary(path)) if packer == "xz" else pa.input_stream(path, compression=packer)
        with opened as stream:
            reader = pc_csv.open_csv(
                stream,
                read_options=read,
                parse_options=pc_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=leave_out),
                convert_options=pc_csv.ConvertOptions(column_types=types, strings_can_be_null=False, check_utf8=False),
            )
            first = 1
            for batch in reader:
                rows = np.arange(first, first + len(batch), dtype=np.int64)
                for number in sorted(skipped):
                    rows += rows >= number
                yield Batch(pa.Table.from_batches([batch]), rows)
                first += len(batch)
    except (pa.ArrowInvalid, OSError) as error:
        if "Empty CSV file" not in str(error):
            raise TgqError(f"{path} cannot be read as {delimiter!r}-separated text: {error}") from error


def _word_lines(path: Path, look: Sequence[str], log: LogSettings, add: Add) -> LogFile:
    """Lines of white-space separated words: a user, then its items."""
    words = [line.split() for line in look if line.strip()]
    widths = {len(row) for row in words}
    if len(widths) == 1 and len(words) > 1 and len(words[0]) > 2 and all(_is_time(row[-1]) for row in words):
        raise TgqError(
            f"{path}: its lines look like rows of a table ({' '.join(words[0])[:80]}), not like a user and its items; "
            f"name the columns in their order, for example {option('columns')} session,item,time"
        )
    return LogFile(["session", "item"], lambda _: _word_batches(path, log.encoding, add), words=True)


def _is_time(word: str) -> bool:
    return FIRST <= (float(word) if word.isdecimal() else seconds_of(word)) < LAST


def _word_batches(path: Path, encoding: str | None, add: Add) -> Iterator[Batch]:
    users: list[str] = []
    items: list[str] = []
    rows: list[int] = []
    for line in read_lines(path, encoding):
        words = line.text.split()
        if line.fault is not None or len(words) == 1:
            add(path, line.number, line.fault or f"the user {words[0]!r} has no item", "a user without items")
        users += words[:1] * (len(words) - 1)
        items += words[1:]
        rows += [line.number] * max(len(words) - 1, 0)
        if len(items) >= _BATCH:
            yield Batch(pa.table({"session": users, "item": items}), np.array(rows, np.int64))
            users, items, rows = [], [], []
    columns = {"session": pa.array(users, pa.string()), "item": pa.array(items, pa.string())}
    yield Batch(pa.table(columns), np.array(rows, np.int64))


# --- objects ----------------------------------------------------------------------------------------------------------


def _objects(path: Path, source: Iterator[SourceRow], add: Add) -> LogFile:
    first = list(islice(source, _PEEK))
    names = paths_in(row.fields for row in first if row.fields is not None)
    if not names:
        reason = f": row {first[0].line}, {first[0].reason}" if first else ""
        raise TgqError(f"{path} has no rows that can be read{reason}")
    return LogFile(names, lambda log: _object_batches(path, chain(first, source), log, add))


def _object_batches(path: Path, source: Iterable[SourceRow], log: LogSettings, add: Add) -> Iterator[Batch]:
    """Make a row of every element of the lists in which the item lies."""
    item = str(log.item).removesuffix("[]")
    others = [name for name in (*log.session, log.time, log.weight, *log.where) if name is not None]
    names = list(dict.fromkeys([*others, item]))
    cells: dict[str, list[str | None]] = {name: [] for name in names}
    rows: list[int] = []
    for row in source:
        if row.fields is None:
            add(path, row.line, row.reason or "unreadable", "not JSON")
            continue
        for value, bound in rows_of(row.fields, item):
            for name in names:
                found = value if name == item else value_at(row.fields, name, bound)
                said = isinstance(found, bool) and name in log.where
                cells[name].append(str(found).lower() if said else _plain(found))
            rows.append(row.line)
        if len(rows) >= _BATCH:
            yield _of_cells(cells, rows)
            cells, rows = {name: [] for name in names}, []
    if rows:
        yield _of_cells(cells, rows)


def _of_cells(cells: dict[str, list[str | None]], rows: list[int]) -> Batch:
    return Batch(pa.table({name: pa.array(values, pa.string()) for name, values in cells.items()}), np.array(rows))


def _plain(value: Any) -> str | None:
    """Return a value as text; None for what is none, and for objects."""
    if value is None or isinstance(value, (dict, list, bool)):
        return None
    text = value if isinstance(value, str) else str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()  # half a character is no text


def _parquet(path: Path) -> LogFile:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
    except (pa.ArrowInvalid, OSError) as error:
        raise TgqError(f"{path} cannot be read as Parquet: {error}") from error
    flat = {column.name for column in schema if not pa.types.is_nested(column.type)}
    rows = parquet_rows(path)
    first = list(islice(rows, _PEEK)) if len(flat) < len(schema) else []
    inside = paths_in(row.fields for row in first if row.fields is not None)
    names = [*(name for name in schema.names if name in flat), *(name for name in inside if name not in flat)]

    def batches(log: LogSettings) -> Iterator[Batch]:
        used = {name for name in (*log.session, log.item, log.time, log.weight, *log.where) if name is not None}
        if used <= flat:
            trusted = OURS.items() <= (schema.metadata or {}).items()
            return _parquet_batches(path, sorted(used), trusted)
        return _object_batches(path, chain(first, rows), log, lambda *_: None)

    return LogFile(names, batches)


def _parquet_batches(path: Path, columns: list[str], trusted: bool) -> Iterator[Batch]:
    first = 1
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, columns=columns):
                rows = np.arange(first, first + len(batch), dtype=np.int64)
                yield Batch(pa.Table.from_batches([batch]), rows, trusted)
                first += len(batch)
    except (pa.ArrowInvalid, OSError) as error:
        raise TgqError(f"{path} cannot be read as Parquet: {error}") from error


def _of_floats(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write floats as people do: whole ones without a point, none with an exponent."""
    values = values.cast(pa.float64())
    whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
    numbers = pc.if_else(pc.fill_null(whole, False), values, None).cast(pa.int64())
    text = pc.coalesce(numbers.cast(pa.string()), values.cast(pa.string()))
    if not pc.any(pc.match_substring(text, "e")).as_py():
        return text
    return pa.chunked_array([[_positional(one) for one in text.to_pylist()]], pa.string())


def _positional(text: str | None) -> str | None:
    return text if text is None or "e" not in text else np.format_float_positional(float(text), trim="-")


def _text(values: pa.ChunkedArray | None, length: int) -> tuple[pa.ChunkedArray, Bools]:
    wrong = np.zeros(length, dtype=bool)
    if values is None:
        return pa.chunked_array([pa.array([""] * length, pa.string())]), wrong
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("us"), safe=False).cast(pa.string())
    try:
        text = _of_floats(values) if pa.types.is_floating(values.type) else values.cast(pa.string())
    except pa.ArrowInvalid:
        decoded = [None if value is None else value.decode("utf-8", "replace") for value in values.to_pylist()]
        wrong = np.array(["\ufffd" in (value or "") for value in decoded], dtype=bool)
        text = pa.chunked_array([pa.array(decoded, pa.string())])
    return pc.fill_null(pc.utf8_trim_whitespace(text), ""), wrong
