"""The import: rows of a source become checked items of a catalogue, in one stream, with a report of every problem."""

from __future__ import annotations

import gc
import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tgqformer.catalog.catalog import KIND
from tgqformer.catalog.checks import SeenIds
from tgqformer.catalog.columns import ByColumns, Plain
from tgqformer.catalog.mapping import ColumnMapping, plan_mapping
from tgqformer.catalog.nested import paths_in
from tgqformer.catalog.readers import Reader, SourceRow, choose_reader
from tgqformer.catalog.readers.base import FileReader, Rows, RowStream
from tgqformer.catalog.report import ImportReport
from tgqformer.catalog.rows import DraftItem, draft_item
from tgqformer.catalog.sink import ADDRESSES, Sink
from tgqformer.catalog.sources import addresses_in, with_pictures
from tgqformer.catalog.styles import SourceStyle, cells
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.config import Positive, parse, settings
from tgqformer.errors import TgqError, option
from tgqformer.objects import object_address, told
from tgqformer.parallel import ahead
from tgqformer.progress import progress
from tgqformer.stages import make_way

_THREADS, _AT_ONCE, _ROWS = 2, 16, 64
"""Threads that check pictures, how many pictures each is handed at once, and rows at most: handing an item over costs
half of what checking a thumbnail does."""
_PEEK = 1000
_YOUNG = 5000  # objects that are made before Python looks for garbage among them
_NO_TEXT = ("catalogue", "parquet", "fashion", "pictures", "item-folders")
Repeated = Callable[[Sequence[str | None]], list[int]]
"""Says, by the ids of rows in their order, at which places one is repeated; None: that row has none."""


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
    for draft in drafts(rows_of(plan), plan, SeenIds().repeated):
        if isinstance(draft, DraftItem) and draft.item is not None and draft.sources:
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
    rows, reason = [], "it has no rows" if source.is_file() and source.stat().st_size else "it is empty"
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
        for draft in checked(drafts(rows_of(plan), plan, SeenIds().repeated), plan):
            bar.advance(sink.take(draft))
            if sink.is_in_vain():
                break
        report.seconds = time.perf_counter() - started
        sink.finish(plan.root, plan.style.doubts)
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


def rows_of(plan: ImportPlan) -> Rows:
    """Stream the rows of the source, up to the limit, in blocks where they are read so."""
    read = plan.reader.blocks if isinstance(plan.reader, FileReader) else plan.reader.rows
    rows = read(plan.source, plan.settings.encoding)
    return rows if plan.settings.limit is None else RowStream(rows).take(plan.settings.limit)


def drafts(rows: Rows, plan: ImportPlan, repeated: Repeated) -> Iterator[DraftItem | Plain]:
    """Make drafts, and plain items where that can be; a row whose id stands in an earlier one is refused."""
    for one in ByColumns(plan.mapping, plan.style).stream(rows):
        if isinstance(one, SourceRow):
            draft = draft_item(one, plan.mapping, plan.style)
            yield _refused(draft) if repeated([None if draft.item is None else draft.item.id]) else draft
            continue
        for part in one.parted(repeated([item[0] for item in one.items])):
            yield part if isinstance(part, Plain) else _refused(draft_item(part, plan.mapping, plan.style))


def _refused(draft: DraftItem) -> DraftItem:
    assert draft.item is not None
    draft.reject = ("duplicate-id", f"the id {draft.item.id!r} stands in an earlier row")
    return draft


def checked(drafts: Iterable[DraftItem | Plain], plan: ImportPlan) -> Iterator[DraftItem | Plain]:
    """Check pictures in a few threads, a short way ahead; order is kept."""
    keep, tail = plan.settings.pack, plan.style.tail

    def check(one: DraftItem | Plain) -> DraftItem | Plain:
        return one if isinstance(one, Plain) or one.reject else with_pictures(one, plan.root, keep=keep, tail=tail)

    def work(some: Iterable[DraftItem | Plain]) -> list[DraftItem | Plain]:
        return list(map(check, some))

    with ThreadPoolExecutor(_THREADS, "pictures") as pool, _few_collections():
        for some in ahead(pool, work, _handfuls(drafts), _THREADS):
            yield from some


@contextmanager
def _few_collections() -> Iterator[None]:
    """Let Python look for garbage more rarely: rows are lists without cycles, and it took a fourth of an import.

    A threshold that is higher, and a collector that is off, stay as they are.
    """
    young, *older = gc.get_threshold()
    gc.set_threshold(max(young, _YOUNG) if young else 0, *older)
    try:
        yield
    finally:
        gc.set_threshold(young, *older)


def _handfuls(drafts: Iterable[DraftItem | Plain]) -> Iterator[list[DraftItem | Plain]]:
    """Cut a stream of drafts into lists, by how many rows they are and how many pictures they name."""
    some, sources, rows = list[DraftItem | Plain](), 0, 0
    for draft in drafts:
        some.append(draft)
        sources += 0 if isinstance(draft, Plain) else len(draft.sources)
        rows += len(draft) if isinstance(draft, Plain) else 1
        if sources >= _AT_ONCE or rows >= _ROWS:
            yield some
            some, sources, rows = [], 0, 0
    if some:
        yield some
