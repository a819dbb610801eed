"""Where the rows of an import end: in the catalogue or among the rejects; every finding is written down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.checks import KINDS, ImportProblem
from tgqformer.catalog.columns import Plain
from tgqformer.catalog.item import Item
from tgqformer.catalog.readers import SourceRow
from tgqformer.catalog.report import ImportReport, PictureSamples, write_report
from tgqformer.catalog.rows import DraftItem
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.errors import TgqError
from tgqformer.files import is_checked, read_json, with_check, write_json

ADDRESSES, RELATED = "addresses.jsonl", "related.parquet"
"""Addresses are of pictures that are not on this disk, a line an item: `tgq pictures fetch` reads it."""
PART = "part.json"
"""Of a part of an import: what cannot be told from its items."""
_LISTS = ("rejects.jsonl", "warnings.jsonl", ADDRESSES)
_SOON = 1000
"""After so many pictures of which none is found the import is given up."""
_SCHEMA = pa.schema([("id", pa.string()), ("other", pa.string()), ("kind", pa.string())])


class Sink:
    """Where checked drafts end: in the catalogue or among the rejects; every finding is written down."""

    def __init__(self, writer: CatalogWriter, report: ImportReport, strict: bool) -> None:
        self._writer, self._report, self._strict = writer, report, strict
        self.samples = PictureSamples()
        self._related: list[tuple[str, str, str]] = []
        self._related_file: pq.ParquetWriter | None = None
        self._files: list[IO[str]] = []

    def __enter__(self) -> Sink:
        self._files = [(self._writer.folder / name).open("w", encoding="utf-8") for name in _LISTS]
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, draft: DraftItem | Plain) -> int:
        """Write a draft, or plain items; return how many rows they are.

        Raise TgqError, when strict, for a rejected row or a dropped picture.
        """
        if isinstance(draft, DraftItem):
            self._take(draft)
            return 1
        self._report.rows += len(draft)
        self._writer.add_plain(draft.items)
        for item, currency, times in draft.kinds():
            self._report.count(item, currency=currency, times=times)
        return len(draft)

    def _take(self, draft: DraftItem) -> None:
        row, item, report = draft.row, draft.item, self._report
        report.rows += 1
        found = [*draft.found, *([draft.reject] if draft.reject is not None else [])]
        for kind, reason in found:
            self._tell(ImportProblem(row.file, row.line, item.id if item else None, kind, _printable(reason)), row)
        if draft.remote and item is not None:
            line = {"id": item.id, "addresses": draft.remote}
            print(json.dumps(line, ensure_ascii=False), file=self._files[2])
        if draft.reject is not None or item is None:
            report.rejected += 1
            return
        self._writer.add(item)
        report.count(item, draft.named, draft.currency)
        self.samples.see(item)
        if row.related:
            self._relate([(item.id, other, kind) for kind, others in row.related.items() for other in others])

    def is_in_vain(self) -> bool:
        """Say whether so many pictures were looked for, and none found, that the import is to be given up."""
        return self._report.named >= _SOON and self._report.in_vain

    def take_part(self, part: Path) -> Iterator[Item]:
        """Take all that another sink wrote into the folder of a catalogue, as `PART` says; yield its items."""
        catalog, report = Catalog.open(part), self._report
        for at, item in enumerate(self._writer.adopt(catalog)):
            report.count(item)
            self.samples.see(item, partial(_whole, catalog, at))
            yield item
        for name, file in zip(_LISTS, self._files, strict=True):
            with (part / name).open(encoding="utf-8") as lines:
                shutil.copyfileobj(lines, file)
        if (part / RELATED).exists():
            with pq.ParquetFile(part / RELATED) as related:
                for group in range(related.num_row_groups):
                    self._write_related(related.read_row_group(group))
        told = read_json(part / PART)
        if not is_checked(told):
            raise TgqError(f"{part / PART} is damaged")
        report.add(told)

    def finish_part(self) -> None:
        """Close the files of a part, and tell beside them what the items do not."""
        self.close()
        write_json(self._writer.folder / PART, with_check(self._report.told()))

    def finish(self, root: Path, doubts: Iterable[str]) -> None:
        """Close the files, and write the report. Raise TgqError where nothing can be used.

        root: where pictures were looked for. doubts: what was taken one way and may be meant another.
        """
        self._report.check(root)
        self._report.warnings += doubts
        self.close()
        write_report(self._report, self._writer.folder, self.samples.shown(root))

    def close(self) -> None:
        """Flush and close all files; a second call does nothing."""
        self._flush()
        if self._related_file is not None:
            self._related_file.close()
            self._related_file = None
        for file in self._files:
            file.close()

    def _tell(self, problem: ImportProblem, row: SourceRow) -> None:
        self._report.tell(problem)
        kind = KINDS[problem.kind]
        if self._strict and (kind.severity == "error" or kind.lossy):
            raise TgqError(
                f"{problem.file}, line {problem.line}: {problem.reason} ({kind.title.lower()}); nothing was written. "
                f"{kind.advice} Or import without --strict: such rows are then set apart"
            )
        line: dict[str, Any] = {**asdict(problem), "file": _printable(problem.file)}
        if kind.severity == "error":
            line["row"] = _shown(row)
        print(json.dumps(line, ensure_ascii=False), file=self._files[0 if kind.severity == "error" else 1])

    def _relate(self, rows: list[tuple[str, str, str]]) -> None:
        self._report.related += len(rows)
        self._related += rows
        if len(self._related) >= 50_000:
            self._flush()

    def _flush(self) -> None:
        if not self._related:
            return
        columns = [pa.array(map(_encodable, column), pa.string()) for column in zip(*self._related, strict=True)]
        self._write_related(pa.table(columns, schema=_SCHEMA))
        self._related = []

    def _write_related(self, table: pa.Table) -> None:
        if self._related_file is None:
            self._related_file = pq.ParquetWriter(self._writer.folder / RELATED, _SCHEMA, compression="zstd")
        self._related_file.write_table(table)


def _whole(catalog: Catalog, position: int) -> Item:
    return catalog.take_positions([position])[0]


def _shown(row: SourceRow, limit: int = 2000) -> str:
    """Show a rejected row for the person who mends it: its raw text, or its fields without bytes."""
    if row.fields is None:
        return _printable((row.raw or "").strip()[:limit])
    fields = {
        name: f"<{len(value)} bytes>" if isinstance(value, bytes) else value for name, value in row.fields.items()
    }
    return _printable(json.dumps(fields, ensure_ascii=False, default=lambda value: str(value)[:200])[:limit])


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
