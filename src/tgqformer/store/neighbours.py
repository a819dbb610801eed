"""The table that shops serve from: the exact top K of every item in the full pool, computed in bulk, looked up by id.

    neighbours/
      tgq.json             our note, see `stages.mark`
      manifest.json        K, number of items, model version, fingerprint of the ids, digest of their content, and
                           whether they are exact
      ids.arrow            the ids in the order of the pool, and `content`: digests of what the model saw, where known
      vectors.npy          the vectors, of unit length, float32 [N, d]: for lists that are to be diverse, and for a sync
      part-00000.arrow     one row an item: position (fixed-size list of int32), score (fixed-size list of float32)
      spare-00000.arrow    the next 32 of each item in the same form: what a sync fills up from, see `follow.py`

A row costs 8 (K + 32) bytes and is read from the mapped file by its position; all files are mapped when the folder is
opened, so that one that is replaced or removed later goes on answering as it was. `to_parquet` writes the same with
string ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from hashlib import blake2b
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.cluster.work import Maker, fill_here
from tgqformer.errors import TgqError
from tgqformer.files import atomic_path, read_arrow
from tgqformer.objects import told
from tgqformer.progress import console
from tgqformer.stages import atomic_folder, make_way
from tgqformer.store.base import unknown_item
from tgqformer.store.embeddings import Embeddings, normalised_pool
from tgqformer.store.partitions import PartitionFolder, column_matrix, matrix_column, part_name
from tgqformer.topk.exact import QUERIES
from tgqformer.types import Array, Floats, Ints, Vectors

KIND, COMMAND, VECTORS = "neighbours", "neighbours", "vectors.npy"
IDS = "ids.arrow"
SPARES = 32  # neighbours kept beyond K: so many of a list may go before a sync must search it anew


@dataclass(frozen=True)
class NeighboursManifest:
    """What a folder of neighbours is made from. `k` is K as asked; a pool of N items gives min(K, N - 1) a row.

    `content` is a digest of what the vectors were made from, as far as that is known. `found` says how: `exact`,
    `approximate`, or `otherwise`, such as lists of several models.
    """

    k: int
    model_version: str
    ids_fingerprint: str
    count: int
    partition_size: int
    content: str
    found: str = "exact"

    @property
    def width(self) -> int:
        """How many neighbours every item has."""
        return max(0, min(self.k, self.count - 1))

    @property
    def depth(self) -> int:
        """How many are kept of an item at most, with the spare ones."""
        return max(0, min(self.k + SPARES, self.count - 1))


class Neighbours:
    """Precomputed neighbours of every item; made by `build_neighbours`, opened by `Neighbours.open`."""

    def __init__(self, folder: PartitionFolder, ids: list[str], contents: Any) -> None:
        self._folder, self._ids, self._contents = folder, ids, contents
        self.path, self.manifest = folder.path, NeighboursManifest(**folder.manifest)
        self._position = {item_id: position for position, item_id in enumerate(ids)}
        self._partitions = [self._read(number) for number in range(len(folder))]

    @classmethod
    def open(cls, path: Path) -> Neighbours:
        """Open a complete folder of neighbours.

        Raises: TgqError where it is not there, not complete or damaged, or is replaced while it is opened.
        """
        before = _identity(path)
        names = [field.name for field in fields(NeighboursManifest)]
        folder = PartitionFolder.open(path, names, kind=KIND, command=COMMAND)
        folder.require_complete()
        folder.fetch()
        table = _read_table(folder, IDS)
        found = cls(folder, table["id"].to_pylist(), table["content"])
        if before != _identity(path):
            raise TgqError(f"{path} was replaced while it was opened; open it again")
        return found

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._position

    def ids(self) -> list[str]:
        """Return the ids of all items, in the order of the pool; not to be changed."""
        return self._ids

    def contents(self) -> Iterator[str | None]:
        """Stream, in the order of the ids, digests of what the model saw (`content.seen_of`); None where not known."""
        for chunk in self._contents.chunks:
            yield from chunk.to_pylist()

    def of(self, item_id: str, k: int | None = None) -> list[tuple[str, float]]:
        """Return the `k` nearest (all that are kept by default) as (id, cosine), best first.

        Equal scores stand in the order of the pool.

        Raises: TgqError for an unknown id, naming the nearest known ones.
        """
        if item_id not in self._position:
            raise unknown_item(item_id, self._ids, told(self.path))
        partition, row = divmod(self._position[item_id], self._folder.partition_size)
        positions, scores = self._partitions[partition]
        ids, best = self._ids, slice(None, k)
        found = positions[row, best].tolist(), _cosines(scores[row, best]).tolist()
        return [(ids[p], s) for p, s in zip(*found, strict=True)]

    def row(self, item_id: str) -> tuple[int, Ints, Floats]:
        """Return the position of an item, and the positions and cosines of all its neighbours that are kept.

        Raises: TgqError for an unknown id.
        """
        if item_id not in self._position:
            raise unknown_item(item_id, self._ids, told(self.path))
        at = self._position[item_id]
        partition, row = divmod(at, self._folder.partition_size)
        positions, scores = self._partitions[partition]
        return at, positions[row].astype(np.int64), _cosines(scores[row])

    @cached_property
    def vectors(self) -> Vectors | None:
        """The vectors of all items, of unit length, float32 [N, d], mapped from disk; None where they were not kept."""
        file = self._folder.place.file(VECTORS)
        return np.load(file, mmap_mode="c", allow_pickle=False) if file.is_file() else None

    def partitions(self) -> Iterator[tuple[int, Any, Any]]:
        """Stream (start, positions [n, K] int32, scores [n, K] float32) over all items, mapped from disk.

        Scores are as they were rounded, so a few may lie above 1 by 1e-7.
        """
        for number in range(len(self._folder)):
            yield self._folder.bounds(number)[0], *self._partitions[number]

    def spares(self) -> Iterator[tuple[Any, Any]]:
        """Stream (positions, scores) [n, depth - K] of what follows in each list, -1 past its end; [n, 0] for none.

        Raises: TgqError where they are damaged.
        """
        width = self.manifest.depth - self.manifest.width
        for number, (positions, scores) in enumerate(self._partitions):
            name = spare_name(number)
            if not self._folder.place.has(name):  # lists of an earlier version, or found otherwise
                yield positions[:, :0], scores[:, :0]
                continue
            table = _read_table(self._folder, name)
            yield column_matrix(table, "position", width), column_matrix(table, "score", width)

    def to_parquet(self, path: Path) -> None:
        """Write one Parquet file with a row an item: id, neighbours (list of string), scores (list of float32)."""
        lists = {"neighbours": pa.list_(pa.string()), "scores": pa.list_(pa.float32())}
        schema = pa.schema({"id": pa.string(), **lists})
        ids = pa.array(self._ids, pa.string())
        with atomic_path(path) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
            for start, positions, scores in self.partitions():
                offsets = pa.array(np.arange(len(scores) + 1, dtype=np.int32) * self.manifest.width)
                names = ids.take(pa.array(positions.reshape(-1)))
                columns = [
                    ids.slice(start, len(scores)),
                    pa.ListArray.from_arrays(offsets, names),
                    pa.ListArray.from_arrays(offsets, pa.array(_cosines(scores.reshape(-1)))),
                ]
                writer.write_table(pa.table(columns, schema=schema))

    def _read(self, partition: int) -> tuple[Any, Any]:
        table, width = self._folder.read(partition), self.manifest.width
        return column_matrix(table, "position", width), column_matrix(table, "score", width)


def check_same(embeddings: Embeddings, begun: NeighboursManifest, to: Path) -> None:
    """Raise TgqError where embeddings are not those that neighbours in the folder `to` were begun with."""
    here = embeddings.manifest
    if (here.model_version, here.ids_fingerprint) != (begun.model_version, begun.ids_fingerprint):
        raise TgqError(f"{told(to)} was begun with other embeddings than {told(embeddings.path)} here")


class NeighboursWork:
    """The `Work` of comparing every item with all others."""

    title = "neighbours"

    def __init__(self, embeddings: Embeddings, folder: PartitionFolder, device: str = "cpu") -> None:
        self.embeddings, self.folder, self.device = embeddings, folder, device
        self.manifest = NeighboursManifest(**folder.manifest)

    @classmethod
    def begin(
        cls, embeddings: Embeddings, to: Path, k: int = 100, *, device: str = "cpu", overwrite: bool = False
    ) -> NeighboursWork:
        """Start a folder of neighbours, or take up what another job began; several may do so at once.

        Raises: TgqError where the embeddings are not complete, or `to` holds neighbours of other embeddings or another
            k, and `overwrite` does not say to replace them.
        """
        if k < 1:
            raise TgqError(f"k is the number of neighbours to keep, at least 1; got {k}")
        import torch  # here and below: a service reads neighbours without it

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise TgqError(f"device {device!r}: PyTorch finds no CUDA device here; use cpu")
        make_way(to, KIND, resumable=True, objects=True, sources=[embeddings.path])
        return cls(embeddings, _start(embeddings, to, k, overwrite=overwrite), device)

    @classmethod
    def open(cls, to: Path, embeddings: Path, device: str = "cpu") -> NeighboursWork:
        """Open a folder that was begun, on whatever machine.

        Raises: TgqError where the embeddings are not those that it was begun with.
        """
        names = [field.name for field in fields(NeighboursManifest)]
        own = cls(Embeddings.open(embeddings), PartitionFolder.open(to, names, kind=KIND, command=COMMAND), device)
        check_same(own.embeddings, own.manifest, to)
        return own

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    def missing(self) -> list[int]:
        """List the partitions that are not yet written."""
        return self.folder.missing()

    def rows(self, partition: int) -> int:
        """Return how many items a partition has."""
        start, stop = self.folder.bounds(partition)
        return stop - start

    def fill(self, partitions: Sequence[int]) -> Iterator[int]:
        """Find the neighbours of partitions; yield numbers of items as they are done."""
        from tgqformer.topk.vectors import top_k

        pool = normalised_pool(self.embeddings, self.folder.place.here / VECTORS)
        if not self.folder.place.has(VECTORS):
            self.folder.place.keep(VECTORS)
        spans = {number: list(_spans(*self.folder.bounds(number))) for number in partitions}
        answers = top_k(pool, self.manifest.depth, chain.from_iterable(spans.values()), device=self.device)
        for number, part in spans.items():
            blocks = []
            for start, stop in part:
                blocks.append(next(answers))
                yield stop - start
            positions, scores = (np.concatenate(block) for block in zip(*blocks, strict=True))
            write_part(self.folder, number, positions, scores, self.manifest.width)


def build_neighbours(
    embeddings: Embeddings,
    to: Path,
    k: int = 100,
    *,
    device: str = "cpu",
    show_progress_bar: bool = True,
    overwrite: bool = False,
) -> Neighbours:
    """Compute the exact top `k` by cosine of every item among all others and write them to the folder `to`.

    A killed job goes on where it was, and a finished one is opened. Needs about 50 MB of memory a thread, besides what
    the system keeps of the mapped vectors.

    What the vectors were made from is kept with the ids, so that a service knows which items have changed since.

    Raises: TgqError where the embeddings are not complete, or `to` holds neighbours of other embeddings or another k,
        and `overwrite` does not say to replace them; those stay until the new ones are whole.
    """
    make = partial(fill_here, shown=show_progress_bar)
    built = make_neighbours(embeddings, to, k, make, device=device, overwrite=overwrite)
    assert isinstance(built, Neighbours)
    return built


def make_neighbours(
    embeddings: Embeddings, to: Path, k: int, make: Maker, *, device: str = "cpu", overwrite: bool = False
) -> Neighbours | list[int]:
    """Let `make` compute neighbours, as `build_neighbours` does; return them, or the partitions that are still missing.

    Who makes the last partition finishes the folder.
    """
    work = NeighboursWork.begin(embeddings, to, k, device=device, overwrite=overwrite)
    if not work.missing():
        console.print(f"{told(to)} is finished already, of these embeddings: nothing to do")
    make(work)
    if missing := work.missing():
        return missing
    work.folder.finish()
    return Neighbours.open(to)


def write_lists(
    to: Path,
    embeddings: Embeddings,
    items: Any,
    scores: Any,
    beside: Callable[[Path], None] | None = None,
    found: str = "otherwise",
) -> Neighbours:
    """Write neighbours that were found otherwise over the items of some embeddings, whose version they carry.

    items: positions [N, K]. scores: [N, K], best first. Neighbours that stand in `to` are replaced, but in an object
    store. beside: writes further files into the folder. found: how, see `NeighboursManifest`.

    Raises: TgqError unless there is a row for each item, of K >= 1 other items.
    """
    count, width = embeddings.manifest.count, items.shape[1]
    if len(items) != count or items.shape != scores.shape or not 1 <= width < max(2, count):
        got = f"{list(items.shape)}, {list(scores.shape)}"
        raise TgqError(f"{count} items need rows of positions and scores of one width; got {got}")
    if items.min() < 0 or items.max() >= count:
        raise TgqError("neighbours are positions of items; some row is too short or points outside")
    last = part_name((count - 1) // embeddings.manifest.partition_size)
    with atomic_folder(to, KIND, overwrite=True, whole_by=last) as unfinished:
        folder = _start(embeddings, unfinished, width, found=found)
        for number in range(len(folder)):
            rows = slice(*folder.bounds(number))
            folder.write(number, table_of(items[rows], scores[rows]))
        if beside is not None:
            beside(unfinished)
    return Neighbours.open(to)


def _start(
    embeddings: Embeddings, to: Path, k: int, *, overwrite: bool = False, found: str = "exact"
) -> PartitionFolder:
    """Start a folder with its ids, or take up the one that a killed job left."""
    source, ids, contents = embeddings.manifest, embeddings.ids(), contents_of(embeddings)
    shared = (source.model_version, source.ids_fingerprint, source.count, source.partition_size)
    manifest = NeighboursManifest(k, *shared, digest_of(contents), found)
    return start_folder(to, manifest, ids, contents, overwrite=overwrite)


def start_folder(
    to: Path, manifest: NeighboursManifest, ids: list[str], contents: Any, *, overwrite: bool = False
) -> PartitionFolder:
    """Start a folder with its ids and what they were made from, an Arrow column chunked by partition."""
    folder = PartitionFolder.create(to, asdict(manifest), kind=KIND, command=COMMAND, overwrite=overwrite)
    if not folder.place.has(IDS):
        folder.put(IDS, pa.table({"id": pa.array(ids, pa.string()), "content": contents}))
    return folder


def digest_of(contents: Any) -> str:
    """Return a digest of what all vectors were made from."""
    digest = blake2b(digest_size=16)
    for chunk in contents.chunks:
        digest.update("".join(f"{text}\n" for text in chunk.to_pylist()).encode())
    return digest.hexdigest()


def neighbours_in(run: Path) -> list[Path]:
    """Return the tables of neighbours in the folder of a run."""
    return sorted(path.parent for path in run.glob("neighbours*/manifest.json"))


def write_part(folder: PartitionFolder, number: int, positions: Array, scores: Array, width: int) -> None:
    """Write one partition: the first `width` of each list, and before them, in a file of their own, the spare ones."""
    folder.put(spare_name(number), table_of(positions[:, width:], scores[:, width:]))
    folder.write(number, table_of(positions[:, :width], scores[:, :width]))


def spare_name(number: int) -> str:
    """Name the file of the spare neighbours of a partition."""
    return f"spare-{number:05d}.arrow"


def _spans(start: int, stop: int) -> Iterator[tuple[int, int]]:
    for first in range(start, stop, QUERIES):
        yield first, min(first + QUERIES, stop)


def table_of(positions: Array, scores: Array) -> Any:
    """Return lists [n, K] as an Arrow table: positions int32, scores float32."""
    position, score = np.ascontiguousarray(positions, np.int32), np.ascontiguousarray(scores, np.float32)
    return pa.table({"position": matrix_column(position), "score": matrix_column(score)})


def _cosines(scores: Floats) -> Floats:
    """Return scores as what they stand for, 1 at most: those on disk are products, rounded, and may be 1.0000001."""
    return np.minimum(scores, np.float32(1))


def contents_of(embeddings: Embeddings) -> Any:
    """Return what the vectors were made from as an Arrow column, null where that is not known."""
    return pa.chunked_array(
        [pa.array(part.contents or repeat(None, len(part.ids)), pa.string()) for part in embeddings], pa.string()
    )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        seen = (path / "manifest.json").stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns


def _read_table(folder: PartitionFolder, name: str) -> Any:
    try:
        return read_arrow(folder.place.file(name), sealed=folder.sealed)
    except (OSError, pa.ArrowInvalid) as error:
        where = told(folder.path)
        raise TgqError(f"{where}: {name} is missing or damaged; make {where} anew by `tgq {COMMAND}`") from error
