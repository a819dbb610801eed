"""The index in memory of what is served: made in the background, kept as the store is, with a copy on disk."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from hashlib import blake2b
from pathlib import Path

from tgqformer.errors import TgqError
from tgqformer.service.served import Served
from tgqformer.stages import note_of
from tgqformer.store.base import Store
from tgqformer.store.live import KIND, LiveTable, needed
from tgqformer.store.memory import available

log = logging.getLogger("tgqformer.service")
LOW = 10  # how much the thread that makes an index gives way to those that answer
PART = 0.5  # of the memory that is free, at most


class Indexing:
    """Makes indexes, one at a time; copies lie in `folder`. `held` lets no own write happen meanwhile."""

    def __init__(self, folder: Path, held: Callable[[], AbstractContextManager[None]], store: Store) -> None:
        self._folder, self._held, self._store = folder, held, store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="indexing", initializer=_give_way)
        self._begun, self._closing = set[str](), threading.Event()

    def look(self, served: Served) -> None:
        """Take in what others wrote; begin to make the index where there is none, or a worn one. Blocking."""
        if served.index is not None:
            served.index.refresh()
        if (served.index is None or served.index.worn) and served.key not in self._begun:
            self._begun.add(served.key)
            self._thread.submit(self._make, served)

    def close(self, served: Iterable[Served]) -> None:
        """Write copies of what was changed since the last, and end."""
        self._closing.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
        for one in served:
            if one.index is not None and not one.index.saved:
                self._save(one, one.index)

    def _make(self, served: Served) -> None:
        """Make one; whatever goes wrong, the store is searched instead."""
        try:
            found = self._made(served)
        except (TgqError, OSError, RuntimeError, ValueError, MemoryError) as error:
            log.warning("no index in memory (%s); the store is searched", error)
            return
        if found is not None:
            with self._held():
                found.refresh()
                served.index = found
            self._begun.discard(served.key)
            log.info("index in memory", extra={"about": {"rows": len(found), "recall": round(found.recall, 4)}})

    def _made(self, served: Served) -> LiveTable | None:
        pictured, rows = served.rules.same_picture_once, served.table.count()
        if not rows:
            return None
        if not available():
            raise TgqError("it needs faiss: pip install 'tgqformer[serve]'")
        if (free := _free()) is not None and needed(rows, served.version.dim) > PART * free:
            raise TgqError(
                f"{rows:,} items need {needed(rows, served.version.dim) >> 20:,} MB, {free >> 20:,} are free"
            )
        found = None if served.index else LiveTable.load(served.table, self._place(served), pictured=pictured)
        if found is None or found.worn:
            found = LiveTable.build(served.table, pictured=pictured, stop=self._closing.is_set)
            if found is not None and self._save(served, found):
                del found  # what was made has room to grow, up to twice of it; what is read back fits
                found = LiveTable.load(served.table, self._place(served), pictured=pictured)
                if found is None:
                    raise TgqError(f"its copy in {self._folder} cannot be read")
        return found

    def _save(self, served: Served, index: LiveTable) -> bool:
        """Write a copy; say whether there is one now."""
        saved = True
        try:
            index.save(self._place(served))
        except (TgqError, OSError, RuntimeError) as error:  # a full disk: it is made anew at the next start
            log.warning("the index in memory has no copy on disk (%s)", error)
            saved = False
        kept = {f"live-{version.name}" for version in self._store.versions()}
        for other in self._folder.glob("live-*"):  # of versions that were dropped
            if other.name.rpartition("-")[0] not in kept and (note_of(other) or {}).get("kind") == KIND:
                shutil.rmtree(other, ignore_errors=True)
        return saved

    def _place(self, served: Served) -> Path:
        """Name the folder of the copy: `live-v3-`, and a digest of what and when the version is."""
        digest = blake2b(f"{served.key} {served.model_version}".encode(), digest_size=6).hexdigest()
        return self._folder / f"live-{served.version.name}-{digest}"


def _give_way() -> None:
    if sys.platform == "linux":  # where a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW)


def _free() -> int | None:
    """Return the bytes of memory that are free; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
