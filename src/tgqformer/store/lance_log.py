"""What Lance keeps of a table: which transactions changed rows, which rows, and which files it is made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tgqformer.packages import installed

UPKEEP = {"Rewrite", "CreateIndex", "BaseOperation"}  # the last: of reserving numbers for a rewrite
MOST = 100_000  # rows beyond which all are as quickly looked at
AT_ONCE = 1000  # rows that are asked for by their number


class _TooManyError(Exception):
    """More rows were changed than are worth naming."""


def changes_rows(log: Any, number: int) -> bool:
    """Say whether a transaction changed rows; one that is not known any more is taken for such."""
    try:
        made = log.read_transaction(number)
    except OSError:  # cleaned up
        return True
    return made is None or type(made.operation).__name__ not in UPKEEP


def touched_ids(log: Any, since: int, now: int) -> set[str] | None:
    """Return the ids of rows that were written or deleted after the state `since`, up to `now`.

    None where an older state is not known any more, or too many rows were changed.
    """
    found = set[str]()
    for number in range(since + 1, now + 1):
        if changes_rows(log, number):
            try:
                found |= _differing(log.checkout_version(number - 1), log.checkout_version(number))
            except (OSError, ValueError, RuntimeError, _TooManyError):  # states of long ago are cleaned up
                return None
        if len(found) > MOST:
            return None
    return found


def _differing(before: Any, after: Any) -> set[str]:
    """Return the ids of the rows that only one of two states has, by the files and the deletions of each."""
    old = {part.fragment_id: part for part in before.get_fragments()}
    new = {part.fragment_id: part for part in after.get_fragments()}
    found = set[str]()
    for state, parts, others in ((before, old, new), (after, new, old)):
        for part in (parts[number] for number in parts.keys() - others.keys()):
            if part.count_rows() > MOST:
                raise _TooManyError
            found |= _ids(state, fragments=[part])
    for number in old.keys() & new.keys():
        if old[number].deletion_file() != new[number].deletion_file():
            gone = np.setdiff1d(_rows(before, old[number]), _rows(after, new[number]), assume_unique=True)
            if len(gone) > MOST:
                raise _TooManyError
            for start in range(0, len(gone), AT_ONCE):
                asked = ", ".join(map(str, gone[start : start + AT_ONCE].tolist()))
                found |= _ids(before, filter=f"_rowid IN ({asked})", with_row_id=True)
    return found


def _ids(state: Any, **which: Any) -> set[str]:
    return set(state.scanner(columns=["id"], **which).to_table()["id"].to_pylist())


def _rows(state: Any, part: Any) -> Any:
    """Return the numbers of the rows of a part that are not deleted; reads no column."""
    return state.scanner(columns=[], fragments=[part], with_row_id=True).to_table()["_rowid"].to_numpy()


def require_files(where: str, open_log: Callable[[], Any]) -> None:
    """Raise OSError for the first file of rows that is not there. On a local disk, and with pylance; reads none."""
    if "://" in where or not installed("lance"):
        return
    log = open_log()
    for part in log.get_fragments():
        deleted = part.deletion_file()
        for file in [*(f"data/{one.path}" for one in part.metadata.files), *([deleted] if deleted else [])]:
            path = Path(log.uri) / file
            if not path.exists():
                raise OSError(f"no such file: {path}")
