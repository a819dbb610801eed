"""Writes over HTTP: those of one moment are one transaction, durable before it is answered."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from time import monotonic

from PIL.Image import Image

from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import decode, look_of
from tgqformer.errors import counted
from tgqformer.service.batching import Batcher
from tgqformer.service.served import Served
from tgqformer.service.settings import ServiceSettings
from tgqformer.service.shelf import Counter, Entry, Shelf, Target
from tgqformer.store.base import StoreRow, StoreTable
from tgqformer.store.content import row_of
from tgqformer.types import Floats

log = logging.getLogger("tgqformer.service")
TOGETHER = 64  # writes of one transaction at most
REST = 20  # how many times as long as it took the table is not compacted again


@dataclass(frozen=True)
class Write:
    """One write: an item with its vector [d] by `served`'s model, or None to delete `id`."""

    id: str
    served: Served
    item: Item | None = None
    vector: Floats | None = None


class Writer:
    """Applies writes to the version that is served, a batch at a time; no swap happens in the middle of a batch.

    Items that are put and items that are deleted never share a batch: each is one transaction of the store, so that
    what is answered with an error is not done by halves. `counter` says which versions were begun (`Store.begun`).

    A write made for a version that is no longer served is embedded again by the one that is.
    """

    def __init__(
        self, shelf: Shelf, current: Callable[[], Served], counter: Counter, settings: ServiceSettings
    ) -> None:
        self._shelf, self._current, self._counter = shelf, current, counter
        self._optimize_every, self._since_optimize, self._optimize_due = settings.optimize_every, 0, 0.0
        self._lock = threading.Lock()
        self._background = ThreadPoolExecutor(1, thread_name_prefix="optimizing")
        self._batchers: dict[bool, Batcher[Write, str]] = {
            deletes: Batcher(self._apply, size=TOGETHER, wait=0.0, queue=settings.batch_queue, name="writing")
            for deletes in (False, True)
        }

    @property
    def waiting(self) -> int:
        """How many writes wait."""
        return sum(batcher.waiting for batcher in self._batchers.values())

    async def write(self, write: Write) -> str:
        """Write, and return the model version that has it now; it is on disk when this returns."""
        return await self._batchers[write.item is None].submit(write)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no write happen while the block runs (in a thread: it may wait for the batch at work)."""
        with self._lock:
            yield

    async def close(self) -> None:
        """Finish the writes that wait."""
        for batcher in self._batchers.values():
            await batcher.close()
        self._background.shutdown(wait=True, cancel_futures=True)

    def _apply(self, writes: list[Write]) -> list[str]:
        with self._lock:
            served = self._current()
            last = {write.id: write for write in writes}  # of two writes of one item, the later stays
            rows = [_row(write, served) for write in last.values() if write.item is not None]
            digests = {row.id: row.content for row in rows}
            entries = [Entry(write.id, write.item, digests.get(write.id, "")) for write in last.values()]
            with self._shelf.recorded(entries, served.key, self._counter):
                apply(served, rows, [entry.id for entry in entries if entry.item is None])
        self._optimize(served)
        return [served.model_version] * len(writes)

    def _optimize(self, served: Served) -> None:
        self._since_optimize += 1
        if self._since_optimize >= self._optimize_every and monotonic() >= self._optimize_due:
            self._since_optimize, self._optimize_due = 0, inf
            self._background.submit(self._compact, served.table).add_done_callback(_log_failure)

    def _compact(self, table: StoreTable) -> None:
        began = monotonic()
        try:
            table.optimize()
        finally:
            ended = monotonic()
            self._optimize_due = ended + REST * (ended - began)


def carry_over(shelf: Shelf, served: Served, store: str) -> int:
    """Bring what was put and deleted since a version's making began into that version; return how many writes it was.

    `store` is the identity of its store. Without a model what was deleted is brought in; what was put waits for a
    service that has one.
    """
    count, target = 0, Target(served.key, store, served.version.number)
    blind = served.embedder is None
    for entries in shelf.pending(target, only_deleted=blind):
        kept = [entry.item for entry in entries if entry.item is not None]
        rows: list[StoreRow] = []
        if kept:
            vectors = served.embed_now(kept, map(_picture, kept))
            seen = map(_with_look, kept)
            rows = [row_of(item, vector, served.prompt) for item, vector in zip(seen, vectors, strict=True)]
        apply(served, rows, [entry.id for entry in entries if entry.item is None])
        shelf.brought([entry.id for entry in entries], served.key)
        count += len(entries)
    if blind and (left := shelf.waiting(target)) != served.behind:  # it is told once, not at each look
        served.behind = left
        log.warning("without a model, %s, put over HTTP, cannot be brought into this version", counted(left, "item"))
    return count


def apply(served: Served, rows: Sequence[StoreRow], deleted: Sequence[str]) -> None:
    """Write rows and deletions to a version's table, and let its precomputed answers and its index know."""
    table, neighbours = served.table, served.neighbours
    if rows:
        revision = table.upsert(rows, model_version=served.model_version)
        if served.index is not None:
            served.index.wrote(rows)
        if neighbours is not None:
            neighbours.wrote([(row.id, row.content) for row in rows], revision)
    if deleted:
        revision = table.delete(deleted)
        if served.index is not None:
            served.index.wrote((), deleted)
        if neighbours is not None:
            neighbours.wrote([(item_id, None) for item_id in deleted], revision)


def _row(write: Write, served: Served) -> StoreRow:
    item, vector = write.item, write.vector
    assert item is not None
    if vector is None or write.served is not served:
        [vector] = served.embed_now([item], [_picture(item)])
    return row_of(item, vector, served.prompt)


def _picture(item: Item) -> Image | None:
    """Decode an item's picture, whatever its size: that was looked at when it came in."""
    return decode(item.pictures[0].data or b"", sys.maxsize) if item.pictures else None


def _with_look(item: Item) -> Item:
    """Return an item of the shelf with the look of its picture, which the shelf does not keep."""
    return replace(item, pictures=tuple(replace(one, look=look_of(one.data or b"")) for one in item.pictures))


def _log_failure(done: Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log.warning("the index was not brought up to date (%s); it is tried again later", error)
