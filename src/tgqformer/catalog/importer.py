"""The import: rows of a source become checked items of a catalogue, in one stream, with a report of every problem."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.catalog.catalog import KIND, Catalog
from tgqformer.catalog.checks import KINDS, ImportProblem, SeenIds
from tgqformer.catalog.item import Item
from tgqformer.catalog.mapping import ColumnMapping, plan_mapping
from tgqformer.catalog.nested import paths_in
from tgqformer.catalog.readers import Reader, SourceRow, choose_reader
from tgqformer.catalog.report import ImportReport, PictureSamples, write_report
from tgqformer.catalog.rows import DraftItem, draft_item
from tgqformer.catalog.sources import addresses_in, with_pictures
from tgqformer.catalog.styles import SourceStyle, cells
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.config import Positive, parse, settings
from tgqformer.errors import TgqError, option
from tgqformer.files import is_checked, read_json, with_check, write_json
from tgqformer.objects import object_address, told
from tgqformer.parallel import ahead
from tgqformer.progress import progress
from tgqformer.stages import make_way

_THREADS, _AT_ONCE, _ROWS = 2, 16, 64
"""Threads that check pictures, how many pictures each is handed at once, and rows at most: handing an item over costs
half of what checking a thumbnail does."""
ADDRESSES, RELATED = "addresses.jsonl", "related.parquet"
"""Addresses are of pictures that are not on this disk, a line an item: `tgq pictures fetch` reads it."""
_LISTS = ("rejects.jsonl", "warnings.jsonl", ADDRESSES)
_PEEK = 1000
_NO_TEXT = ("catalogue", "parquet", "fashion", "pictures", "item-folders")
PART = "part.json"
"""Of a part of an import: what cannot be told from its items."""
_SOON = 1000
"""After so many pictures of which none is found the import is given up."""
_SCHEMA = pa.schema([("id", pa.string()), ("other", pa.string()), ("kind", pa.string())])


@settings
class ImportSettings:
    """How a source is imported.

    Args:
        reader: its name; found by itself.
        mapping: columns by field, `{"title": "name", "category": ["group", "kind"]}`; the rest is known by the reader
            or guessed. `{"pictures": []}` imports without pictures.
        pack: store picture bytes; otherwise pictures stay where they are, under `root` (default: beside the source).
            Pictures given as bytes are always stored.
        strict: stop at the first rejected row or dropped picture. limit: read only the first rows.
        name: of the catalogue; that of its folder. overwrite: replace a catalogue that is there.
        encoding: of text files, where it is neither UTF-8, UTF-16 nor cp1252. language: of texts given in several.
    """

    reader: str | None = None
    mapping: dict[str, str | list[str]] | None = None
    pack: bool = False
    strict: bool = False
    root: Path | None = None
    limit: Positive | None = None
    name: str | None = None
    overwrite: bool = False
    encoding: str | None = None
    language: str = "en"


@dataclass(frozen=True)
class ImportPlan:
    """What an import is about to do: which reader, which columns (and which not), where pictures are looked for.

    sold: columns that were asked for as attributes, and are fields of their own: what changes from day to day.
    """

    source: Path
    to: Path
    reader: Reader
    mapping: ColumnMapping
    root: Path
    settings: ImportSettings
    unused: tuple[str, ...]
    style: SourceStyle
    sold: tuple[str, ...] = ()


def plan_import(source: str | Path, to: str | Path, *, resumable: bool = False, **options: Any) -> ImportPlan:
    """Choose the reader and the columns of an import without doing it; options: see `ImportSettings`.

    resumable: whether a catalogue may stand there: the job looks at it.

    Raise TgqError where the source is absent or unknown, a column does not exist, or the target may not be written.
    """
    how = parse(ImportSettings, options, "the import")
    way = {"overwrite": how.overwrite, "resumable": resumable, "objects": True}
    make_way(Path(to), KIND, sources=[Path(source), how.root], **way)
    if object_address(to) and not how.pack:
        raise TgqError(f"a catalogue in an object store ({told(to)}) holds its pictures: give --pack")
    return planned(Path(source), Path(to), how)


def addresses_of(source: Path, **options: Any) -> Iterator[tuple[str, list[str]]]:
    """Stream (id, addresses of its pictures): those of an export, or those that a catalogue found no files for.

    options: see `ImportSettings`; a catalogue takes none. Raise TgqError where it cannot be read.
    """
    if (source / ADDRESSES).is_file():
        for line in (source / ADDRESSES).read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            yield found["id"], found["addresses"]
        return
    plan = planned(source, source, parse(ImportSettings, options, "the source"))
    for draft in _drafts(plan):
        if draft.item is not None and draft.sources:
            yield draft.item.id, addresses_in(draft.sources)


def planned(source: Path, to: Path, how: ImportSettings) -> ImportPlan:
    """Plan an import as `plan_import` does, wherever it goes."""
    chosen = choose_reader(source, how.reader)
    if how.root is not None and not how.root.is_dir():
        raise TgqError(f"there is no picture folder {how.root}; check {option('pictures')}")
    if how.encoding is not None and chosen.name in _NO_TEXT:
        raise TgqError(f"the reader {chosen.name} reads no text, so --encoding says nothing")
    rows = _first_rows(source, chosen, how.encoding)
    columns, filled = _columns(rows, chosen)
    try:
        planned = plan_mapping(columns, chosen.mapping, how.mapping, filled)
    except TgqError as error:
        if chosen.mapping is None:
            raise
        raise TgqError(
            f"{error}. These are what the reader {chosen.name} makes; "
            f"{option('reader')} csv, or jsonl, takes a file as it is"
        ) from error
    unused = () if chosen.mapping is not None else tuple(name for name in columns if name not in planned.columns())
    style = SourceStyle.of(rows, planned, how.language)
    asked = (how.mapping or {}).get("attributes", ())
    sold = tuple(name for name in ([asked] if isinstance(asked, str) else asked) if name not in planned.attributes)
    return ImportPlan(source, to, chosen, planned, how.root or chosen.root(source), how, unused, style, sold)


def _first_rows(source: Path, reader: Reader, encoding: str | None) -> list[dict[str, Any]]:
    """Return the fields of the first rows, without pictures that are bytes. Raise TgqError where there is no row."""
    rows, reason = [], "it is empty"
    for row in islice(reader.rows(source, encoding), _PEEK):
        if row.fields is not None:
            rows.append({name: _light(value) for name, value in row.fields.items()})
        elif not rows:
            reason = f"{row.file}, line {row.line}: {row.reason}"
    if not rows:
        raise TgqError(f"nothing can be read from {source}: {reason}")
    return rows


def _light(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)) or (isinstance(value, str) and len(value) > 10_000):
        return "…"
    if isinstance(value, dict):
        return {name: _light(inner) for name, inner in value.items()}
    return [_light(inner) for inner in value[:50]] if isinstance(value, list) else value


def _columns(rows: list[dict[str, Any]], reader: Reader) -> tuple[list[str], dict[str, float]]:
    """Return the columns of a source, and how many of the first rows fill each of them and each path into objects."""
    known = reader.mapping.columns() if reader.mapping is not None else []
    columns = list(dict.fromkeys([*known, *(name for row in rows for name in row)]))
    return columns, {name: len(cells(rows, name)) / len(rows) for name in (*columns, *paths_in(rows[:50]))}


def import_catalog(
    source: str | Path,
    to: str | Path,
    *,
    show_progress_bar: bool = False,
    on_plan: Callable[[ImportPlan], None] | None = None,
    **options: Any,
) -> ImportReport:
    """Import a source into a new catalogue folder `to`.

    options: see `ImportSettings`. on_plan: told before the import begins.

    The folder gets, beside the items: `rejects.jsonl` (rows that were refused), `warnings.jsonl` (what was found in
    items that were kept), `addresses.jsonl` (of pictures that are not on this disk), `report.html`, `report.json`, and
    `related.parquet` (id, other, kind) where the source has co-purchase lists.

    A bad row or picture never stops the import, unless `strict`: then TgqError at the first rejected row or dropped
    picture, and nothing is written. Nor is anything written where no item, or no picture of those that are named, can
    be used: then TgqError says what was looked for. What is plainly not meant is in `report.warnings`.
    """
    plan = plan_import(source, to, **options)
    if on_plan is not None:
        on_plan(plan)
    report, started = report_of(plan), time.perf_counter()
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")  # of Pillow, about damaged files: the report tells them
        writer = stack.enter_context(writer_of(plan, plan.to, overwrite=plan.settings.overwrite))
        sink = stack.enter_context(Sink(writer, report, plan.settings.strict))
        bar = stack.enter_context(progress("importing items", None, shown=show_progress_bar))
        for draft in checked(_drafts(plan), plan):
            sink.take(draft)
            bar.advance()
            if sink.is_in_vain():
                break
        report.seconds = time.perf_counter() - started
        sink.finish(plan)
    return report


def report_of(plan: ImportPlan) -> ImportReport:
    """Begin the report of an import."""
    name = plan.settings.name or plan.to.name
    return ImportReport(name, str(plan.source), plan.reader.name, tuple(plan.mapping.lines()))


def writer_of(plan: ImportPlan, to: Path, *, overwrite: bool) -> CatalogWriter:
    """Return what writes the catalogue of an import, or a part of it."""
    about = {"source": str(plan.source), "reader": plan.reader.name, "mapping": dict(plan.mapping.lines())}
    how = plan.settings
    return CatalogWriter(
        to,
        name=how.name or plan.to.name,
        pack=how.pack,
        root=plan.root,
        about=about,
        check_ids=False,
        overwrite=overwrite,
    )


def rows_of(plan: ImportPlan) -> Iterator[SourceRow]:
    """Stream the rows of the source, up to the limit."""
    return islice(plan.reader.rows(plan.source, plan.settings.encoding), plan.settings.limit)


def _drafts(plan: ImportPlan) -> Iterator[DraftItem]:
    """Make drafts; the first row of an id keeps it."""
    seen = SeenIds()
    for row in rows_of(plan):
        draft = draft_item(row, plan.mapping, plan.style)
        if draft.item is not None and not seen.add(draft.item.id):
            refuse_repeated(draft)
        yield draft


def refuse_repeated(draft: DraftItem) -> None:
    """Refuse the row of a draft because its id stands in an earlier row."""
    assert draft.item is not None
    draft.reject = ("duplicate-id", f"the id {draft.item.id!r} stands in an earlier row")


def checked(drafts: Iterable[DraftItem], plan: ImportPlan) -> Iterator[DraftItem]:
    """Check pictures in a few threads, a short way ahead; order is kept."""

    def work(some: Iterable[DraftItem]) -> list[DraftItem]:
        keep, tail = plan.settings.pack, plan.style.tail
        return [one if one.reject else with_pictures(one, plan.root, keep=keep, tail=tail) for one in some]

    with ThreadPoolExecutor(_THREADS, "pictures") as pool:
        for some in ahead(pool, work, _handfuls(drafts), _THREADS):
            yield from some


def _handfuls(drafts: Iterable[DraftItem]) -> Iterator[list[DraftItem]]:
    """Cut a stream of drafts into lists, by how many pictures they name."""
    some, sources = list[DraftItem](), 0
    for draft in drafts:
        some.append(draft)
        sources += len(draft.sources)
        if sources >= _AT_ONCE or len(some) >= _ROWS:
            yield some
            some, sources = [], 0
    if some:
        yield some


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

    def take(self, draft: DraftItem) -> None:
        """Write one draft. Raise TgqError, when strict, for a rejected row or a dropped picture."""
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

    def finish(self, plan: ImportPlan) -> None:
        """Close the files, and write the report. Raise TgqError where nothing can be used."""
        self._report.check(plan.root)
        self._report.warnings += plan.style.doubts
        self.close()
        write_report(self._report, self._writer.folder, self.samples.shown(plan.root))

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
