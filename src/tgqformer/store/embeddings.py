"""Embeddings on disk: N vectors of one model version in the order of the catalogue, in restartable partitions.

Each partition has the columns `id` (string) and `vector` (fixed-size list of d float32), and where that is known
`content` (string): a digest of what the model saw of the item (`content.seen_of`). See `partitions.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tgqformer.errors import TgqError
from tgqformer.files import atomic_path
from tgqformer.objects import Disk, Objects, told
from tgqformer.store.partitions import PartitionFolder, column_matrix, matrix_column
from tgqformer.store.rows import unit
from tgqformer.types import Vectors

if TYPE_CHECKING:
    from torch import Tensor

KIND, COMMAND = "embeddings", "embed"


@dataclass(frozen=True)
class EmbeddingsManifest:
    """What every partition of one folder shares: `count` is N, `dim` is d, `catalog` a catalogue's fingerprint.

    `precision` is that of the matrix products. `cuttable` says whether the first dimensions of a vector may stand for
    the whole; None where nobody said, as in manifests of earlier versions.
    """

    dim: int
    model_version: str
    ids_fingerprint: str
    count: int
    partition_size: int
    catalog: str = ""
    precision: str = "float32"
    cuttable: bool | None = None


@dataclass(frozen=True)
class Partition:
    """The items `start` to `start + len(ids)`: their ids and vectors [n, d], mapped from disk, read-only.

    `contents` says what each vector was made from; None where the writer did not tell.
    """

    number: int
    start: int
    ids: list[str]
    vectors: Vectors
    contents: list[str] | None = None


class Embeddings:
    """N vectors of width d of one model version, in the order of the catalogue; made by `create` or `open`."""

    def __init__(self, folder: PartitionFolder) -> None:
        self._folder, self.manifest = folder, EmbeddingsManifest(**folder.manifest)

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        dim: int,
        model_version: str,
        ids_fingerprint: str,
        count: int,
        partition_size: int = 4096,
        catalog: str = "",
        precision: str = "float32",
        cuttable: bool | None = None,
        overwrite: bool = False,
    ) -> Embeddings:
        """Start a folder for `count` vectors of width `dim`, or take up the one that a killed job left.

        Several processes may do so at once. `catalog` is the fingerprint of the catalogue, where there is one.
        `cuttable` lets `tgq index --dim` keep their first dimensions; False and None refuse it.
        `overwrite` replaces embeddings that were made otherwise, once `finish` is called; that is for one process.

        Raises: TgqError where `path` holds embeddings of another model version, width, catalogue, precision or
            partition size.
        """
        if dim < 1 or count < 0 or partition_size < 1:
            raise TgqError(f"embeddings need dim, partition_size >= 1 and count >= 0: {dim}, {partition_size}, {count}")
        manifest = EmbeddingsManifest(
            dim, model_version, ids_fingerprint, count, partition_size, catalog, precision, cuttable
        )
        return cls(PartitionFolder.create(path, asdict(manifest), kind=KIND, command=COMMAND, overwrite=overwrite))

    @classmethod
    def open(cls, path: Path) -> Embeddings:
        """Open a folder made by `create`; it need not be complete.

        Raises: TgqError where there is no readable manifest.
        """
        names = [field.name for field in fields(EmbeddingsManifest)]
        return cls(PartitionFolder.open(path, names, kind=KIND, command=COMMAND))

    @property
    def path(self) -> Path:
        """Where they are now: beside what they replace, until `finish`."""
        return self._folder.path

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
        return len(self._folder)

    def __len__(self) -> int:
        return self.manifest.count

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return the positions [start, stop) of the items of a partition."""
        return self._folder.bounds(partition)

    def missing(self) -> list[int]:
        """List the partitions that are not yet written, in order."""
        return self._folder.missing()

    def has(self, partition: int) -> bool:
        """Say whether a partition is written."""
        return self._folder.has(partition)

    def unreadable(self) -> dict[str, str]:
        """Return the items of the partitions that are written whose picture could not be read (id -> reason)."""
        return self._folder.notes("unreadable")

    def write(
        self,
        partition: int,
        ids: Sequence[str],
        vectors: Vectors,
        contents: Sequence[str] | None = None,
        unreadable: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write one partition, whole or not at all; one that is there is replaced.

        Shapes: `ids` n, `vectors` [n, d] float32, `contents` (by `content.seen_of`) n, n as `bounds(partition)` says.
        unreadable: see the method of this name.
        Raises: TgqError on a wrong shape or type, on a vector that is not finite, on an id that stands twice.
        """
        self._check(partition, ids, vectors)
        columns = {"id": pa.array(ids, pa.string()), "vector": matrix_column(np.ascontiguousarray(vectors))}
        if contents is not None:
            if len(contents) != len(ids):
                raise TgqError(
                    f"partition {partition} of {told(self.path)} takes {len(ids)} contents; got {len(contents)}"
                )
            columns["content"] = pa.array(contents, pa.string())
        self._folder.write(partition, pa.table(columns), unreadable=unreadable)

    def read(self, partition: int) -> Partition:
        """Read one partition; its vectors are mapped from disk, read-only.

        Raises: TgqError where it is not written yet or damaged.
        """
        table = self._folder.read(partition)
        start, _ = self.bounds(partition)
        contents = table["content"].to_pylist() if "content" in table.column_names else None
        return Partition(partition, start, table["id"].to_pylist(), column_matrix(table, "vector", self.dim), contents)

    def __iter__(self) -> Iterator[Partition]:
        """Read all partitions in order, one at a time.

        Raises: TgqError where the folder is not complete.
        """
        self.require_complete()
        self._folder.fetch()
        for number in range(self.partitions):
            yield self.read(number)

    def ids(self) -> list[str]:
        """Return the ids of all items, in order; raises TgqError unless complete and every id stands once."""
        ids = [item_id for partition in self for item_id in partition.ids]
        if len(set(ids)) != len(ids):
            twice = _repeated(ids)
            raise TgqError(f"{told(self.path)}: {twice!r} stands in two partitions; remove the folder and embed again")
        return ids

    def vectors(self) -> Vectors:
        """Return all vectors as one array [N, d] in memory; raises TgqError unless complete."""
        vectors = np.empty((len(self), self.dim), np.float32)
        for partition in self:
            vectors[partition.start : partition.start + len(partition.ids)] = partition.vectors
        return vectors

    def finish(self) -> None:
        """Take the place of what they replace, if anything; raises TgqError unless every partition is written."""
        self._folder.finish()

    @property
    def place(self) -> Disk | Objects:
        """The folder or the objects."""
        return self._folder.place

    def require_complete(self) -> None:
        """Raise TgqError unless every partition is written."""
        self._folder.require_complete()

    def _check(self, partition: int, ids: Sequence[str], vectors: Vectors) -> None:
        start, stop = self.bounds(partition)
        where, expected = f"partition {partition} of {told(self.path)}", (stop - start, self.dim)
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


def fingerprint_of(ids: Iterable[str]) -> str:
    """Return 32 hex digits that change when an id is added, removed or moved: BLAKE2b of the ids and their lengths."""
    digest = blake2b(digest_size=16)
    for item_id in ids:
        encoded = item_id.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def normalised_pool(embeddings: Embeddings, file: Path) -> Tensor:
    """Write all vectors, of unit length as a store keeps them, to one file, and map it: [N, d] float32."""
    if not file.exists():
        write_pool(file, (len(embeddings), embeddings.dim), (unit(part.vectors) for part in embeddings))
    import torch

    return torch.from_numpy(np.load(file, mmap_mode="c", allow_pickle=False))


def write_pool(file: Path, shape: tuple[int, int], parts: Iterable[Vectors]) -> None:
    """Write vectors [N, d] from their parts, whole or not at all."""
    with atomic_path(file) as unfinished, unfinished.open("wb") as sink:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(sink, header)
        for part in parts:
            sink.write(np.ascontiguousarray(part, np.float32).data)


def _repeated(ids: Sequence[str]) -> str:
    seen: set[str] = set()
    for item_id in ids:
        if item_id in seen:
            return item_id
        seen.add(item_id)
    raise ValueError("no id stands twice")
