"""An import as work for several: the ids are read once, then ranges of rows are imported by whoever comes.

All is done in a hidden folder beside the catalogue that is asked for. Each part is a catalogue of its own, with what
was found in its rows. At the end the files of all parts are linked into one folder, so no picture is copied.

A source is read from its start by each process, since most files cannot be read from the middle. Beside a picture that
costs little; rows of text alone gain less from several machines (docs/scale.md).
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tgqformer import config
from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.checks import SeenIds
from tgqformer.catalog.columns import Plain
from tgqformer.catalog.importer import (
    ImportPlan,
    ImportSettings,
    checked,
    drafts,
    plan_import,
    planned,
    report_of,
    rows_of,
    writer_of,
)
from tgqformer.catalog.item import Item
from tgqformer.catalog.readers.base import RowStream
from tgqformer.catalog.report import ImportReport
from tgqformer.catalog.rows import DraftItem, ids_of
from tgqformer.catalog.sink import Sink
from tgqformer.cluster import begun
from tgqformer.cluster.work import Maker, fill_nothing
from tgqformer.errors import TgqError
from tgqformer.objects import object_address, told
from tgqformer.progress import console, progress
from tgqformer.stages import is_free
from tgqformer.version import __version__

KIND, ROWS = "import begun", "rows.arrow"
SIZE = 1 << 16
"""Rows of a partition, by default."""
MADE_OF = "made_of"
"""In the catalogue: the digest of what its parts were begun of."""


class ImportWork(begun.Ranges):
    """The `Work` of importing a source. A partition is a range of its rows.

    path: the folder, begun by `begin`. plan: of the import, where it is known.

    Raises:
        TgqError: where it is damaged, or the source is not the one that it was begun of.
    """

    title = "importing items"

    def __init__(self, path: Path, plan: ImportPlan | None = None) -> None:
        table, told = begun.read(path / ROWS)
        if plan is None:
            how = config.parse(ImportSettings, told["settings"], "the import")
            plan = planned(Path(told["source"]), path, how)
        if _told(plan, told["size"]) != told:
            raise TgqError(f"{plan.source} here is not what {path} was begun of: all machines need the same")
        super().__init__(path, begun.of_row(table, "count")[0].as_py(), told["size"], "part-{:05d}")
        self.plan = plan
        self._repeated = begun.of_row(table, "repeated").to_numpy()
        self._rows = RowStream(rows_of(plan))

    @classmethod
    def begin(cls, plan: ImportPlan, size: int = SIZE, *, alone: bool = True, shown: bool = True) -> ImportWork:
        """Begin beside the catalogue, or take up what another job began; several may do so at once.

        alone: whether nobody else is at work; what was begun of another source or with other settings is removed then.

        Raises:
            TgqError: where that is there and this is not done `alone`.
        """
        file = beside_of(plan.to) / ROWS
        begun.begin(file, KIND, _told(plan, size), lambda: _numbered(plan, shown), of="source", alone=alone)
        return cls(file.parent, plan)

    def fill(self, partitions: Sequence[int]) -> Iterator[int]:
        """Import the rows of partitions; yield numbers of rows as they are done."""
        for partition in partitions:
            if self.part(partition).exists():
                yield self.rows(partition)
                continue
            if not (self.path / ROWS).exists():
                raise TgqError(f"{self.path} was removed meanwhile; call the same again")
            report, started, plan = report_of(self.plan), time.perf_counter(), self.plan
            with (
                writer_of(plan, self.part(partition), overwrite=True) as writer,  # another job may do the same one
                Sink(writer, report, plan.settings.strict) as sink,
            ):
                for draft in checked(self._drafts(*self.bounds(partition)), plan):
                    yield sink.take(draft)
                    if partition == 0 and sink.is_in_vain():
                        report.check(plan.root)
                report.seconds = time.perf_counter() - started
                sink.finish_part()

    def finish(self, *, overwrite: bool = False, shown: bool = True) -> ImportReport:
        """Join the partitions to the catalogue; return the report of all, its seconds those of all jobs.

        Raises:
            TgqError: where a partition is missing or damaged; where nothing can be used.
        """
        report, started, plan = report_of(self.plan), time.perf_counter(), self.plan
        with ExitStack() as stack:
            writer = stack.enter_context(writer_of(plan, plan.to, overwrite=overwrite))
            writer.about[MADE_OF] = _digest(plan, self._size)
            sink = stack.enter_context(Sink(writer, report, strict=False))
            bar = stack.enter_context(progress("joining items", None, shown=shown))
            for partition in range(len(self)):
                for _ in self._joined(partition, sink):
                    bar.advance()
            report.seconds += time.perf_counter() - started
            sink.finish(plan.root, plan.style.doubts)
        return report

    def _joined(self, partition: int, sink: Sink) -> Iterator[Item]:
        try:
            yield from sink.take_part(self.part(partition))
        except (TgqError, FileNotFoundError, ValueError, KeyError, pa.ArrowException) as error:
            part = self.part(partition)
            raise TgqError(f"{part} cannot be used: {error}; remove it and call the same again") from error

    def _drafts(self, first: int, last: int) -> Iterator[DraftItem | Plain]:
        """Make drafts of a range of rows, as `drafts` does."""
        if self._rows.at > first:
            self._rows = RowStream(rows_of(self.plan))
        for _ in self._rows.take(first - self._rows.at):
            pass
        known = set(self._repeated[slice(*np.searchsorted(self._repeated, [first, last]))].tolist())
        places = iter(range(first, last))

        def repeated(names: Sequence[str | None]) -> list[int]:
            return [at for at, place in enumerate(islice(places, len(names))) if place in known]

        yield from drafts(self._rows.take(last - first), self.plan, repeated)
        if self._rows.at != last:
            raise TgqError(f"{self.plan.source} has fewer rows than before; do not change it while it is imported")


def import_in_parts(
    source: str | Path,
    to: str | Path,
    make: Maker,
    *,
    size: int = SIZE,
    alone: bool = False,
    show_progress_bar: bool = False,
    on_plan: Callable[[ImportPlan], None] | None = None,
    **options: Any,
) -> ImportReport | list[int]:
    """Import a source as `import_catalog` does, by several jobs; the items and their fingerprint are the same.

    Args:
        source, to, on_plan, options: as of `import_catalog`. make: makes partitions, all or a part of them.
        size: rows of a partition. alone: whether nobody else is at work.

    Returns:
        The report, or the partitions that others have yet to make. None are missing where another job joins them, or
        has joined them.

    Raises:
        TgqError: as `import_catalog` does; where another source was begun, or nothing was and `make` makes nothing;
            where a catalogue of another source stands there.
    """
    plan = plan_import(source, to, resumable=not alone, **options)
    if object_address(to):
        raise TgqError(
            f"parts are joined on a disk that all machines see, not at {told(to)}: name a folder, copy it then"
        )
    if not alone and _is_joined(plan, size):
        console.print(f"{plan.to} is finished already, of this source: nothing to do")
        return []
    if make is fill_nothing and not beside_of(plan.to).exists():
        raise TgqError(f"nothing was begun for {to}: import it with --shard first")
    if on_plan is not None:
        on_plan(plan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about damaged files: the report tells them
        try:
            work = ImportWork.begin(plan, size, alone=alone, shown=show_progress_bar)
            if not alone and _is_joined(plan, size):  # it was begun anew after another job had made all
                work.clear()
                return []
            make(work)
            if missing := work.missing():
                return missing
            report = work.finish(overwrite=plan.settings.overwrite, shown=show_progress_bar)
        except (TgqError, FileNotFoundError):
            if not alone and _is_joined(plan, size):  # another job was done at the same time
                return []
            raise
        work.clear()
    return report


def beside_of(to: Path) -> Path:
    """Name the hidden folder beside the catalogue `to` in which the work is done."""
    return begun.beside_of(to, "importing")


def _is_joined(plan: ImportPlan, size: int) -> bool:
    """Say whether another job has joined these parts. Raise TgqError where another catalogue stands there."""
    if is_free(plan.to):
        return False
    if Catalog.open(plan.to).about.get(MADE_OF) != _digest(plan, size):
        raise TgqError(f"{plan.to} holds a catalogue that is not of these parts; shards replace none: name another")
    return True


def _digest(plan: ImportPlan, size: int) -> str:
    return blake2b(json.dumps(_told(plan, size), sort_keys=True).encode(), digest_size=16).hexdigest()


def _told(plan: ImportPlan, size: int) -> begun.Plan:
    """Return what all jobs must mean: the files by name, size and time, how they are read, and the size of a part.

    Files in folders of the source are not looked at.
    """
    source, how = plan.source.resolve(), plan.settings
    files = [source] if source.is_file() else sorted(one for one in source.iterdir() if one.is_file())
    seen = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in files if not one.name.startswith(".")]
    found = {
        "source": str(source),
        "files": blake2b(json.dumps(seen).encode(), digest_size=16).hexdigest(),
        "settings": {**config.plain(how), "root": how.root and str(how.root.resolve()), "overwrite": False},
        "columns": plan.mapping.lines(),
        "size": size,
        "version": __version__,
    }
    return dict(json.loads(json.dumps(found)))


def _numbered(plan: ImportPlan, shown: bool) -> pa.Table:
    """Count the rows, and list those whose id stands in an earlier row."""
    seen, repeated, count = SeenIds(), list[int](), 0
    with progress("reading ids", None, shown=shown) as bar:
        for one in rows_of(plan):
            names = ids_of(one, plan.mapping, plan.style)
            repeated += [count + place for place in seen.repeated(names)]
            count += len(names)
            bar.advance(len(names))
    return begun.as_row({"count": pa.array([count], pa.int64()), "repeated": pa.array(repeated, pa.int64())})
