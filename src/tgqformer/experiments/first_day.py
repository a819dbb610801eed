"""A shop's first day: look at its export and its clicks, and write a recipe that says what was found and guessed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tgqformer.catalog.addresses import FETCHED
from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.importer import addresses_of, import_catalog, plan_import
from tgqformer.catalog.readers.folder import SUFFIXES
from tgqformer.catalog.report import ImportReport
from tgqformer.catalog.shape import plain_name
from tgqformer.config import plain, slug
from tgqformer.errors import TgqError, counted, option
from tgqformer.pairs.columns import USUAL, LogSettings, choose_columns
from tgqformer.pairs.log_files import files_of, open_log_file
from tgqformer.pairs.logs import ReadReport, read_log
from tgqformer.stages import note_of

LOOK = 500  # rows of the export that are imported, to see what they hold


@dataclass(frozen=True)
class FirstLook:
    """What an export and a log hold, and what was guessed.

    report: of the first rows, imported for a look. named: the columns that name pictures. pictures: the folder of the
    pictures; None where none is on this disk. columns: of the log. read: what its reading found. known: the share of
    its items that the first rows hold, where all rows were looked at; None else. remote: whether pictures are named by
    addresses. guessed: whether nobody named a column of the log. unused: its columns that may hold what no usual name
    says, the times for example.
    """

    export: Path
    log: Path
    report: ImportReport
    named: tuple[str, ...]
    pictures: Path | None
    columns: LogSettings
    read: ReadReport
    known: float | None
    remote: bool = False
    guessed: bool = True
    unused: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """What was found, in sentences."""
        report, columns = self.report, self.columns
        word = "guessed" if self.guessed else "read by"
        session = " + ".join(columns.session)
        said = [
            f"{self.export.name}: {report.reader}; {counted(report.items, 'item')} from the first"
            f" {counted(report.rows, 'row')}, {counted(report.rejected, 'row')} rejected",
            f"pictures: {self._pictures()}",
            "filled: " + (", ".join(f"{n} {report.filled[n]:,}" for n in _FIELDS if report.filled[n]) or "ids alone"),
            f"{self.log.name}: {counted(self.read.rows, 'row')} read, {self.read.bad_rows:,} left out; {word}:"
            f" session = {session}, item = {columns.item}, time = {columns.time or 'none'}",
        ]
        if self.known is not None:
            said.append(f"{100 * self.known:.0f} % of the log's items are in the export")
        return said + [f"look at this: {warning}" for warning in (*report.warnings, *self._doubts())]

    def _doubts(self) -> Iterator[str]:
        """Say what of the log a person should look at."""
        yield from self.read.warnings
        reasons = self.read.first_reasons()
        if self.read.bad_rows and not any(reasons in warning for warning in self.read.warnings):
            yield f"{self.log.name}: {counted(self.read.bad_rows, 'row')} left out: {reasons}"
        if self.columns.time is None and self.unused:
            some = ", ".join(self.unused[:100]) + (", …" if len(self.unused) > 100 else "")
            yield f"{self.log.name}: no column looks like times; it has: {some}; name it with {option('time')}"

    def _pictures(self) -> str:
        """Say which pictures there are."""
        if not self.named:
            return "no column names any, so the recipe does without; `mapping: {pictures: COLUMN}` in it names one"
        if self.pictures is None and self.remote:
            return (
                f"they are named by addresses ({', '.join(self.named)}), none is on this disk, so the recipe does "
                f"without; fetch them first (`tgq pictures fetch {self.export.name} --to photos`) and call this again"
            )
        if self.pictures is None:
            return (
                f"they are named ({', '.join(self.named)}), but none is on this disk, beside {self.export.name} or in "
                "a folder there, so the recipe does without; `pictures: FOLDER` in it says where they are"
            )
        return f"{self.report.pictures:,} found of {self.report.named:,} that are named, in {self.pictures}"


_FIELDS = ("title", "brand", "category", "price", "sale_price", "availability", "item_group", "created")


def look_at(export: Path, log: Path, given: LogSettings = LogSettings()) -> FirstLook:  # noqa: B008
    """Look at an export and a log, which is read as `given`. Raise TgqError where one cannot be read: what to do."""
    for path in (export, log):
        if not path.exists():
            raise TgqError(f"there is nothing at {path}; check the path")
    report, ids, named, pictures = _imported(export)
    first = files_of(log)[0]
    names = open_log_file(first, given, lambda *_: None).names
    columns = choose_columns(first, names, given)
    items = set(read_log(log, columns, read := ReadReport(), shown=True)["item"].to_pylist())
    known = len(items & ids) / max(len(items), 1) if report.rows < LOOK else None
    if known == 0:
        raise TgqError(
            f"no item of {log} is in {export}: the log names {sorted(items)[:3]}, the export {sorted(ids)[:3]};"
            " name the column of the same ids by `mapping: {id: …}` in a recipe, or export another log"
        )
    remote = pictures is None and any(found for _, found in addresses_of(export, limit=LOOK))
    guessed = not (given.session or given.item or given.time)
    unused = _unused(names, columns)
    return FirstLook(export, log, report, named, pictures, columns, read, known, remote, guessed, unused)


def _unused(names: Sequence[str], columns: LogSettings) -> tuple[str, ...]:
    """Return the columns of a log that are not read, and whose names do not say that they are something else."""
    used = {*columns.session, str(columns.item).removesuffix("[]"), columns.time, columns.weight, *columns.where}
    rest = [name for name in names if name not in used]
    return tuple(name for name in rest if plain_name(name.rpartition(".")[2]) not in USUAL)


def _imported(export: Path) -> tuple[ImportReport, set[str], tuple[str, ...], Path | None]:
    """Import the first rows, with the pictures that are here or without; return the columns and folder of these too."""
    with TemporaryDirectory(prefix="tgq-look-") as folder:
        to = Path(folder) / "catalog"
        plan = plan_import(export, to)
        named = plan.mapping.pictures
        for root in (plan.root, *_folders_beside(export)) if named else ():
            try:
                report = import_catalog(export, to, limit=LOOK, root=root, overwrite=True)
            except TgqError:  # none of them is there
                continue
            if report.pictures:
                return report, set(Catalog.open(to).ids()), named, root
        report = import_catalog(export, to, limit=LOOK, overwrite=True, mapping={"pictures": []} if named else None)
        return report, set(Catalog.open(to).ids()), named, None


def _folders_beside(export: Path) -> list[Path]:
    """Return the folders beside a file that hold pictures, or those that `tgq pictures fetch` made."""
    if export.is_dir():
        return []
    folders = sorted(path for path in export.resolve().parent.iterdir() if path.is_dir())
    fetched = [path for path in folders if (note_of(path) or {}).get("kind") == FETCHED]
    return [*fetched, *(path for path in folders if any(one.suffix.lower() in SUFFIXES for one in path.iterdir()))]


def recipe_of(found: FirstLook, folder: Path) -> str:
    """Write the recipe of a shop, with comments that say what was found; paths are relative to `folder`."""
    where = {name: json.dumps(_relative(path, folder)) for name, path in (("export", found.export), ("log", found.log))}
    log, mapped = found.columns, "\n  mapping: {pictures: []}   # no picture is on this disk" if found.named else ""
    if found.pictures is not None:
        mapped = f"\n  pictures: {json.dumps(_relative(found.pictures, folder))}"
    read = "\n".join(f"    {name}: {json.dumps(value)}" for name, value in plain(log).items() if value not in _UNSAID)
    stocked = "true" if found.report.filled["availability"] else "false"
    grouped = "variants of one product" if found.report.filled["item_group"] else "no groups of variants were found"
    models = _TEXT if found.pictures is None else _MODELS
    notes = "\n".join(f"# {' '.join(line.split())}" for line in found.lines)
    return f"""# The recipe of a shop, written by `tgq init`. What was found:
{notes}
name: {json.dumps(slug(found.export.name.partition(".")[0]))}
catalog:
  source: {where["export"]}
  reader: {found.report.reader}   # found by itself; `tgq catalog readers` lists the others{mapped}
pairs:
  interactions: {where["log"]}
  log:   # what was not named is guessed from the names of its columns
{read}
  mining: {_TIMELESS if log.time is None else _TIMED}
noise:
  share: 0   # take the pictures as they are
evaluation:
  views: [mixed]
{models}
neighbours: 100   # kept of each item; rules choose from them when a list is shown
rules:
  one_per_group: true   # {grouped}
  in_stock: {stocked}   # leave out what is known to be out of stock
"""


_UNSAID: tuple[object, ...] = (None, [], {}, ())
_TIMED = "{window: 30m}   # clicks of one session, at most half an hour apart, make a pair"
_TIMELESS = "{window: 10}   # no times are read: clicks of one session, at most ten apart in the file, make a pair"
_MODELS = """models:   # the first one is served; the report says whether training pays
  - {name: TGQ-Former, connector: tgq}
  - {name: frozen, connector: frozen}"""
_TEXT = """models:   # of texts alone; the first one is served
  - {name: text only, connector: none}
  - {name: frozen, connector: frozen}"""


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
