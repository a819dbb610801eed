"""A shop's first day: look at its export and its clicks, and write a recipe that says what was found and guessed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tgqformer.catalog.importer import import_catalog, plan_import
from tgqformer.catalog.report import ImportReport
from tgqformer.config import slug
from tgqformer.errors import TgqError
from tgqformer.pairs.columns import LogSettings, choose_columns
from tgqformer.pairs.log_files import files_of, open_log_file
from tgqformer.pairs.logs import ReadReport, read_log

LOOK = 500  # rows of the export that are imported, to see what they hold


@dataclass(frozen=True)
class FirstLook:
    """What an export and a log hold, and what was guessed.

    report: of the first rows, imported for a look. columns: of the log. known: the share of its items that the first
    rows hold, where all rows were looked at; None else.
    """

    export: Path
    log: Path
    report: ImportReport
    pictures: bool
    columns: LogSettings
    clicks: int
    known: float | None

    @property
    def lines(self) -> list[str]:
        """What was found, in sentences."""
        report, columns = self.report, self.columns
        session = " + ".join(columns.session)
        said = [
            f"{self.export.name}: {report.reader}; {report.items:,} items from the first {report.rows:,} rows,"
            f" {report.rejected:,} rows rejected",
            f"pictures: {report.pictures:,} found of {report.named:,} that are named"
            + ("" if self.pictures else "; none is on this disk, so the recipe does without them"),
            "filled: " + ", ".join(f"{name} {report.filled[name]:,}" for name in _FIELDS if report.filled[name]),
            f"{self.log.name}: {self.clicks:,} rows; guessed: session = {session}, item = {columns.item},"
            f" time = {columns.time or 'none'}",
        ]
        if self.known is not None:
            said.append(f"{100 * self.known:.0f} % of the log's items are in the export")
        return said + [f"look at this: {warning}" for warning in report.warnings]


_FIELDS = ("title", "brand", "category", "price", "sale_price", "availability", "item_group", "created")


def look_at(export: Path, log: Path) -> FirstLook:
    """Look at an export and a log. Raise TgqError where one of them cannot be read, with what to do."""
    for path in (export, log):
        if not path.exists():
            raise TgqError(f"there is nothing at {path}; check the path")
    report, ids, pictures = _imported(export)
    first = files_of(log)[0]
    names = open_log_file(first, LogSettings(), lambda *_: None).names
    columns = choose_columns(first, names, LogSettings())
    items = set(read_log(log, columns, read := ReadReport())["item"].to_pylist())
    known = len(items & ids) / max(len(items), 1) if report.rows < LOOK else None
    if known == 0:
        raise TgqError(
            f"no item of {log} is in {export}: the log names {sorted(items)[:3]}, the export {sorted(ids)[:3]};"
            " name the column of the same ids by `mapping: {id: …}` in a recipe, or export another log"
        )
    return FirstLook(export, log, report, pictures, columns, read.rows, known)


def _imported(export: Path) -> tuple[ImportReport, set[str], bool]:
    """Import the first rows; without pictures where none is on this disk."""
    from tgqformer.catalog.catalog import Catalog

    with TemporaryDirectory(prefix="tgq-look-") as folder:
        to = Path(folder) / "catalog"
        named = bool(plan_import(export, to).mapping.pictures)
        try:
            report, pictures = import_catalog(export, to, limit=LOOK), True
        except TgqError:
            if not named:
                raise
            report, pictures = import_catalog(export, to, limit=LOOK, mapping={"pictures": []}), False
        if named and not report.pictures:
            pictures = False
        return report, set(Catalog.open(to).ids()), pictures


def recipe_of(found: FirstLook, folder: Path) -> str:
    """Write the recipe of a shop, with comments that say what was found; paths are relative to `folder`."""
    where = {name: json.dumps(_relative(path, folder)) for name, path in (("export", found.export), ("log", found.log))}
    log, mapped = found.columns, "" if found.pictures else "\n  mapping: {pictures: []}   # no picture is on this disk"
    time = "" if log.time is None else f"\n    time: {json.dumps(log.time)}"
    stocked = "true" if found.report.filled["availability"] else "false"
    grouped = "variants of one product" if found.report.filled["item_group"] else "no groups of variants were found"
    models = _MODELS if found.pictures else _TEXT
    notes = "\n".join(f"# {line}" for line in found.lines)
    return f"""# The recipe of a shop, written by `tgq init`. What was found:
{notes}
name: {json.dumps(slug(found.export.name.partition(".")[0]))}
catalog:
  source: {where["export"]}
  reader: {found.report.reader}   # found by itself; `tgq catalog readers` lists the others{mapped}
pairs:
  interactions: {where["log"]}
  log:   # guessed from the names of its columns
    session: {json.dumps(list(log.session))}
    item: {json.dumps(log.item)}{time}
  mining: {{window: 30m}}   # clicks of one session, at most half an hour apart, make a pair
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


_MODELS = """models:   # the first one is served; the report says whether training pays
  - {name: TGQ-Former, connector: tgq}
  - {name: frozen, connector: frozen}"""
_TEXT = """models:   # of texts alone; the first one is served
  - {name: text only, connector: none}
  - {name: frozen, connector: frozen}"""


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
