"""What was put and deleted over HTTP, kept beside the store: metadata, pictures, and which versions have it.

A version of a store is made from a catalogue, which does not know what came in over HTTP meanwhile. The shelf does, so
that such items keep their picture and attributes, and come along when another version is served.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from tgqformer.catalog.item import OFFER, Item, Picture
from tgqformer.errors import TgqError
from tgqformer.files import make_folder, read_number, write_number

FORMAT = 2
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS writes (
    id TEXT, batch INTEGER, item TEXT, picture BLOB, content TEXT NOT NULL,
    version TEXT NOT NULL, store TEXT NOT NULL, begun INTEGER NOT NULL, PRIMARY KEY (id, batch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS brought (
    id TEXT, batch INTEGER, version TEXT, PRIMARY KEY (id, batch, version)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_batch ON writes (batch);
PRAGMA user_version = {FORMAT};
"""
SELECT = "SELECT id, item, picture, content FROM writes"
# The last committed write of an id, unless it was made for this version, or brought into it, or known when it was begun
PENDING = """
batch = (SELECT max(batch) FROM writes AS other WHERE other.id = writes.id AND other.batch <= :committed)
AND version != :version AND store = :store AND begun >= :number AND NOT EXISTS
(SELECT 1 FROM brought WHERE brought.id = writes.id AND brought.batch = writes.batch AND brought.version = :version)
"""
Counter = Callable[[], tuple[str, int]]


@dataclass(frozen=True)
class Entry:
    """One write over HTTP. `item` is None where the item was deleted; `content` is the digest that its row has."""

    id: str
    item: Item | None
    content: str = ""


class ShelfError(TgqError):
    """What comes in over HTTP cannot be kept, or not be read, now: the disk is full, for one."""


@dataclass(frozen=True)
class Target:
    """A version that writes are brought into: its name for ever, its store, and which of its versions it is."""

    version: str
    store: str
    number: int


class Shelf:
    """The writes of a service in one SQLite file; one service at a time has it. Thread-safe.

    Writes come in batches, which are counted. A batch is kept before the store has it, and counts only once it is
    committed: its number is written, in place, into a file of its own. That needs no room, so it works on a full disk.
    A batch that was not committed is never seen, and is removed with the next one.

    Which version lacks a write is decided by counting, not by a clock: a write knows how many versions had been begun
    when it was committed, and those are the ones that may lack it.

    Raises: ShelfError, by every method, where the file cannot be written or read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock, self._mark = path, threading.Lock(), path.with_suffix(".committed")
        self._only = FileLock(path.with_suffix(".lock"), blocking=False, thread_local=False)
        try:
            make_folder(path.parent)
            self._only.acquire()
            self._connection = sqlite3.connect(path, check_same_thread=False, timeout=10)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            [(tables,)] = self._rows("SELECT count(*) FROM sqlite_master")
            if tables and self._rows("PRAGMA user_version") != [(FORMAT,)]:
                raise TgqError(f"{path} was written by another version of tgqformer; name another folder with --state")
            self._connection.executescript(SCHEMA)
            self._committed = self._last()
        except Timeout as error:
            raise TgqError(f"another service uses {path.parent}; give each a folder of its own with --state") from error
        except (sqlite3.Error, ShelfError, OSError) as error:
            self._only.release()
            raise TgqError(f"{path} cannot be used ({error}); name another folder with --state") from error
        except TgqError:
            self._only.release()
            raise

    @contextmanager
    def recorded(self, entries: Iterable[Entry], version: str, counter: Counter) -> Iterator[None]:
        """Keep these writes while the block brings them into a version; they count only where it succeeds.

        `counter` says which store it is, and how many versions were begun in it; one begun meanwhile lacks them.
        """
        kept, batch, known = list(entries), self._committed + 1, counter()
        self._begin(batch, kept, version, known)
        yield
        if (now := counter()) != known:
            self._begin(batch, kept, version, now)
        self._commit(batch)

    def brought(self, ids: Iterable[str], version: str) -> None:
        """Note that a version has the last writes of these ids."""
        query = (
            "INSERT OR IGNORE INTO brought SELECT id, max(batch), ? FROM writes WHERE id = ? AND batch <= ? GROUP BY id"
        )
        with self._changing() as connection:
            connection.executemany(query, [(version, item_id, self._committed) for item_id in ids])

    def get(self, item_id: str) -> Entry | None:
        """Return the last write of an id, with its picture."""
        query = f"{SELECT} WHERE id = ? AND batch <= ? ORDER BY batch DESC LIMIT 1"
        rows = self._rows(query, (item_id, self._committed))
        return _entry(rows[0]) if rows else None

    def pending(self, target: Target, size: int = 32, *, only_deleted: bool = False) -> Iterator[list[Entry]]:
        """Yield the writes that a version lacks, in batches, oldest first; note each as `brought` before the next.

        With `only_deleted` the items that were put are passed over.

        Raises: TgqError where a batch was not brought: it would come again for ever.
        """
        last: list[str] = []
        query = f"{SELECT} WHERE {PENDING} AND (item IS NULL OR NOT :only) ORDER BY batch, id LIMIT :size"
        while batch := self._rows(query, self._values(target) | {"only": only_deleted, "size": size}):
            entries = [_entry(row) for row in batch]
            if [entry.id for entry in entries] == last:
                raise TgqError(f"the writes in {self.path} cannot be brought into {target.version}; see the log")
            last = [entry.id for entry in entries]
            yield entries

    def waiting(self, target: Target) -> int:
        """Count the writes that `pending` would give."""
        return int(self._rows(f"SELECT count(*) FROM writes WHERE {PENDING}", self._values(target))[0][0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
        self._only.release()

    def _begin(self, batch: int, entries: Sequence[Entry], version: str, known: tuple[str, int]) -> None:
        """Keep a batch that is not committed; remove those that never were, and what the last one replaced."""
        rows = [(one.id, batch, *_packed(one.item), one.content, version, *known) for one in entries]
        old = "id IN (SELECT id FROM writes WHERE batch = :last) AND batch < :last"
        with self._changing() as connection:
            connection.execute("DELETE FROM writes WHERE batch > ?", [self._committed])
            for table in ("writes", "brought"):
                connection.execute(f"DELETE FROM {table} WHERE {old}", {"last": self._committed})
            connection.executemany("INSERT INTO writes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _commit(self, batch: int) -> None:
        try:
            write_number(self._mark, batch)
        except OSError as error:
            raise self._failure(error) from error
        self._committed = batch

    def _last(self) -> int:
        """Return the number of the last committed batch."""
        found = read_number(self._mark)
        if found is None and self._rows("SELECT 1 FROM writes LIMIT 1"):
            raise TgqError(f"{self._mark} is missing or damaged, so it is not known which writes were acknowledged")
        if found is None:
            write_number(self._mark, 0)
        return found or 0

    def _values(self, target: Target) -> dict[str, object]:
        return {"committed": self._committed, **asdict(target)}

    def _rows(self, query: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[Any]:
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

    def _failure(self, error: Exception) -> ShelfError:
        return ShelfError(f"{self.path} cannot be used ({error}); see that its disk has room and can be written")


def _packed(item: Item | None) -> tuple[str | None, bytes | None]:
    if item is None:
        return None, None
    picture = item.pictures[0].data if item.pictures else None
    about = {name: getattr(item, name) for name in ("title", "brand", "category", "attributes", "price", *OFFER)}
    return orjson.dumps(about).decode(), picture


def _entry(row: Any) -> Entry:
    item_id, about, picture, content = row
    if about is None:
        return Entry(item_id, None, content)
    fields = orjson.loads(about)
    pictures = (Picture(Picture.digest_of(picture), None, picture),) if picture is not None else ()
    fields["category"] = tuple(fields["category"])
    return Entry(item_id, Item(item_id, pictures=pictures, **fields), content)
