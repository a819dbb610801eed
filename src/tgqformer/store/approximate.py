"""Approximate neighbours of every item, for catalogues so large that exact ones take days.

The pool is cut into cells by k-means (about 2 √N of them). Each item is compared with those of the cells nearest to it,
the `probes`; all that look into one cell do it together, by one matrix product. How many probes are enough is found by
measurement: the exact neighbours of a sample say in which cells they lie. The recall of what was made is measured on
another sample, and too low a one is refused.

The cells are made once and written as the plan. The items, in the order of their cells, are then the partitions of a
folder beside the one that is asked for, which is made of them when all are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import chain, pairwise
from math import sqrt
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tgqformer.cluster.work import Maker, fill_here
from tgqformer.errors import TgqError
from tgqformer.files import once_path, read_json, write_arrow, write_json
from tgqformer.parallel import ahead, one_thread_each
from tgqformer.progress import console
from tgqformer.stages import clear, make_way
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.neighbours import (
    COMMAND,
    KIND,
    VECTORS,
    Neighbours,
    NeighboursManifest,
    check_same,
    contents_of,
    digest_of,
    normalised_pool,
    table_of,
    write_lists,
)
from tgqformer.store.partitions import PartitionFolder, column_matrix
from tgqformer.topk.exact import exact, tolerance
from tgqformer.topk.vectors import SPARE, TopK, ordered
from tgqformer.types import Array, Ints

LEAST = 0.98
"""Recall that is refused below."""
AIM = 0.99
"""Recall of the sample that the probes are chosen for."""
MOST = 0.25
"""Share of the cells that one item may probe; with more an exact search is as good."""
SMALL = 1000
"""Pools that are not worth cutting."""
SAMPLE, PER_CELL, ROUNDS, ROWS = 1000, 64, 8, 4096
BLOCK = 4 * ROWS
"""Items of a partition, in the order of their cells; `ROWS` of them are searched at once."""
REPORT, PLAN, BEGUN = "approximate.json", "plan.arrow", "approximate neighbours"


@dataclass(frozen=True)
class Approximation:
    """How approximate neighbours were found: in how many cells, by how many probes of an item.

    looked: share of the pool that an item was compared with, on average. recall: share of the exact neighbours that
    were found, measured on `sample` items.
    """

    cells: int
    probes: int
    looked: float
    recall: float
    sample: int

    def told(self) -> str:
        """Say it in a line."""
        return (
            f"approximate: {self.cells:,} cells, {self.probes} probed for an item, {self.looked:.1%} of the pool"
            f" looked at; recall {self.recall:.4f}, measured on {self.sample:,} items"
        )


class ApproximateWork:
    """The `Work` of comparing every item with those of the cells nearest to it.

    A partition is `BLOCK` items, in the order of their cells. It lies in a hidden folder beside the one asked for.
    """

    title = "neighbours"

    def __init__(self, embeddings: Embeddings, folder: PartitionFolder) -> None:
        self.embeddings, self.folder = embeddings, folder
        self.width = NeighboursManifest(**folder.manifest).width
        self._pool = normalised_pool(embeddings, folder.path / VECTORS)
        self._probes, self._cells = _planned(self._pool, self.width, folder.path / PLAN)

    @classmethod
    def begin(cls, embeddings: Embeddings, to: Path, k: int, *, alone: bool = True) -> ApproximateWork:
        """Start the work beside the folder `to`, or take up what another job began; several may do so at once.

        alone: whether nobody else is at work; what was begun of other embeddings or another k is removed then.

        Raises: TgqError where that is there and this is not done `alone`; for vectors that lie in no cells.
        """
        beside, manifest = beside_of(to), asdict(_manifest(embeddings, k, BLOCK))
        beside.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder = PartitionFolder.create(beside, manifest, kind=BEGUN, command=COMMAND)
        except TgqError:
            if not alone:
                raise
            clear(beside, BEGUN)
            folder = PartitionFolder.create(beside, manifest, kind=BEGUN, command=COMMAND)
        try:
            return cls(embeddings, folder)
        except TgqError:  # no plan can be made
            clear(beside, BEGUN)
            raise

    @classmethod
    def open(cls, beside: Path, embeddings: Path) -> ApproximateWork:
        """Take up what was begun, on whatever machine.

        Raises: TgqError where the embeddings are not those that it was begun with.
        """
        names = [field.name for field in fields(NeighboursManifest)]
        folder, found = PartitionFolder.open(beside, names, kind=BEGUN, command=COMMAND), Embeddings.open(embeddings)
        check_same(found, NeighboursManifest(**folder.manifest), beside)
        return cls(found, folder)

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
        """Search the items of partitions; yield numbers of items as they are done."""
        workers, whole = torch.get_num_threads(), TopK(self._pool, self.width)
        order = self._cells.order
        spans = {number: torch.split(order[slice(*self.folder.bounds(number))], ROWS) for number in partitions}
        work = partial(_near, self._cells, self.width, self._probes)
        with one_thread_each(), ThreadPoolExecutor(workers) as threads:
            answers = ahead(threads, work, chain.from_iterable(spans.values()), 2 * workers)
            for number, span in spans.items():
                blocks, looked = list[tuple[Array, Array]](), 0
                for rows in span:
                    positions, scores, compared = next(answers)
                    few = (scores[:, -1] == -torch.inf).nonzero().flatten()  # the cells they probe hold fewer than k
                    if len(few):
                        found = whole.of_rows(rows[few])
                        positions[few], scores[few] = found[0].long(), found[1]
                    looked += compared + len(few) * len(order)
                    blocks.append((positions.numpy(), scores.numpy()))
                    yield len(rows)
                table = table_of(*(np.concatenate(column) for column in zip(*blocks, strict=True)))
                self.folder.write(number, table, looked={str(number): looked})

    def finish(self, to: Path) -> tuple[Neighbours, Approximation]:
        """Measure the recall; write the lists to the folder `to`, and remove what was begun beside it.

        Raises: TgqError where something is missing; where too few are found: then nothing is left.
        """
        self.folder.require_complete()
        shape = (len(self._pool), self.width)
        positions = np.memmap(self.path / "positions", np.int32, "w+", shape=shape)
        scores = np.memmap(self.path / "scores", np.float32, "w+", shape=shape)
        for number in range(len(self.folder)):
            table, rows = self.folder.read(number), self._cells.order[slice(*self.folder.bounds(number))].numpy()
            positions[rows] = column_matrix(table, "position", self.width)
            scores[rows] = column_matrix(table, "score", self.width)
        known, looked = _known(self._pool, self.width)[1], sum(self.folder.notes("looked").values())
        recall, cells = known.recall(scores), len(self._cells.centres)
        done = Approximation(cells, self._probes, looked / len(self._pool) ** 2, recall, len(known.rows))
        if recall < LEAST:
            clear(self.path, BEGUN)
            raise TgqError(f"{done.told()}: below {LEAST}, so nothing was written; leave --approximate out")

        def beside(folder: Path) -> None:  # vectors for rules; too coarse for a sync, which refuses them
            np.save(folder / VECTORS, self._pool.numpy().astype(np.float16))
            write_json(folder / REPORT, asdict(done))

        found = write_lists(to, self.embeddings, positions, scores, beside)
        clear(self.path, BEGUN)
        return found, done


def beside_of(to: Path) -> Path:
    """Name the hidden folder beside `to` in which the work is done."""
    place = to.resolve()
    return place.with_name(f".{place.name}.approximate")


def build_approximate(
    embeddings: Embeddings, to: Path, k: int = 100, *, show_progress_bar: bool = True, overwrite: bool = False
) -> tuple[Neighbours, Approximation]:
    """Find nearly all of the top `k` by cosine of every item and write them to the folder `to`, as exact ones are.

    `approximate.json` there says how they were found and how many of the exact ones they are. Scores are exact. Needs
    the pool and the lists twice more on the disk of `to` while it runs. A killed job goes on where it was, and a
    finished one is opened.

    Raises: TgqError where `to` holds something else and `overwrite` is False; where less than 0.98 of the exact
        neighbours of a sample are found, or a quarter of the cells would not be enough: then nothing is written.
    """
    make = partial(fill_here, shown=show_progress_bar)
    built = make_approximate(embeddings, to, k, make, overwrite=overwrite)
    assert isinstance(built, tuple)
    return built


def make_approximate(
    embeddings: Embeddings, to: Path, k: int, make: Maker, *, alone: bool = True, overwrite: bool = False
) -> tuple[Neighbours, Approximation] | list[int]:
    """Let `make` find approximate neighbours; return them, or the partitions that are still missing.

    alone: whether nobody else is at work, see `ApproximateWork.begin`. Who makes the last partition finishes all.
    """
    if k < 1:
        raise TgqError(f"k is the number of neighbours to keep, at least 1; got {k}")
    make_way(to, KIND, resumable=True, sources=[embeddings.path])
    if len(embeddings) < 2:
        raise TgqError(f"{embeddings.path} holds {len(embeddings)} vectors; neighbours need at least two")
    if not overwrite and (done := _finished(embeddings, to, k)) is not None:
        console.print(f"{to} is finished already, of these embeddings: nothing to do")
        return done
    make_way(to, KIND, overwrite=overwrite)
    work = ApproximateWork.begin(embeddings, to, k, alone=alone)
    make(work)
    if missing := work.missing():
        return missing
    try:
        return work.finish(to)
    except OSError:
        done = _finished(embeddings, to, k)  # by another job, which was done at the same time
        if done is None:
            raise
        return done


def _manifest(embeddings: Embeddings, k: int, partition_size: int) -> NeighboursManifest:
    source, content = embeddings.manifest, digest_of(contents_of(embeddings))
    shared = (source.model_version, source.ids_fingerprint, source.count, partition_size, content)
    return NeighboursManifest(min(k, source.count - 1), *shared)


def _finished(embeddings: Embeddings, to: Path, k: int) -> tuple[Neighbours, Approximation] | None:
    """Open what is finished of these embeddings; None where that does not stand there."""
    if not (to / REPORT).is_file():
        return None
    found = Neighbours.open(to)
    same = found.manifest == _manifest(embeddings, k, embeddings.manifest.partition_size)
    return (found, Approximation(**read_json(to / REPORT))) if same else None


def _known(pool: Tensor, width: int) -> tuple[_Known, _Known]:
    """Return two samples whose exact neighbours are known: to choose the probes by, and to measure the recall."""
    chosen = np.random.default_rng(0).permutation(len(pool))[: 2 * SAMPLE]
    first, second = (_Known(pool, width, np.sort(part)) for part in np.array_split(chosen, 2))
    return first, second


def _planned(pool: Tensor, width: int, file: Path) -> tuple[int, _Cells]:
    """Return the probes and the cells of a plan, which is made where nobody has written one: the first one counts."""
    if not file.exists():
        cells = _Cells.made(pool)
        probes = cells.probes_for(_known(pool, width)[0])
        columns = {"probes": [probes], "centres": [cells.centres.flatten().numpy()], "cell": [cells.cell.numpy()]}
        types = (pa.int64(), pa.large_list(pa.float32()), pa.large_list(pa.int32()))
        with once_path(file) as unfinished:
            write_arrow(
                unfinished,
                pa.table({name: pa.array(one, kind) for (name, one), kind in zip(columns.items(), types, strict=True)}),
            )
    table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    centres, cell = (table[name].chunk(0).flatten().to_numpy() for name in ("centres", "cell"))
    middles = torch.from_numpy(centres.copy()).view(-1, pool.shape[1])
    return table["probes"][0].as_py(), _Cells(pool, middles, torch.from_numpy(cell.astype(np.int64)))


class _Known:
    """The exact neighbours of some rows of a pool: what others are held against."""

    def __init__(self, pool: Tensor, k: int, rows: Ints) -> None:
        self.pool, self.rows = pool, rows
        self.positions, self.scores = TopK(pool, k).of_rows(torch.from_numpy(rows))

    def recall(self, scores: Array) -> float:
        """Return how many of the found scores [N, k] are as high as the lowest exact one of their row."""
        near = torch.from_numpy(scores[self.rows]) >= self.scores[:, -1:] - tolerance(self.pool.shape[1])
        return float(near.float().mean())


class _Cells:
    """The pool cut by spherical k-means; `cell` [N] says which is whose, `order` [N] lists them by cell."""

    def __init__(self, pool: Tensor, centres: Tensor, cell: Tensor) -> None:
        self.pool, self.centres, self.cell = pool, centres, cell
        self.order, self.sizes = cell.argsort(stable=True), cell.bincount(minlength=len(centres))
        self._ends = self.sizes.cumsum(0).tolist()

    @classmethod
    def made(cls, pool: Tensor) -> _Cells:
        """Find the cells of a pool."""
        count = round(2 * sqrt(len(pool))) if len(pool) > SMALL else 1
        luck = torch.Generator().manual_seed(0)
        sample = pool[torch.randperm(len(pool), generator=luck)[: PER_CELL * count].sort().values]
        centres = sample[torch.randperm(len(sample), generator=luck)[:count]].clone()
        for _ in range(ROUNDS):
            nearest = _nearest(sample, centres, 1).flatten()
            sums = torch.zeros_like(centres).index_add_(0, nearest, sample)
            held = nearest.bincount(minlength=count) > 0
            centres[held] = normalize(sums[held], dim=1)
        return cls(pool, centres, _nearest(pool, centres, 1).flatten())

    def nearest(self, vectors: Tensor, count: int) -> Tensor:
        """Return the `count` nearest cells of each vector [n, count]."""
        return _nearest(vectors, self.centres, count)

    def members(self, cell: int) -> Tensor:
        """Return the positions of a cell's items, ascending."""
        return self.order[self._ends[cell - 1] if cell else 0 : self._ends[cell]]

    def probes_for(self, known: _Known) -> int:
        """Return how many cells an item must probe. Raise TgqError where that is too large a part of them."""
        order = self.nearest(self.pool[torch.from_numpy(known.rows)], len(self.centres))
        rank = torch.empty_like(order).scatter_(1, order, torch.arange(len(self.centres)).expand_as(order).contiguous())
        needed = rank.gather(1, self.cell[known.positions.long()]).flatten().sort().values + 1
        probes = int(needed[int(AIM * (len(needed) - 1))])
        if probes > max(8, MOST * len(self.centres)):
            raise TgqError(
                f"these vectors lie in no cells: to find {AIM} of its neighbours, an item would have to look into"
                f" {probes} of {len(self.centres)}; leave --approximate out"
            )
        return probes


def _nearest(vectors: Tensor, centres: Tensor, count: int) -> Tensor:
    blocks = torch.split(vectors, ROWS)
    return torch.cat([(block @ centres.T).topk(count, dim=1).indices for block in blocks])


def _near(cells: _Cells, k: int, probes: int, rows: Tensor) -> tuple[Tensor, Tensor, int]:
    """Search rows [n] in the cells that each probes: (positions [n, k], scores [n, k], pairs compared)."""
    queries = cells.pool[rows]
    probed = cells.nearest(queries, probes)
    sizes = cells.sizes[probed]
    starts = (sizes.cumsum(1) - sizes).flatten()  # where each probe's scores stand in the row of its query
    width = max(k + SPARE, int(sizes.sum(1).max()))
    scores = torch.full((len(rows), width), -torch.inf)
    places = torch.zeros((len(rows), width), dtype=torch.int64)
    order, ends = probed.flatten().argsort(stable=True), torch.bincount(probed.flatten()).cumsum(0).tolist()
    for cell, (first, last) in enumerate(pairwise([0, *ends])):
        if first == last:
            continue
        members, asked = cells.members(cell), order[first:last] // probes
        columns = starts[order[first:last], None] + torch.arange(len(members))
        scores[asked[:, None], columns] = queries[asked] @ cells.pool[members].T
        places[asked[:, None], columns] = members
    scores[places == rows[:, None]] = -torch.inf
    coarse, best = scores.topk(k + SPARE, dim=1)
    others, pool = places.gather(1, best), cells.pool.numpy()
    found = [exact(pool[row], pool[one]) for row, one in zip(rows.tolist(), others.numpy(), strict=True)]
    precise = torch.from_numpy(np.stack(found)).where(coarse > -torch.inf, -torch.inf)
    positions, scores = ordered(precise, others)
    return positions[:, :k].clone(), scores[:, :k].clone(), int(sizes.sum())
