"""The journal of what shoppers did with answers: views, clicks, carts, buys, in one SQLite file beside the shelf.

An event is on the disk when it is acknowledged. One that is sent twice with the same `id` counts once.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.errors import TgqError
from tgqformer.files import atomic_path
from tgqformer.service.answers import MARK, SEARCH, Shown
from tgqformer.service.shelf import ShelfError

FILE, FORMAT = "events.sqlite", 1
KINDS = ("view", "click", "cart", "buy")
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, id TEXT UNIQUE, at REAL NOT NULL, event TEXT NOT NULL, version TEXT NOT NULL,
    rules TEXT NOT NULL, query TEXT NOT NULL, visitor TEXT, item TEXT, position INTEGER, shown BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS rules (code TEXT PRIMARY KEY, says TEXT NOT NULL);
PRAGMA user_version = {FORMAT};
"""
ADD = "INSERT OR IGNORE INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
READ = "SELECT at, event, version, rules, query, visitor, item, position, shown FROM events ORDER BY number"


@dataclass(frozen=True)
class Event:
    """One event: `shown` is the answer; `item` and its `position` are None for a view of the whole list.

    visitor: a digest of who it was, if that was told. at: seconds since 1970, when it came.
    """

    at: float
    event: str
    version: str
    rules: str
    query: str
    visitor: str | None
    item: str | None
    position: int | None
    shown: tuple[int, ...]

    @property
    def unit(self) -> str:
        """Whose behaviour it is: the visitor's, or where that is not told, all that asked for one item."""
        return f"query {self.query}" if self.visitor is None else f"visitor {self.visitor}"


class Journal:
    """The events of a service; thread-safe. Made at the first event, by one service at a time (see `Shelf`).

    Raises: ShelfError, by every method, where the file cannot be written or read.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self._lock = folder / FILE, threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def add(self, events: Sequence[tuple[str | None, Event]], says: dict[str, str]) -> int:
        """Keep events (id, event), all or nothing, on the disk; return how many are new. `says`: sets of rules."""
        rows = [
            (name, one.at, one.event, one.version, one.rules, one.query, one.visitor, one.item, one.position,
             b"".join(mark.to_bytes(MARK, "big") for mark in one.shown))
            for name, one in events
        ]  # fmt: skip
        try:
            with self._lock:
                connection = self._opened()
                with connection:
                    connection.executemany("INSERT OR IGNORE INTO rules VALUES (?, ?)", says.items())
                    return connection.executemany(ADD, rows).rowcount
        except sqlite3.Error as error:
            raise ShelfError(f"{self.path} cannot be written ({error}); see that its disk has room") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self.path, check_same_thread=False, timeout=10)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(SCHEMA)
        return self._connection


def event_of(shown: Shown, kind: str, item: str | None, visitor: str | None) -> Event:
    """Make an event of now.

    Raises: TgqError for an item that the answer did not hold, or none where one is needed.
    """
    position = None if item is None else shown.position(item)
    if item is None and kind != "view":
        raise TgqError(f"a {kind} is of an item; send `item`")
    if item is not None and position is None:
        raise TgqError(f"the answer did not hold the item {item!r}; send an item of the list with its `answer`")
    who = None if visitor is None else blake2b(visitor.encode(), digest_size=8).hexdigest()
    at = time.time()
    return Event(at, kind, shown.version, shown.rules, shown.query, who, item, position, shown.marks)


def read_events(state: Path) -> Iterator[Event]:
    """Stream the events that a service kept in its state folder, oldest first; it may be running.

    Raises: TgqError where there are none.
    """
    for at, event, version, rules, query, visitor, item, position, shown in _read(state, READ):
        marks = tuple(int.from_bytes(shown[first : first + MARK], "big") for first in range(0, len(shown), MARK))
        yield Event(at, event, version, rules, query, visitor, item, position, marks)


def read_rules(state: Path) -> dict[str, str]:
    """Return what each set of rules says that has events, by its short name."""
    return dict(_read(state, "SELECT code, says FROM rules"))


def export_log(state: Path, to: Path) -> int:
    """Write the events of items as a click log for `tgq pairs mine`: session, item, time, event; return the rows.

    A session is a visitor's day; without a visitor there is none. The item that the list was of begins it; a search is
    of none.
    """
    columns: dict[str, list[object]] = {"session": [], "item": [], "time": [], "event": []}
    for one in read_events(state):
        if one.visitor is None or one.item is None or one.event == "view":
            continue
        session = f"{one.visitor}-{int(one.at // 86400)}"
        begun = () if one.query.startswith(SEARCH) else ((one.query, "view"),)
        for item, event in (*begun, (one.item, one.event)):
            row = (session, item, int(1000 * one.at), event)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
    if not columns["item"]:
        raise TgqError("no event has a visitor and an item, so there is no click log; send `visitor` with the events")
    with atomic_path(to) as unfinished:
        table = pa.table(columns)
        pq.write_table(table.set_column(2, "time", table["time"].cast(pa.timestamp("ms", "UTC"))), unfinished)
    return len(columns["item"])


def _read(state: Path, query: str) -> Iterator[Any]:
    file = state / FILE
    if not file.is_file():
        raise TgqError(f"{state} holds no events ({FILE}); a service keeps there what comes to POST /events")
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            yield from connection.execute(query)
    except sqlite3.Error as error:
        raise TgqError(f"{file} cannot be read ({error})") from error
