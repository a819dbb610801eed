"""Approximate neighbours of every item, for catalogues so large that exact ones take days.

The pool is cut into cells of some 200 items by k-means. Each item is compared with those of the cells nearest to
it, the `probes`; all that look into one cell do it together, by one matrix product. How many probes are enough is found
by measurement: the exact neighbours of a sample say in which cells they lie. The recall of what was made is measured on
another sample, and too low a one is refused.

The cells are made once and written as the plan. The items, in the order of their cells, are then the partitions of a
folder beside the one that is asked for, which is made of them when all are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import chain
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from tgqformer.cluster.work import Maker, fill_here
from tgqformer.errors import TgqError
from tgqformer.files import read_arrow, write_arrow, write_json, write_json_once
from tgqformer.objects import Disk, Objects, absolute, object_address, place_at, told
from tgqformer.parallel import ahead, one_thread_each
from tgqformer.progress import console
from tgqformer.stages import clear, make_way
from tgqformer.store.cells import Cells, known_of
from tgqformer.store.embeddings import Embeddings, normalised_pool
from tgqformer.store.neighbours import (
    COMMAND,
    KIND,
    VECTORS,
    Neighbours,
    NeighboursManifest,
    check_same,
    contents_of,
    digest_of,
    table_of,
    write_lists,
)
from tgqformer.store.partitions import APPROXIMATE, MANIFEST, PartitionFolder, column_matrix
from tgqformer.types import Array

LEAST = 0.98
"""Recall that is refused below."""
ROWS = 1024
BLOCK = 8 * ROWS
"""Items of a partition, in the order of their cells; `ROWS` of them are searched at once."""
PLAN, BEGUN = "plan.json", "approximate neighbours begun"


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
        self._pool = normalised_pool(embeddings, folder.place.here / VECTORS)
        self._cells = _planned(self._pool, self.width, folder.place)

    @classmethod
    def begin(cls, embeddings: Embeddings, to: Path, k: int, *, alone: bool = True) -> ApproximateWork:
        """Start the work beside the folder `to`, or take up what another job began; several may do so at once.

        alone: whether nobody else is at work; what was begun of other embeddings or another k is removed then.

        Raises: TgqError where that is there and this is not done `alone`; for vectors that lie in no cells.
        """
        beside, manifest = beside_of(to), asdict(_manifest(embeddings, k, BLOCK))
        try:
            folder = PartitionFolder.create(beside, manifest, kind=BEGUN, command=COMMAND)
        except TgqError:
            if not alone or object_address(to):
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
        workers, order = torch.get_num_threads(), self._cells.items.order
        search = partial(self._cells.search, k=self.width)
        spans = {number: torch.split(order[slice(*self.folder.bounds(number))], ROWS) for number in partitions}
        with one_thread_each(), ThreadPoolExecutor(workers) as threads:
            answers = ahead(threads, search, chain.from_iterable(spans.values()), 2 * workers)
            for number, span in spans.items():
                blocks, looked = list[tuple[Array, Array]](), 0
                for rows in span:
                    positions, scores, compared = next(answers)
                    looked += compared
                    blocks.append((positions.numpy(), scores.numpy()))
                    yield len(rows)
                table = table_of(*(np.concatenate(column) for column in zip(*blocks, strict=True)))
                self.folder.write(number, table, looked={str(number): looked})

    def finish(self, to: Path) -> tuple[Neighbours, Approximation]:
        """Measure the recall; write the lists to the folder `to`, and remove what was begun beside it on a disk.

        Raises: TgqError where something is missing; where too few are found: then nothing is left.
        """
        self.folder.require_complete()
        self.folder.fetch()
        shape, here = (len(self._pool), self.width), self.folder.place.here
        positions = np.memmap(here / "positions", np.int32, "w+", shape=shape)
        scores = np.memmap(here / "scores", np.float32, "w+", shape=shape)
        for number in range(len(self.folder)):
            table, rows = self.folder.read(number), self._cells.items.order[slice(*self.folder.bounds(number))].numpy()
            positions[rows] = column_matrix(table, "position", self.width)
            scores[rows] = column_matrix(table, "score", self.width)
        known, looked = known_of(self._pool, self.width, 1), sum(self.folder.notes("looked").values())
        recall, cells = known.recall(torch.from_numpy(scores[known.rows])), self._cells
        done = Approximation(len(cells.centres), cells.probes, looked / len(self._pool) ** 2, recall, len(known.rows))
        if recall < LEAST:
            clear(self.path, BEGUN)
            raise TgqError(f"{done.told()}: below {LEAST}, so nothing was written; leave --approximate out")

        def beside(folder: Path) -> None:  # vectors for rules; too coarse for a sync, which refuses them
            np.save(folder / VECTORS, self._pool.numpy().astype(np.float16))
            write_json(folder / APPROXIMATE, asdict(done))

        found = write_lists(to, self.embeddings, positions, scores, beside, "approximate")
        clear(self.path, BEGUN)
        if object_address(to):
            console.print(f"its parts stay at {told(self.path)}, since no object is removed: they are not needed")
        return found, done


def beside_of(to: Path) -> Path:
    """Name the hidden folder beside `to` in which the work is done."""
    place = absolute(to)
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
    make_way(to, KIND, resumable=True, objects=True, sources=[embeddings.path])
    if len(embeddings) < 2:
        raise TgqError(f"{embeddings.path} holds {len(embeddings)} vectors; neighbours need at least two")
    if not overwrite and (done := _finished(embeddings, to, k)) is not None:
        console.print(f"{told(to)} is finished already, of these embeddings: nothing to do")
        return done
    if not object_address(to):
        make_way(to, KIND, overwrite=overwrite)
    elif place_at(to).has(MANIFEST):  # a job that was killed while it sent the lists, or other lists: these are refused
        manifest = _manifest(embeddings, k, embeddings.manifest.partition_size)
        PartitionFolder.create(to, asdict(manifest), kind=KIND, command=COMMAND, overwrite=overwrite)
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
    return NeighboursManifest(min(k, source.count - 1), *shared, "approximate")


def _finished(embeddings: Embeddings, to: Path, k: int) -> tuple[Neighbours, Approximation] | None:
    """Open what is finished of these embeddings; None where that does not stand there."""
    place, manifest = place_at(to), _manifest(embeddings, k, embeddings.manifest.partition_size)
    said = place.read(APPROXIMATE)
    if said is None or not place.has(MANIFEST):  # objects are sent one by one
        return None
    names = [field.name for field in fields(NeighboursManifest)]
    folder = PartitionFolder.open(to, names, kind=KIND, command=COMMAND)
    if folder.manifest != asdict(manifest) or folder.missing():
        return None
    return Neighbours.open(to), Approximation(**json.loads(said))


def _planned(pool: Tensor, width: int, place: Disk | Objects) -> Cells:
    """Return the cells of the plan in a folder, which is made where nobody has written one: the first one counts."""
    if not place.has(PLAN):
        name = f"cells-{uuid4().hex}.arrow"
        write_arrow(place.here / name, Cells.made(pool, width).as_table())
        place.keep(name)
        write_json_once(place.here / PLAN, {"cells": name})
        place.keep(PLAN)
    file = place.file(json.loads(place.read(PLAN) or b"")["cells"])
    return Cells.of_table(pool, read_arrow(file, sealed=True))
