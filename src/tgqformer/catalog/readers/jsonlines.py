"""JSON, also `.gz`: objects in lines, in an array or in a document; Python dictionaries (in old Amazon files) too."""

from __future__ import annotations

import ast
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from tgqformer.catalog.mapping import USUAL_NAMES
from tgqformer.catalog.readers.base import FileReader, SourceRow, parts
from tgqformer.catalog.readers.lines import MAX_LINE, NOT_UTF8, Line, encoding_of, open_binary, read_lines
from tgqformer.catalog.shape import plain_name
from tgqformer.catalog.values import MAX_DEPTH, is_deep

SUFFIXES = (".jsonl", ".ndjson", ".json")
MAX_DOCUMENT = 1 << 28
"""A document that is one object is read whole; a longer one, of so many characters, is not."""
_MAY_WRAP = {"item", "product", "items", "products", "details"}
_OF_ROWS = frozenset(USUAL_NAMES - _MAY_WRAP | {"session", "sessionid", "user"})
"""Names of fields that make an object a row, not a wrapping."""
_LITERAL_LIMIT, _BLOCK = 1 << 20, 1 << 20
_BETWEEN = re.compile(r"[\s,]*")


def json_rows(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream the objects of one file: one a line, an array of them, or a document that holds one list of objects."""
    for row in _objects(file, encoding):
        if is_deep(row.fields):
            row.fields, row.reason = None, f"objects or lists more than {MAX_DEPTH} deep in each other"
        yield row


def _objects(file: Path, encoding: str | None) -> Iterator[SourceRow]:
    if _begins_with_array(file, encoding):
        yield from _array(file, encoding)
        return
    lines = read_lines(file, encoding)
    first = next((line for line in lines if line.fault is not None or line.text.strip("\ufeff \t\r\n")), None)
    if first is not None:
        several = first.fault is None and _is_open(first.text)
        yield from (_document if several else _lines)(file.name, chain([first], lines))


def _begins_with_array(file: Path, encoding: str | None) -> bool:
    try:
        with _text(file, encoding) as text:
            return text.read(1000).lstrip("\ufeff \t\r\n").startswith("[")
    except (OSError, EOFError, zlib.error):  # `read_lines` says what is wrong with the file
        return False


def _text(file: Path, encoding: str | None) -> IO[str]:
    return io.TextIOWrapper(open_binary(file), encoding_of(file, encoding) or "utf-8-sig", errors="replace")


def _lines(file: str, lines: Iterable[Line]) -> Iterator[SourceRow]:
    """Stream one object a line; empty lines are skipped. A file of one line may be a document."""
    lines = iter(lines)
    first, second = next(lines, None), next((line for line in lines if line.text.strip() or line.fault), None)
    if first is not None and second is None and first.fault is None:
        yield from _unwrapped(file, _row(file, first))
        return
    for line in chain([first] if first else [], [second] if second else [], lines):
        if line.fault is not None:
            yield SourceRow(file, line.number, reason=line.fault)
        elif line.text.strip():
            yield _row(file, line)


def _is_open(start: str) -> bool:
    """Say whether the first line of a file is the beginning of an object that goes on in the next."""
    return start.lstrip("\ufeff \t").startswith("{") and start.rstrip().endswith(("{", "[", ","))


def _document(file: str, lines: Iterable[Line]) -> Iterator[SourceRow]:
    """Read an object that stands on several lines; what is none is read line by line."""
    read, size = [], 0
    lines = iter(lines)
    for line in lines:
        read.append(line)
        size += len(line.text)
        if size > MAX_DOCUMENT:
            break
    try:
        whole = json.loads("".join(line.text for line in read))
    except (ValueError, RecursionError, MemoryError):
        yield from _lines(file, chain(read, lines))
        return
    if isinstance(whole, dict):
        yield from _unwrapped(file, SourceRow(file, 1, whole))
    else:
        yield SourceRow(file, 1, reason=_no_object(whole))


def _unwrapped(file: str, row: SourceRow) -> Iterator[SourceRow]:
    """Return the rows of the one list of objects in a document without an id of its own; else the row itself."""
    fields = row.fields or {}
    lists = [value for value in fields.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(lists) != 1 or any(plain_name(name) in _OF_ROWS for name in fields):
        yield row
        return
    for number, one in enumerate(lists[0], 1):
        good = isinstance(one, dict)
        yield SourceRow(file, number, one if good else None, reason=None if good else _no_object(one))


def _array(file: Path, encoding: str | None) -> Iterator[SourceRow]:
    """Stream the objects of a JSON array, wherever its lines end; the number of a row is its place, from 1."""
    decoder, number, place = json.JSONDecoder(), 0, 1
    try:
        with _text(file, encoding) as source:
            text = source.read(_BLOCK).lstrip("\ufeff \t\r\n")
            while True:
                place = _BETWEEN.match(text, place).end()  # type: ignore[union-attr]
                try:
                    if text.startswith("]", place):
                        break
                    value, place = decoder.raw_decode(text, place)
                except (ValueError, RecursionError) as error:
                    more = source.read(_BLOCK)
                    if not more or len(text) - place > MAX_LINE:
                        raise ValueError(f"not JSON from here on: {error}") from error
                    text, place = text[place:] + more, 0
                    continue
                number += 1
                good = isinstance(value, dict)
                yield SourceRow(file.name, number, value if good else None, reason=None if good else _no_object(value))
            if (text[place + 1 :] + source.read(_BLOCK)).strip():
                raise ValueError("there is text behind the end of the array")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        yield SourceRow(file.name, number + 1, reason=f"the file cannot be read from here on: {error}")


def _no_object(value: Any) -> str:
    return f"a JSON {type(value).__name__}, not an object with fields"


def first_object(path: Path) -> dict[str, Any]:
    """Return the first readable object among the first 20 rows of a source; empty where there is none."""
    for file in parts(path, SUFFIXES)[:1]:
        for _, row in zip(range(20), json_rows(file), strict=False):
            if row.fields is not None:
                return dict(row.fields)
    return {}


def _row(file: str, line: Line) -> SourceRow:
    notes = () if line.utf8 else (NOT_UTF8,)
    try:
        fields = _parse(line.text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        reason = f"neither JSON nor a Python dictionary: {error}"
        return SourceRow(file, line.number, reason=reason, notes=notes, raw=line.text)
    if not isinstance(fields, dict):
        return SourceRow(file, line.number, reason=_no_object(fields), notes=notes, raw=line.text)
    return SourceRow(file, line.number, fields, notes=notes)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        if not text.startswith("{") or "'" not in text or len(text) > _LITERAL_LIMIT:
            raise
        try:
            found = ast.literal_eval(text)
            return {str(name): value for name, value in found.items()} if isinstance(found, dict) else found
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            raise error from None


JSON_LINES = FileReader(
    "jsonl",
    "JSON: one object a line, an array of objects, or a document that holds one (.jsonl, .ndjson, .json, also .gz)",
    SUFFIXES,
    json_rows,
)
