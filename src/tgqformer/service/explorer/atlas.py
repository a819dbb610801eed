"""The map of the catalogue, made in the background, kept on disk, given as compact bytes.

There is one for each version of the store. It is made anew when the rows have changed since, and the one before is
shown meanwhile. A map has a `tag`: who has drawn one asks for its points by that, also when another one has come.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.errors import TgqError
from tgqformer.files import atomic_path
from tgqformer.parallel import batches
from tgqformer.service.errors import Refused
from tgqformer.service.explorer.layout import lay_out
from tgqformer.store.base import StoreRow, StoreTable
from tgqformer.types import Floats, Hashes, Shorts

MOST = 50_000
"""A larger catalogue is shown by a sample of so many items, drawn by a fixed seed."""
COLORS = 9
"""So many categories have a colour of their own; the others share one."""
OTHER = "other"
STALE = 0.05
"""A map is made anew when this share of the items was put, changed or deleted since it was made."""
KEPT = 4
"""Versions whose maps are held in memory."""
LOOK_EVERY = 60.0
"""Seconds between two looks whether rows have changed."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Map:
    """Places of n items. ids: n. places: float32 [n, 2] in [0, 1]. group: n, index into `names`. of: items in all.

    digests: n, of what the items were made from.
    """

    ids: list[str]
    places: Floats
    group: Shorts
    names: list[str]
    of: int
    digests: Hashes

    @cached_property
    def position(self) -> dict[str, int]:
        """The place of each item."""
        return {item_id: place for place, item_id in enumerate(self.ids)}

    @cached_property
    def tag(self) -> str:
        """Names this map among those of all versions and times."""
        return blake2b(self.packed() + "\n".join(self.ids).encode(), digest_size=8).hexdigest()

    def differs(self, contents: dict[str, str]) -> float:
        """Return which share of the items was put, changed or deleted since; `contents` is of the whole table."""
        now = [contents.get(item_id) for item_id in self.ids]
        same = sum(
            content is not None and _digest(content) == was for content, was in zip(now, self.digests, strict=True)
        )
        there = sum(content is not None for content in now)
        new = max(
            0.0, len(contents) - self.of * there / max(len(self.ids), 1)
        )  # of a sample: those that are left, scaled
        return float((len(self.ids) - same) / max(len(self.ids), 1) + new / max(self.of, 1))

    def packed(self) -> bytes:
        """Return the points as little-endian uint16: n times x, n times y, n times group."""
        grid = np.round(self.places * 65535).astype("<u2")
        return grid[:, 0].tobytes() + grid[:, 1].tobytes() + self.group.astype("<u2").tobytes()


@dataclass
class _Work:
    """A map, or one in the making. `failed` says why there is none. `revision` of the rows was `looked` at."""

    done: float = 0.0
    made: Map | None = None
    before: Map | None = None
    failed: str | None = None
    revision: int = -1
    looked: float = 0.0
    thread: threading.Thread | None = field(default=None, repr=False)


class Atlas:
    """The maps of all versions that were asked for; `folder` keeps them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._works: dict[str, _Work] = {}
        self._lock = threading.Lock()

    def state(self, table: StoreTable) -> dict[str, Any]:
        """Return how far a version's map is, and start to make it where there is none."""
        work = self._work(table)
        if work.made is not None:
            shown = work.made
            counts = np.bincount(shown.group, minlength=len(shown.names)).tolist()
            groups = [{"name": name, "count": count} for name, count in zip(shown.names, counts, strict=True)]
            return {"state": "ready", "count": len(shown.ids), "of": shown.of, "groups": groups, "tag": shown.tag}
        if work.failed is not None:
            return {"state": "failed", "error": work.failed}
        return {"state": "preparing", "done": round(work.done, 3)}

    def map(self, table: StoreTable, tag: str = "") -> Map:
        """Return a version's map, or the one with this tag; raises Refused while it is not ready, or gone."""
        made = self._work(table).made
        with self._lock:
            for known in [one for work in self._works.values() for one in (work.made, work.before) if tag]:
                if known is not None and known.tag == tag:
                    return known
        if made is None:
            raise Refused("the map is not ready yet; ask for its state, and again when that says ready")
        if tag:
            raise Refused("the map was made anew; load the page again")
        return made

    def wait(self, table: StoreTable, timeout: float = 600) -> None:
        """Wait until a version's map is made (or failed)."""
        thread = self._work(table).thread
        if thread is not None:
            thread.join(timeout)

    def _work(self, table: StoreTable) -> _Work:
        """Return the work on a version's map, and have it looked after where rows may have changed."""
        with self._lock:
            work = self._works.setdefault(_name(table), _Work())
            while len(self._works) > KEPT:
                self._works.pop(next(name for name in self._works if self._works[name] is not work))
            idle = work.thread is None or (not work.thread.is_alive() and work.failed is None)
            if idle and (work.thread is None or monotonic() - work.looked > LOOK_EVERY):
                work.looked = monotonic()
                work.thread = threading.Thread(target=self._look, args=(table, work), name="map", daemon=True)
                work.thread.start()
        return work

    def _look(self, table: StoreTable, work: _Work) -> None:
        path = self._folder / f"map-{_name(table)}.parquet"
        try:
            revision = table.revision()
            if revision == work.revision:
                return
            known = work.made or read_map(path)
            if known is None or known.differs(dict(table.contents())) > STALE:
                known = make_map(table, work)
                _keep(known, path)
            with self._lock:
                if known is not work.made:
                    work.made, work.before = known, work.made
                work.revision = revision
        except (TgqError, OSError, ValueError, RuntimeError, pa.ArrowException) as error:
            log.warning("the map could not be made: %s", error)
            work.failed = None if work.made else "the map could not be made; the log of the service says why"


def make_map(table: StoreTable, work: _Work | None = None, *, most: int = MOST) -> Map:
    """Read a version's vectors (or a sample of `most`) and place them; `work` is told how far it is."""
    work = work or _Work()
    contents = dict(table.contents())
    ids, of = sorted(contents), len(contents)
    if of > most:
        chosen = np.random.default_rng(0).choice(of, most, replace=False)
        ids = [ids[place] for place in np.sort(chosen)]
    vectors = np.empty((len(ids), table.version.dim), np.float32)
    paths: list[tuple[str, ...]] = []
    for start, names in enumerate(batches(ids, 1024)):
        rows: list[StoreRow] = table.get(names)
        vectors[1024 * start : 1024 * start + len(rows)] = [row.vector for row in rows]
        paths += [tuple(row.category) for row in rows]
        work.done = 0.1 * len(paths) / len(ids)

    def told(share: float) -> None:
        work.done = 0.1 + 0.9 * share

    names, group = groups_of(paths)
    digests = np.array([_digest(contents[item_id]) for item_id in ids], np.uint64)
    return Map(ids, lay_out(vectors, told=told), group, names, of, digests)


def groups_of(paths: list[tuple[str, ...]]) -> tuple[list[str], Shorts]:
    """Return the names of the fullest categories, `other` last, and each item's index among them.

    Taken from the first level; from the second where the first has fewer than three categories.
    """
    roots = {path[0] for path in paths if path}
    level = 0 if len(roots) >= 3 else 1
    names = [path[min(level, len(path) - 1)] if path else OTHER for path in paths]
    counted = Counter(name for name in names if name != OTHER)
    kept = [name for name, _ in sorted(counted.items(), key=lambda one: (-one[1], one[0]))[:COLORS]]
    place = {name: at for at, name in enumerate(kept)}
    group = np.array([place.get(name, len(kept)) for name in names], np.uint16)
    return ([*kept, OTHER] if (group == len(kept)).any() else kept), group


def read_map(path: Path) -> Map | None:
    """Read a kept map; None where there is none, or one that cannot be read."""
    try:
        table = pq.read_table(path)
        names = (table.schema.metadata or {})[b"names"].decode().split("\n")
        of = int((table.schema.metadata or {})[b"of"])
        places = np.stack([np.asarray(table["x"]), np.asarray(table["y"])], axis=1).astype(np.float32)
        group, digests = np.asarray(table["group"], np.uint16), np.asarray(table["digest"], np.uint64)
        return Map(table["id"].to_pylist(), places, group, names, of, digests)
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def _keep(made: Map, path: Path) -> None:
    columns = {"id": pa.array(made.ids, pa.string()), "x": made.places[:, 0], "y": made.places[:, 1]}
    table = pa.table({**columns, "group": made.group, "digest": made.digests})
    table = table.replace_schema_metadata({"names": "\n".join(made.names), "of": str(made.of)})
    try:
        with atomic_path(path) as unfinished:
            pq.write_table(table, unfinished)
    except OSError as error:  # a read-only folder: the map is made again at the next start
        log.warning("the map cannot be kept in %s: %s", path.parent, error)


def _name(table: StoreTable) -> str:
    """Name a version for ever, in a way that is no path: a store may be made anew in the same place."""
    version = table.version
    known = f"{version.name}@{version.created}@{version.model_version}@{version.dim}@{version.dtype}"
    return blake2b(known.encode(), digest_size=8).hexdigest()


def _digest(content: str) -> int:
    return int.from_bytes(blake2b(content.encode(), digest_size=8).digest(), "little")
