"""JSON lines, also `.gz`; a line that is a Python dictionary (as in Amazon's older files) is read too."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.readers.base import SourceRow, files_of, folder_of, parts
from tgqformer.catalog.readers.lines import NOT_UTF8, Line, read_lines

SUFFIXES = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")
_LITERAL_LIMIT = 1 << 20


class JsonLinesReader:
    """Reads JSON lines: one object a line."""

    name = "jsonl"
    about = "JSON lines, one object a line (.jsonl, .ndjson, .json, also .gz), or a folder of such files"
    mapping: ColumnMapping | None = None

    def sniff(self, path: Path) -> bool:
        """Say whether there are JSON-lines files."""
        return bool(parts(path, SUFFIXES))

    def rows(self, path: Path) -> Iterator[SourceRow]:
        """Stream the objects of all files, in order of their names."""
        for file in files_of(path, SUFFIXES):
            yield from json_rows(file)

    def root(self, path: Path) -> Path:
        """Picture names are relative to the folder of the file."""
        return folder_of(path)


def json_rows(file: Path) -> Iterator[SourceRow]:
    """Stream the objects of one file; empty lines are skipped."""
    for line in read_lines(file):
        if line.fault is not None:
            yield SourceRow(file.name, line.number, reason=line.fault)
        elif line.text.strip():
            yield _row(file.name, line)


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
        if line.text.lstrip().startswith("[") and line.number == 1:
            reason = "a JSON array: write one object a line (`jq -c '.[]' file.json > file.jsonl`)"
        return SourceRow(file, line.number, reason=reason, notes=notes, raw=line.text)
    if not isinstance(fields, dict):
        reason = f"a JSON {type(fields).__name__}, not an object with fields"
        return SourceRow(file, line.number, reason=reason, notes=notes, raw=line.text)
    return SourceRow(file, line.number, {str(name): value for name, value in fields.items()}, notes=notes)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        if not text.startswith("{") or "'" not in text or len(text) > _LITERAL_LIMIT:
            raise
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            raise error from None
