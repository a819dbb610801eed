"""The disk side of the token cache: partitions (memory-mapped safetensors files) and the index of their keys.

A partition is written whole or not at all, under a name that its keys give, so a killed job leaves only whole
partitions, and several processes may read and write at once. Where two write the same keys, the first wins. Two that
meet one key among others both keep it: room is wasted, nothing is wrong.
"""

from __future__ import annotations

import json
import math
import mmap
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any
from zlib import crc32

import numpy as np
from safetensors.numpy import save_file

from tgqformer.errors import TgqError
from tgqformer.files import atomic_path, clear_abandoned
from tgqformer.types import Array, Bools, Hashes, Ints

DTYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "U64": np.dtype("<u8"), "I64": np.dtype("<i8")}
MOST_OPEN = 4096  # mapped partitions; the kernel allows 65,530 mappings in a process
MOST_RESIDENT = 256 * 2**20  # bytes gathered before the pages are handed back to the kernel
MOST_BUFFERED = 64 * 2**20  # bytes of a partition under construction
STALE_SECONDS = 3600
LOOK_SECONDS = 10.0
"""How often a writer looks for what others wrote: a look lists the whole folder."""


def digests_of(keys: Sequence[str]) -> Hashes:
    """Digest n keys to [n, 2]: 16 bytes of BLAKE2b each, as two uint64."""
    joined = b"".join(blake2b(key.encode(), digest_size=16).digest() for key in keys)
    return np.frombuffer(joined, dtype="<u8").reshape(-1, 2)


@dataclass(frozen=True)
class _SortedKeys:
    """Keys sorted by (high, low) and the row of each."""

    high: Hashes
    low: Hashes
    rows: Ints

    @staticmethod
    def sorted(high: Hashes, low: Hashes, rows: Ints) -> _SortedKeys:
        order = np.lexsort((low, high))
        return _SortedKeys(high[order], low[order], rows[order])

    def merged(self, other: _SortedKeys) -> _SortedKeys:
        high, low = np.concatenate((self.high, other.high)), np.concatenate((self.low, other.low))
        return _SortedKeys.sorted(high, low, np.concatenate((self.rows, other.rows)))

    def find_into(self, found: Ints, digests: Hashes) -> None:
        """Write the row of every digest that this run holds to `found`."""
        at = np.searchsorted(self.high, digests[:, 0])
        left = np.arange(len(digests))
        while len(left):  # one round, unless two keys agree in their first 8 bytes
            left = left[at[left] < len(self.high)]
            left = left[self.high[at[left]] == digests[left, 0]]
            hit = self.low[at[left]] == digests[left, 1]
            found[left[hit]] = self.rows[at[left[hit]]]
            left = left[~hit]
            at[left] += 1


class KeyIndex:
    """Digest → row in 24 bytes a key: sorted runs, merged as they grow, so that adding stays cheap at any size."""

    def __init__(self) -> None:
        self._runs: list[_SortedKeys] = []

    def __len__(self) -> int:
        return sum(len(run.rows) for run in self._runs)

    def add(self, digests: Hashes, rows: Ints) -> None:
        """Add keys [n, 2] with their rows [n]."""
        run = _SortedKeys.sorted(digests[:, 0], digests[:, 1], rows)
        while self._runs and len(self._runs[-1].rows) < 2 * len(run.rows):
            run = self._runs.pop().merged(run)
        self._runs.append(run)

    def find(self, digests: Hashes) -> Ints:
        """Return the row of each digest [n, 2] → [n]; -1 where there is none."""
        found = np.full(len(digests), -1, dtype=np.int64)
        for run in self._runs:
            run.find_into(found, digests)
        return found


class Part:
    """One partition: the arrays of a safetensors file, memory-mapped and read-only.

    An array is held against its checksum when it is read first; those of an earlier version have none.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._arrays = path, dict[str, Array]()
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            start = 8 + int.from_bytes(self._map[:8], "little")
            described = json.loads(self._map[8:start])
            about = described.pop("__metadata__", {})
            sums = json.loads(about["sums"]) if "sums" in about else about  # as an earlier version wrote them
            for name, spec in described.items():
                self._arrays[name] = self._array(start, spec)
            self._unchecked = {name: int(sums[name], 16) for name in self._arrays} if sums else {}
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:  # no JSON, or not ours
            raise self._damaged(str(error)) from error

    def _array(self, start: int, spec: dict[str, Any]) -> Array:
        shape, dtype = tuple(spec["shape"]), DTYPES[spec["dtype"]]
        count = math.prod(shape)
        if count == 0:  # a partition of empty texts
            return np.empty(shape, dtype)
        array: Array = np.frombuffer(self._map, dtype, count, start + int(spec["data_offsets"][0]))
        return array.reshape(shape)

    def __getitem__(self, name: str) -> Array:
        if name in self._unchecked:
            if crc32(self._arrays[name].data) != self._unchecked[name]:
                raise self._damaged(f"the checksum of its {name} does not fit")
            self._unchecked.pop(name, None)
            self.release()
        return self._arrays[name]

    def _damaged(self, why: str) -> TgqError:
        return TgqError(f"{self._path} is damaged ({why}); delete it, and what it held is encoded again")

    def release(self) -> None:
        """Hand the pages read so far back to the kernel's cache; the next access maps them again."""
        if hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)


class PartFolder:
    """A folder of partitions, seen as one long table; rows are numbered in the order in which this object met them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.index = KeyIndex()
        self._names: list[str] = []
        self._known: set[str] = set()
        self._starts: list[int] = [0]
        self._open: OrderedDict[int, Part] = OrderedDict()
        self._touched, self._looked = 0, 0.0
        self._lock = threading.Lock()
        self.refresh()

    def __len__(self) -> int:
        return self._starts[-1]

    def refresh(self) -> None:
        """Take in the partitions that were written since, by this process or another; known rows keep their number."""
        self._looked = time.monotonic()
        new = {path.name for path in self.folder.glob("part-*.safetensors")} - self._known
        for name in sorted(new):
            self._take_in(name, np.array(Part(self.folder / name)["keys"]))

    def names(self) -> list[str]:
        """Name the partitions, after a look at what others wrote."""
        self.refresh()
        return list(self._names)

    def holds(self, digests: Hashes, among: Set[str] | None = None) -> Bools:
        """Say which keys [n, 2] are in a partition, or in one of those named in `among`: bool [n]."""
        rows = self.index.find(digests)
        if among is None:
            return rows >= 0
        named = np.array([*(name in among for name in self._names), False])  # the last one for what has no row
        return named[np.where(rows < 0, -1, np.searchsorted(np.asarray(self._starts), rows, side="right") - 1)]

    def _take_in(self, name: str, keys: Hashes) -> None:
        start = self._starts[-1]
        self.index.add(keys, np.arange(start, start + len(keys)))
        self._names.append(name)
        self._known.add(name)
        self._starts.append(start + len(keys))

    def sweep(self) -> None:
        """Delete what killed writers left unfinished; a file, as earlier versions wrote, once it is old enough."""
        for path in self.folder.glob(".part-*.tmp"):
            if path.is_dir():
                clear_abandoned(path)
            elif time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink(missing_ok=True)

    def write(self, keys: Hashes, arrays: dict[str, Array]) -> None:
        """Write one partition: keys [n, 2] and arrays with what belongs to them. One that is there stays."""
        # safetensors writes an array's bytes as they lie, whatever its strides: they must lie in C order.
        held = {key: np.ascontiguousarray(array) for key, array in {"keys": keys, **arrays}.items()}
        name = f"part-{blake2b(held['keys'].data, digest_size=16).hexdigest()}.safetensors"
        if not (self.folder / name).exists():
            sums = {key: f"{crc32(array.data):08x}" for key, array in held.items()}
            with atomic_path(self.folder / name) as unfinished:  # as one word: safetensors keeps no order of several
                save_file(held, unfinished, {"sums": json.dumps(sums)})
        if name not in self._known:
            self._take_in(name, held["keys"])
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self.refresh()

    def split(self, rows: Ints) -> Iterator[tuple[Ints, Part, Ints]]:
        """Return (positions in `rows`, partition, rows inside it), one a partition, ascending, without rows of -1."""
        order = np.argsort(rows, kind="stable")
        order = order[rows[order] >= 0]
        if not len(order):
            return
        if rows[order[-1]] >= len(self):
            raise IndexError(f"row {rows[order[-1]]} of a cache with {len(self)} rows")
        starts = np.asarray(self._starts)
        owners = np.searchsorted(starts, rows[order], side="right") - 1
        for positions in np.split(order, np.flatnonzero(np.diff(owners)) + 1):
            owner = int(np.searchsorted(starts, rows[positions[0]], side="right") - 1)
            yield positions, self._part(owner), rows[positions] - starts[owner]

    def touched(self, size: int) -> None:
        """Count `size` bytes as read; past a limit, hand the mapped pages back, so that residency stays bounded."""
        with self._lock:
            self._touched += size
            if self._touched > MOST_RESIDENT:
                self._touched = 0
                for part in self._open.values():
                    part.release()

    def _part(self, owner: int) -> Part:
        with self._lock:
            part = self._open.pop(owner, None) or Part(self.folder / self._names[owner])
            self._open[owner] = part
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            return part


class PartWriter:
    """Collects rows and writes a partition whenever enough are there, and what is left when the block ends."""

    def __init__(self, folder: PartFolder, rows: int) -> None:
        self._folder, self._rows = folder, rows
        self._pending: list[tuple[Hashes, dict[str, Array]]] = []
        self.in_flight: set[bytes] = set()
        self.count = 0

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()  # after an error too: what is encoded is kept

    def new(self, digests: Hashes) -> list[int]:
        """Return the positions of the digests that are neither stored nor met before, and count them as met."""
        fresh = []
        for i in np.flatnonzero(self._folder.index.find(digests) < 0):
            digest = digests[i].tobytes()
            if digest not in self.in_flight:
                self.in_flight.add(digest)
                fresh.append(int(i))
        return fresh

    def add(self, keys: Hashes, **arrays: Array) -> None:
        """Add the rows of keys [n, 2]."""
        self._pending.append((keys, arrays))
        self.count += len(keys)
        size = sum(array.nbytes for _, held in self._pending for array in held.values())
        if sum(len(held) for held, _ in self._pending) >= self._rows or size >= MOST_BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Write what is pending as one partition."""
        pending, self._pending = self._pending, []
        if pending:
            keys = np.concatenate([held for held, _ in pending])
            names = pending[0][1]
            self._folder.write(keys, {name: np.concatenate([held[name] for _, held in pending]) for name in names})
            self.in_flight.difference_update(digest.tobytes() for digest in keys)
