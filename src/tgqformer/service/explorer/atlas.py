"""The map of the catalogue: made once a version in the background, kept on disk, given as compact bytes."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tgqformer.errors import TgqError
from tgqformer.files import atomic_path
from tgqformer.parallel import batches
from tgqformer.service.errors import Refused
from tgqformer.service.explorer.layout import lay_out
from tgqformer.store.base import Row, Table

MOST = 50_000
"""A larger catalogue is shown by a sample of so many items, drawn by a fixed seed."""
COLORS = 9
"""So many categories have a colour of their own; the others share one."""
OTHER = "other"
STALE = 0.05
"""A map is made anew when the number of items has changed by this share since it was made."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Map:
    """Places of n items. ids: n. places: float32 [n, 2] in [0, 1]. group: n, index into `names`. of: items in all."""

    ids: list[str]
    places: NDArray[np.float32]
    group: NDArray[np.uint16]
    names: list[str]
    of: int

    def packed(self) -> bytes:
        """Give the points as little-endian uint16: n times x, n times y, n times group."""
        grid = np.round(self.places * 65535).astype("<u2")
        return grid[:, 0].tobytes() + grid[:, 1].tobytes() + self.group.astype("<u2").tobytes()


@dataclass
class _Work:
    """A map in the making. `failed` says why there is none."""

    done: float = 0.0
    made: Map | None = None
    failed: str | None = None
    thread: threading.Thread | None = field(default=None, repr=False)


class Atlas:
    """The maps of all versions that were asked for; `folder` keeps them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._works: dict[str, _Work] = {}
        self._lock = threading.Lock()

    def state(self, table: Table) -> dict[str, Any]:
        """Say how far a version's map is, and start to make it where there is none."""
        work = self._work(table)
        if work.made is not None:
            shown = work.made
            counts = np.bincount(shown.group, minlength=len(shown.names)).tolist()
            groups = [{"name": name, "count": count} for name, count in zip(shown.names, counts, strict=True)]
            return {"state": "ready", "count": len(shown.ids), "of": shown.of, "groups": groups}
        if work.failed is not None:
            return {"state": "failed", "error": work.failed}
        return {"state": "preparing", "done": round(work.done, 3)}

    def map(self, table: Table) -> Map:
        """Give a version's map; raises Refused while it is not ready."""
        made = self._work(table).made
        if made is None:
            raise Refused("the map is not ready yet; ask for its state, and again when that says ready")
        return made

    def wait(self, table: Table, timeout: float = 600) -> None:
        """Wait until a version's map is made (or failed)."""
        thread = self._work(table).thread
        if thread is not None:
            thread.join(timeout)

    def _work(self, table: Table) -> _Work:
        version = table.version.model_version
        with self._lock:
            work = self._works.get(version)
            if work is None:
                work = self._works[version] = _Work()
                work.thread = threading.Thread(target=self._make, args=(table, work), name="map", daemon=True)
                work.thread.start()
        return work

    def _make(self, table: Table, work: _Work) -> None:
        path = self._folder / f"map-{re.sub(r'[^0-9A-Za-z-]', '_', table.version.model_version)}.parquet"
        try:
            rows = table.count()
            known = read_map(path)
            if known is None or abs(known.of - rows) > STALE * max(rows, 1):
                known = make_map(table, work)
                _keep(known, path)
            work.made = known
        except (TgqError, OSError, ValueError, RuntimeError, pa.ArrowException) as error:
            log.warning("the map could not be made: %s", error)
            work.failed = "the map could not be made; the log of the service says why"


def make_map(table: Table, work: _Work | None = None, *, most: int = MOST) -> Map:
    """Read a version's vectors (or a sample of `most`) and place them; `work` is told how far it is."""
    work = work or _Work()
    ids = sorted(item_id for item_id, _ in table.contents())
    of = len(ids)
    if of > most:
        chosen = np.random.default_rng(0).choice(of, most, replace=False)
        ids = [ids[place] for place in np.sort(chosen)]
    vectors = np.empty((len(ids), table.version.dim), np.float32)
    paths: list[tuple[str, ...]] = []
    for start, names in enumerate(batches(ids, 1024)):
        rows: list[Row] = table.get(names)
        vectors[1024 * start : 1024 * start + len(rows)] = [row.vector for row in rows]
        paths += [tuple(row.category) for row in rows]
        work.done = 0.1 * len(paths) / len(ids)

    def told(share: float) -> None:
        work.done = 0.1 + 0.9 * share

    names, group = groups_of(paths)
    return Map(ids, lay_out(vectors, told=told), group, names, of)


def groups_of(paths: list[tuple[str, ...]]) -> tuple[list[str], NDArray[np.uint16]]:
    """Give the names of the fullest categories, `other` last, and each item's index among them.

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
        return Map(table["id"].to_pylist(), places, np.asarray(table["group"], np.uint16), names, of)
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def _keep(made: Map, path: Path) -> None:
    columns = {"id": pa.array(made.ids, pa.string()), "x": made.places[:, 0], "y": made.places[:, 1]}
    table = pa.table({**columns, "group": made.group})
    table = table.replace_schema_metadata({"names": "\n".join(made.names), "of": str(made.of)})
    try:
        with atomic_path(path) as unfinished:
            pq.write_table(table, unfinished)
    except OSError as error:  # a read-only folder: the map is made again at the next start
        log.warning("the map cannot be kept in %s: %s", path.parent, error)
