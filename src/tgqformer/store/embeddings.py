"""Embeddings on disk: a folder of partitions and a manifest, written by jobs that may be killed at any moment.

    embeddings/
      manifest.json        dim, model version, number of items, partition size, fingerprint of the ids
      part-00000.arrow     id: string, vector: fixed-size list of d float32; one Arrow IPC file a partition
      part-00001.arrow     ...

Item `i` of the catalogue is row `i % partition_size` of partition `i // partition_size`. A partition is there whole or
not at all. The files are uncompressed, so reading one maps it into memory and copies nothing; pandas, polars and DuckDB
read them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tgqformer.errors import TgqError
from tgqformer.files import atomic_path, read_json, write_json

FORMAT = 1
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Manifest:
    """What every partition of one folder shares. `count` is N, `dim` is d."""

    dim: int
    model_version: str
    ids_fingerprint: str
    count: int
    partition_size: int
    format: int = FORMAT


@dataclass(frozen=True)
class Partition:
    """The items `start` to `start + len(ids)`: their ids and vectors [n, d], mapped from disk, read-only."""

    number: int
    start: int
    ids: list[str]
    vectors: Vectors


class Embeddings:
    """N vectors of width d of one model version, in the order of the catalogue; made by `create` or `open`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest

    @classmethod
    def create(
        cls, path: Path, *, dim: int, model_version: str, ids_fingerprint: str, count: int, partition_size: int = 4096
    ) -> Embeddings:
        """Start a folder for `count` vectors of width `dim`, or take up the one that a killed job left.

        Call it from one process; others `open` the folder and write partitions of their own.

        Raises: TgqError where `path` holds embeddings of another model version, width, catalogue or partition size.
        """
        if dim < 1 or count < 0 or partition_size < 1:
            raise TgqError(
                f"embeddings need dim >= 1, count >= 0 and partition_size >= 1: {dim}, {count}, {partition_size}"
            )
        manifest = Manifest(dim, model_version, ids_fingerprint, count, partition_size)
        if (path / "manifest.json").exists():
            found = cls.open(path)
            _refuse_mix(path, found.manifest, manifest)
            found._drop_unfinished()
            return found
        if path.exists() and (not path.is_dir() or any(not file.name.endswith(".tmp") for file in path.iterdir())):
            raise TgqError(f"{path} exists and holds no embeddings; choose another folder or remove it")
        write_json(path / "manifest.json", asdict(manifest))
        return cls(path, manifest)

    @classmethod
    def open(cls, path: Path) -> Embeddings:
        """Open a folder made by `create`; it need not be complete.

        Raises: TgqError where there is no readable manifest.
        """
        try:
            content = read_json(path / "manifest.json")
        except (OSError, ValueError) as error:
            raise TgqError(
                f"{path} is no folder of embeddings (no readable manifest.json); make one with `tgq embed`"
            ) from error
        return cls(path, _manifest_of(content, path))

    @property
    def dim(self) -> int:
        """Width d of the vectors."""
        return self.manifest.dim

    @property
    def model_version(self) -> str:
        """The one model version that all vectors come from."""
        return self.manifest.model_version

    @property
    def partitions(self) -> int:
        """How many partitions there are when complete."""
        return -(-self.manifest.count // self.manifest.partition_size)

    @property
    def complete(self) -> bool:
        """Whether every partition is written."""
        return not self.missing()

    def __len__(self) -> int:
        return self.manifest.count

    def bounds(self, partition: int) -> tuple[int, int]:
        """Give the positions [start, stop) of the items of a partition."""
        if not 0 <= partition < self.partitions:
            raise TgqError(f"{self.path} has partitions 0 to {self.partitions - 1}; there is no partition {partition}")
        start = partition * self.manifest.partition_size
        return start, min(start + self.manifest.partition_size, self.manifest.count)

    def missing(self) -> list[int]:
        """List the partitions that are not yet written, in order."""
        there = {file.name for file in self.path.glob("part-*.arrow")}
        return [number for number in range(self.partitions) if self._file(number).name not in there]

    def write(self, partition: int, ids: Sequence[str], vectors: Vectors) -> None:
        """Write one partition, whole or not at all; one that is there is replaced.

        Shapes: `ids` n, `vectors` [n, d] float32, n as `bounds(partition)` says.
        Raises: TgqError on a wrong shape or type, on a vector that is not finite, on an id that stands twice.
        """
        self._check(partition, ids, vectors)
        table = pa.table(
            {
                "id": pa.array(ids, pa.string()),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), self.dim),
            }
        )
        with (
            atomic_path(self._file(partition)) as unfinished,
            pa.OSFile(str(unfinished), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)

    def read(self, partition: int) -> Partition:
        """Read one partition; its vectors are mapped from disk, read-only.

        Raises: TgqError where it is not written yet or damaged.
        """
        start, stop = self.bounds(partition)
        table = self._table(partition)
        if table.num_rows != stop - start:
            raise self._damaged(partition)
        flat = table["vector"].combine_chunks().flatten()
        vectors: Vectors = flat.to_numpy(zero_copy_only=True).reshape(-1, self.dim)
        return Partition(partition, start, table["id"].to_pylist(), vectors)

    def __iter__(self) -> Iterator[Partition]:
        """Read all partitions in order, one at a time.

        Raises: TgqError where the folder is not complete.
        """
        self.require_complete()
        for number in range(self.partitions):
            yield self.read(number)

    def ids(self) -> list[str]:
        """Give the ids of all items, in order; raises TgqError unless complete and every id stands once."""
        ids = [item_id for partition in self for item_id in partition.ids]
        if len(set(ids)) != len(ids):
            raise TgqError(
                f"{self.path}: {_repeated(ids)!r} stands in two partitions; remove the folder and embed again"
            )
        return ids

    def vectors(self) -> Vectors:
        """Give all vectors as one array [N, d] in memory; raises TgqError unless complete."""
        self.require_complete()
        vectors = np.empty((len(self), self.dim), np.float32)
        for partition in self:
            vectors[partition.start : partition.start + len(partition.ids)] = partition.vectors
        return vectors

    def require_complete(self) -> None:
        """Raise TgqError unless every partition is written."""
        if missing := self.missing():
            raise TgqError(
                f"{self.path} lacks {len(missing)} of {self.partitions} partitions (first {missing[0]});"
                " run the same `tgq embed` again, it goes on where it stopped"
            )

    def _file(self, partition: int) -> Path:
        return self.path / f"part-{partition:05d}.arrow"

    def _table(self, partition: int) -> Any:
        file = self._file(partition)
        if not file.exists():
            raise TgqError(f"{file} is not written yet; run the same `tgq embed` again")
        try:
            return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        except pa.ArrowInvalid as error:
            raise self._damaged(partition) from error

    def _damaged(self, partition: int) -> TgqError:
        return TgqError(f"{self._file(partition)} is damaged; remove it and run the same `tgq embed` again")

    def _check(self, partition: int, ids: Sequence[str], vectors: Vectors) -> None:
        start, stop = self.bounds(partition)
        where, expected = f"partition {partition} of {self.path}", (stop - start, self.dim)
        if len(ids) != expected[0] or vectors.shape != expected or vectors.dtype != np.float32:
            raise TgqError(
                f"{where} takes {expected[0]} ids and float32 vectors {list(expected)};"
                f" got {len(ids)} ids and {vectors.dtype} {list(vectors.shape)}"
            )
        if not np.isfinite(vectors).all():
            bad = ids[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])]
            raise TgqError(f"{where}: the vector of item {bad!r} is not finite; check the model")
        if len(set(ids)) != len(ids):
            raise TgqError(f"{where}: id {_repeated(ids)!r} stands twice; ids must be unique")

    def _drop_unfinished(self) -> None:
        for file in self.path.glob(".part-*.tmp"):
            file.unlink(missing_ok=True)


def fingerprint_of(ids: Iterable[str]) -> str:
    """Give 32 hex digits that change when an id is added, removed or moved: BLAKE2b over the ids and their lengths."""
    digest = blake2b(digest_size=16)
    for item_id in ids:
        encoded = item_id.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def _manifest_of(content: Any, path: Path) -> Manifest:
    names = [field.name for field in fields(Manifest)]
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise TgqError(
            f"{path / 'manifest.json'} is no manifest of embeddings; make the folder anew by `tgq embed`"
        )
    if content["format"] != FORMAT:
        raise TgqError(
            f"{path} has format {content['format']}, this version reads {FORMAT}; make it anew with `tgq embed`"
        )
    return Manifest(**content)


def _refuse_mix(path: Path, found: Manifest, wanted: Manifest) -> None:
    for name, value in asdict(found).items():
        if value != getattr(wanted, name):
            raise TgqError(
                f"{path} holds embeddings with {name} {value!r}, not {getattr(wanted, name)!r};"
                " they must not be mixed: choose another folder or remove this one"
            )


def _repeated(ids: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(item_id for item_id in ids if item_id in seen or seen.add(item_id))  # type: ignore[func-returns-value]
