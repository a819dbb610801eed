"""CSV and TSV, also `.gz`, as shops really write them: stray quotes, ragged rows, mixed encodings."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import count, islice, repeat
from pathlib import Path

from tgqformer.catalog.mapping import USUAL_NAMES
from tgqformer.catalog.readers.base import Block, FileReader, Rows, SourceRow, each_row
from tgqformer.catalog.readers.lines import MAX_LINE, NOT_UTF8, Line, LineBatch, read_batches, read_lines
from tgqformer.catalog.shape import LOOK, TableShape, shape_of
from tgqformer.errors import counted

_ROWS, _SIZE = 256, 1 << 18
"""Rows of a block, and characters, at most some more."""
_BLANK = "\r\n \t\ufeff"
MAX_LINES = 500
"""A quoted field that runs over more lines than this was never closed."""


def table_rows(
    file: Path, encoding: str | None = None, *, join_last: bool = False, shape: TableShape | None = None
) -> Iterator[SourceRow]:
    """Stream the rows of one CSV or TSV file as text fields.

    `join_last` puts surplus cells back into the last column (stray commas); otherwise they make a bad row. `shape` says
    where the header stands; else it is found.
    """
    return each_row(table_blocks(file, encoding, join_last=join_last, shape=shape))


def table_blocks(
    file: Path, encoding: str | None = None, *, join_last: bool = False, shape: TableShape | None = None
) -> Rows:
    """Stream the same rows, in blocks where they are as they should be."""
    found = _read(file, encoding, join_last, shape)
    header = next(found, None)
    if not isinstance(header, Record) or header.cells is None:
        reason = header.reason if isinstance(header, Record) else "the file is empty"
        yield SourceRow(file.name, 1, reason=reason)
        return
    names = _names(header.cells)
    block, size = Block(file.name, names, [], []), 0
    for one in found:
        if isinstance(one, _Rows):
            block.lines += range(one.line, one.line + len(one.cells))
            block.cells += one.cells
            size += one.size
        if block.lines and (isinstance(one, Record) or len(block) >= _ROWS or size > _SIZE):
            yield block
            block, size = Block(file.name, names, [], []), 0
        if isinstance(one, Record):
            yield _row(file.name, names, one, join_last)
    if block.lines:
        yield block


def header_of(file: Path) -> list[str]:
    """Return the column names of a table in a text file; none where it cannot be read."""
    first = next(records(file, None, False), None)
    return _names(first.cells) if first is not None and first.cells is not None else []


def shape_in(file: Path, encoding: str | None = None, usual: Collection[str] = USUAL_NAMES) -> TableShape | None:
    """Return the shape of the table in a file, by its first lines."""
    lines = [line.text for line in islice(read_lines(file, encoding), LOOK) if line.fault is None]
    return shape_of(lines, usual, delimiters=delimiters_of(file))


def delimiters_of(file: Path) -> tuple[str, ...]:
    """Return the delimiters that a file may have, by the ending of its name."""
    return ("\t",) if ".tsv" in file.name.lower() else (",", ";", "\t", "|")


@dataclass(slots=True)
class Record:
    """A row of a table as its cells, from the line where it begins; or why it is none, and its text."""

    line: int
    cells: list[str] | None
    utf8: bool = True
    size: int = 0
    reason: str | None = None
    raw: str | None = None


@dataclass(slots=True)
class _Rows:
    """Rows of a table as their cells [rows][columns], of a line each. line: of the first. size: in characters."""

    line: int
    cells: list[list[str]]
    size: int


def _row(file: str, names: list[str], record: Record, join_last: bool) -> SourceRow:
    if record.cells is None:
        return SourceRow(file, record.line, reason=record.reason, raw=record.raw)
    cells = _fitted(record.cells, len(names), join_last)
    notes = () if record.utf8 else (NOT_UTF8,)
    if len(cells) != len(names):
        reason = f"{counted(len(cells), 'cell')} where the header has {len(names)}"
        return SourceRow(file, record.line, reason=reason, notes=notes, raw=" | ".join(cells))
    return SourceRow(file, record.line, dict(zip(names, cells, strict=True)), notes=notes)


def _fitted(cells: list[str], width: int, join_last: bool) -> list[str]:
    """Cut empty surplus cells; put other surplus cells back into the last one where that is wanted."""
    while len(cells) > width and not cells[-1].strip():
        cells = cells[:-1]
    if join_last and len(cells) > width:
        return [*cells[: width - 1], ",".join(cells[width - 1 :])]
    return cells


def _names(cells: list[str]) -> list[str]:
    """Name every column: unnamed ones by their place, a repeated name with a number behind it."""
    names: list[str] = []
    for place, cell in enumerate(cells, 1):
        name = cell.strip() or f"column {place}"
        again, copy = name, 2
        while again in names:
            again, copy = f"{name} {copy}", copy + 1
        names.append(again)
    return names


def records(
    file: Path, encoding: str | None, join_last: bool = False, shape: TableShape | None = None
) -> Iterator[Record]:
    """Cut a table in a file into records, from its header on.

    A quote that is never closed, or closed by another slip far below, costs one line, not the rest of the file.
    """
    for one in _read(file, encoding, join_last, shape):
        if isinstance(one, Record):
            yield one
        else:
            yield from map(Record, count(one.line), one.cells)


def _read(file: Path, encoding: str | None, join_last: bool, shape: TableShape | None) -> Iterator[Record | _Rows]:
    """Cut a table into its header, rows with as many cells in UTF-8, and all else that is no empty line."""
    source = _Lines(read_batches(file, encoding))
    look = list(islice(iter(source.next, None), LOOK))
    shape = shape or shape_of([line.text for line in look], USUAL_NAMES, delimiters=delimiters_of(file))
    source.give_back(look[shape.header if shape else 0 :])
    width = 0
    csv.field_size_limit(MAX_LINE)
    while True:
        if shape is not None and width > 1 and (rows := source.rows(shape.delimiter, width)) is not None:
            yield rows
        elif (line := source.next()) is None:
            return
        elif line.fault is not None:
            yield Record(line.number, None, reason=line.fault)
        elif shape is not None and line.text.strip(_BLANK):
            record = _record(source, line, shape.delimiter, width, join_last)
            cells = record.cells or []
            fits = record.utf8 and len(cells) == width > 0
            yield _Rows(record.line, [cells], record.size) if fits else record
            width = width or len(cells)


def _record(source: _Lines, first: Line, delimiter: str, width: int, join_last: bool) -> Record:
    """Return the record that begins with a line."""
    text = first.text.rstrip("\r\n")
    if '"' not in text and "\r" not in text and "\n" not in text and len(text) <= MAX_LINE:
        return Record(first.number, text.split(delimiter), first.utf8, len(text))
    taken = [first]
    try:
        cells = next(csv.reader(_feed(source, taken), delimiter=delimiter))
    except _NeverClosed:
        source.give_back(taken[1:])
        return Record(first.number, None, reason="a quote that is never closed", raw=first.text)
    except csv.Error as error:
        source.give_back(taken[1:])
        return Record(first.number, None, reason=f"not a row of CSV: {error}", raw=first.text)
    if len(taken) > 1 and width:
        fits = len(_fitted(cells, width, join_last)) == width
        if not fits or _swallows_rows([line.text for line in taken], delimiter, width):
            source.give_back(taken[1:])
            return Record(first.number, None, reason="a quote that is not closed in its row", raw=first.text)
    utf8, size = all(line.utf8 for line in taken), sum(len(line.text) for line in taken)
    return Record(first.number, cells, utf8, size)


def _swallows_rows(lines: list[str], delimiter: str, width: int) -> bool:
    """Say whether the lines of a record are rows of their own, between two quotes that were slips.

    Either the second quote stands where none can end a cell, or all lines between have as many cells as the header.
    """
    between = lines[1:-1]
    if width > 2 and len(between) > 1 and all(line.count(delimiter) == width - 1 for line in between):
        return True
    try:
        next(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        return True
    return False


class _NeverClosed(Exception):  # noqa: N818 - steers the parser, is never seen outside
    pass


def _feed(source: _Lines, taken: list[Line]) -> Iterator[str]:
    """Return the first line, then more for as long as the CSV parser, inside a quote, asks for them."""
    yield taken[0].text
    while len(taken) < MAX_LINES:
        line = source.next()
        if line is None:
            break
        taken.append(line)
        if line.fault is not None:
            break
        yield line.text
    raise _NeverClosed


class _Lines:
    """Lines of batches, that can be given back."""

    def __init__(self, batches: Iterator[LineBatch]) -> None:
        self._batches, self._lines, self._back = batches, iter(list[Line]()), list[Line]()

    def next(self) -> Line | None:
        """Return the next line, or None at the end."""
        if self._back:
            return self._back.pop()
        while (line := next(self._lines, None)) is None:
            if (batch := next(self._batches, None)) is None:
                return None
            self._lines = batch.lines()
        return line

    def give_back(self, lines: list[Line]) -> None:
        """Put lines back, to be given again in their order."""
        self._back.extend(reversed(lines))

    def rows(self, delimiter: str, width: int) -> _Rows | None:
        """Return the rows of the next batch where each of its lines is one, of so many cells.

        None where lines are to be taken one by one, or there are no more.
        """
        if not self._back:
            self._back.extend(islice(self._lines, 1))
        if self._back or (batch := next(self._batches, None)) is None:
            return None
        cells = _cells(batch, delimiter, width)
        if cells is None:
            self._lines = batch.lines()
            return None
        return _Rows(batch.number, cells, len(batch.data))


def _cells(batch: LineBatch, delimiter: str, width: int) -> list[list[str]] | None:
    """Return the cells of each line, where each is a row of so many cells; else None."""
    texts = batch.texts()
    if texts is None or not all(map(str.strip, texts, repeat(_BLANK))):
        return None
    try:
        cells = list(csv.reader(texts, delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return cells if len(cells) == len(texts) and {*map(len, cells)} == {width} else None


TABLES = FileReader(
    "csv",
    "CSV or TSV with a header line (.csv, .tsv, also .gz), or a folder of such files",
    (".csv", ".tsv"),
    table_blocks,
)


def _has_usual_names(file: Path) -> bool:
    shape = shape_in(file)
    return shape is not None and shape.known >= 2


TEXT_TABLES = FileReader(
    "txt", "a table with usual column names in a .txt file", (".txt",), table_blocks, fits=_has_usual_names
)
