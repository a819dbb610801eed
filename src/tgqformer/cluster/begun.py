"""Work that is begun beside what it will make: a hidden folder with a table that all jobs read, and their plan.

The plan is plain data that all who work together must mean. It stands in the table, and in what is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from tgqformer.errors import TgqError
from tgqformer.files import make_folder, read_arrow, workplace, write_arrow
from tgqformer.stages import check_ours, clear, mark

Plan = dict[str, Any]
_KEY = b"plan"


def beside_of(to: Path, work: str) -> Path:
    """Name the hidden folder beside `to` in which some work is done: `mining`, `importing`."""
    place = to.resolve()
    return place.with_name(f".{place.name}.{work}")


def begin(file: Path, kind: str, plan: Plan, make: Callable[[], pa.Table], *, of: str, alone: bool) -> None:
    """Write the table of a folder, unless another job did; several may do so at once.

    Args:
        file: the table, in the hidden folder. kind: of that folder, for our note.
        make: makes the table. of: what it is made of, for people.
        alone: whether nobody else is at work; what was begun by another plan is removed then.

    Raises:
        TgqError: where that is there and this is not done `alone`; where the folder is not ours.
    """
    folder, plan = file.parent, json.loads(json.dumps(plan))
    check_ours(folder, kind)
    if alone and file.exists() and _plan_in(file) != plan:
        clear(folder, kind)
    if not file.exists():
        table = saying(make(), plan)
        make_folder(folder)
        mark(folder, kind)
        if not file.exists():
            write_arrow(file, table)
    if _plan_in(file) != plan:
        raise TgqError(
            f"{folder} was begun of another {of}, or with other settings; all jobs need the same, --partition-size and"
            " --finish included. Remove that folder to begin anew"
        )


def read(file: Path) -> tuple[pa.Table, Plan]:
    """Map such a table, and return its plan.

    Raises:
        TgqError: where it is not there, or not as it was written.
    """
    try:
        table = read_arrow(file, sealed=True)
        return table, said(table)
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise TgqError(f"{file} is not there or damaged: {error}; remove {file.parent} and begin again") from error


def saying(table: pa.Table, plan: Plan) -> pa.Table:
    """Write a plan into a table."""
    return table.replace_schema_metadata({_KEY: json.dumps(plan, sort_keys=True)})


def said(table: Any) -> Plan:
    """Return the plan in a table, or in an open Arrow file; KeyError, TypeError or ValueError where there is none."""
    plan: Plan = json.loads(table.schema.metadata[_KEY])
    return plan


class Ranges:
    """What a `Work` says of its partitions, which are ranges of rows.

    path: the folder. count: of all rows. size: rows of a partition. name: of a partition, such as `part-{:05d}.arrow`.
    """

    def __init__(self, path: Path, count: int, size: int, name: str) -> None:
        self.path, self._count, self._size, self._name = path, count, size, name

    def __len__(self) -> int:
        return -(-self._count // self._size)

    def missing(self) -> list[int]:
        """List the partitions that are not yet written."""
        return [number for number in range(len(self)) if not self.part(number).exists()]

    def rows(self, partition: int) -> int:
        """Return how many rows a partition has."""
        first, last = self.bounds(partition)
        return last - first

    def part(self, partition: int) -> Path:
        """Return where a partition stands."""
        return self.path / self._name.format(partition)

    def clear(self) -> None:
        """Remove the folder at once; another job may do so at the same time."""
        with suppress(FileNotFoundError), workplace(self.path) as gone:
            self.path.rename(gone / "done")

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return the rows [first, last) of a partition."""
        first = partition * self._size
        return first, min(first + self._size, self._count)


def as_row(columns: dict[str, pa.Array]) -> pa.Table:
    """Return columns of any lengths as a table of one row, so that each lies in one piece."""
    lists = [pa.LargeListArray.from_arrays(pa.array([0, len(one)], pa.int64()), one) for one in columns.values()]
    return pa.table(lists, names=list(columns))


def of_row(table: pa.Table, name: str) -> pa.Array:
    """Return such a column."""
    return table[name].chunk(0).flatten()


def _plan_in(file: Path) -> Plan | None:
    try:
        return said(pa.ipc.open_file(pa.memory_map(str(file))))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None
