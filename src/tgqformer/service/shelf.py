"""What was put and deleted over HTTP, kept beside the store: metadata, pictures, and which versions have it.

A version of a store is made from a catalogue, which does not know what came in over HTTP meanwhile. The shelf does, so
that such items keep their picture and attributes, and come along when another version is served.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from tgqformer.catalog.item import Item, Picture
from tgqformer.errors import TgqError

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id TEXT PRIMARY KEY, time TEXT NOT NULL, item TEXT, picture BLOB, content TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS applied (
    id TEXT, version TEXT, PRIMARY KEY (id, version)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_time ON entries (time);
"""
SELECT = "SELECT id, item, picture, content FROM entries"
PENDING = "time >= ? AND NOT EXISTS (SELECT 1 FROM applied WHERE applied.id = entries.id AND version = ?)"


@dataclass(frozen=True)
class Entry:
    """One write over HTTP. `item` is None where the item was deleted; `content` is the digest that its row has."""

    id: str
    item: Item | None
    content: str = ""


class ShelfError(TgqError):
    """What comes in over HTTP cannot be kept, or not be read, now: the disk is full, for one."""


class Shelf:
    """The writes of a service in one SQLite file; a write is on disk when the call returns. Thread-safe.

    Raises: ShelfError, by every method, where the file cannot be written or read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, timeout=10)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise TgqError(f"{path} cannot be used ({error}); name another folder with --state") from error

    def record(self, entries: Iterable[Entry]) -> None:
        """Keep these writes, each in place of an earlier one of the same id; no version has them yet."""
        now = datetime.now(UTC).isoformat()
        rows = [(entry.id, now, *_packed(entry.item), entry.content) for entry in entries]
        self._replace([row[0] for row in rows], rows, [])

    @contextmanager
    def recorded(self, entries: Iterable[Entry]) -> Iterator[None]:
        """Keep these writes while the block brings them into the store; where it fails, have what was there before."""
        kept = list(entries)
        ids = [entry.id for entry in kept]
        rows = [row for item_id in ids for row in self._rows("SELECT * FROM entries WHERE id = ?", item_id)]
        known = [row for item_id in ids for row in self._rows("SELECT * FROM applied WHERE id = ?", item_id)]
        self.record(kept)
        try:
            yield
        except BaseException:
            self._replace(ids, rows, known)
            raise

    def applied(self, ids: Iterable[str], version: str) -> None:
        """Note that a version has the writes of these ids."""
        with self._changing() as connection:
            connection.executemany("INSERT OR IGNORE INTO applied VALUES (?, ?)", [(i, version) for i in ids])

    def get(self, item_id: str) -> Entry | None:
        """Return the last write of an id, with its picture."""
        rows = self._rows(f"{SELECT} WHERE id = ?", item_id)
        return _entry(rows[0]) if rows else None

    def pending(self, version: str, since: str, size: int = 32, *, only_deleted: bool = False) -> Iterator[list[Entry]]:
        """Yield the writes after `since` (ISO 8601, UTC) that a version lacks, in batches; apply each before the next.

        With `only_deleted` the items that were put are passed over.

        Raises: TgqError where a batch was not applied: it would come again for ever.
        """
        last: list[str] = []
        query = f"{SELECT} WHERE {PENDING} AND (item IS NULL OR NOT ?) ORDER BY time, id LIMIT ?"
        while batch := self._rows(query, since, version, only_deleted, size):
            entries = [_entry(row) for row in batch]
            if [entry.id for entry in entries] == last:
                raise TgqError(f"the writes in {self.path} cannot be brought into version {version}; see the log")
            last = [entry.id for entry in entries]
            yield entries

    def waiting(self, version: str, since: str) -> int:
        """Count the writes that `pending` would give."""
        return int(self._rows(f"SELECT count(*) FROM entries WHERE {PENDING}", since, version)[0][0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _replace(self, ids: Sequence[str], entries: Sequence[Any], applied: Sequence[Any]) -> None:
        """Put these rows in place of all that is kept of these ids."""
        with self._changing() as connection:
            for table in ("applied", "entries"):
                connection.executemany(f"DELETE FROM {table} WHERE id = ?", [(item_id,) for item_id in ids])
            connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", entries)
            connection.executemany("INSERT INTO applied VALUES (?, ?)", applied)

    def _rows(self, query: str, *values: object) -> list[Any]:
        try:
            with self._lock, closing(self._connection.execute(query, values)) as cursor:
                return cursor.fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Return the connection for one transaction."""
        try:
            with self._lock, self._connection:
                yield self._connection
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: sqlite3.Error) -> ShelfError:
        return ShelfError(f"{self.path} cannot be used ({error}); see that its disk has room and can be written")


def _packed(item: Item | None) -> tuple[str | None, bytes | None]:
    if item is None:
        return None, None
    picture = item.pictures[0].data if item.pictures else None
    about = {name: getattr(item, name) for name in ("title", "brand", "category", "attributes", "price")}
    return orjson.dumps(about).decode(), picture


def _entry(row: Any) -> Entry:
    item_id, about, picture, content = row
    if about is None:
        return Entry(item_id, None, content)
    fields = orjson.loads(about)
    pictures = (Picture(Picture.digest_of(picture), None, picture),) if picture is not None else ()
    fields["category"] = tuple(fields["category"])
    return Entry(item_id, Item(item_id, pictures=pictures, **fields), content)
