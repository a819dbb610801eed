"""Neighbours that follow a store: after a sync, the table is what a fresh build of the same vectors would be.

Only what changed is searched. The list of a new or changed item is searched in the whole pool. From every other list
the items that are gone or changed are taken out, and new vectors are put in that score above its last entry. The spare
entries beyond K fill the gaps: a list is known to be right down to the last entry that was kept of it. One that
is left with fewer than K is searched anew. Scores do not depend on how they were found (`topk.exact`), so the
lists are the same, byte for byte, as those of a fresh build. The spare entries are right, too, but may be fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from tgqformer.errors import TgqError
from tgqformer.parallel import ahead, one_thread_each
from tgqformer.progress import progress
from tgqformer.stages import atomic_folder
from tgqformer.store.base import StoreTable
from tgqformer.store.content import BLIND, SEEN
from tgqformer.store.embeddings import fingerprint_of, write_pool
from tgqformer.store.ledger import Version
from tgqformer.store.lists import carry_lists
from tgqformer.store.neighbours import (
    KIND,
    VECTORS,
    Neighbours,
    NeighboursManifest,
    digest_of,
    start_folder,
    write_part,
)
from tgqformer.store.rows import parts
from tgqformer.topk.exact import QUERIES, exact, tolerance
from tgqformer.topk.merge import Entries, kept_of, merged
from tgqformer.topk.vectors import TopK
from tgqformer.types import Bools, Floats, Ints, Vectors

READ = 1000  # rows of one look into the store
BLOCK, PAIRS = 2048, 4096  # new vectors of one product, and pairs that are scored exactly at once


@dataclass(frozen=True)
class Followed:
    """What was done: `fresh` vectors came and `gone` went; `searched` lists were searched in the whole pool.

    `changed` says whether the table was written anew.
    """

    fresh: int = 0
    gone: int = 0
    searched: int = 0
    changed: bool = False


@dataclass(frozen=True)
class _Change:
    """What is new. Positions are those in the new order.

    was: of each item [N] its old position, -1 where its vector is new. moved: of each old position the new one, -1
    where its vector is gone. fresh: positions whose vectors are new, and these.
    """

    ids: list[str]
    contents: list[str | None]
    was: Ints
    moved: Ints
    fresh: Ints
    vectors: Vectors

    @property
    def ordered(self) -> bool:
        """Whether the items that stay stand in the same order as before."""
        stay = self.moved[self.moved >= 0]
        return bool((stay[1:] > stay[:-1]).all())


def check_follows(path: Path, version: Version) -> Neighbours:
    """Open neighbours that can follow a version of a store.

    Raises: TgqError where they were made by another model, one of the two keeps no exact vectors, or there are none.
    """
    found = Neighbours.open(path)
    vectors = found.vectors
    if found.manifest.model_version != version.model_version:
        raise TgqError(
            f"{path} was made by model {found.manifest.model_version}, version {version.name} of the store by"
            f" {version.model_version}; make other neighbours with `tgq embed` and `tgq neighbours`"
        )
    if vectors is None or vectors.dtype != np.float32:
        raise TgqError(f"{path} keeps no exact vectors to go on from; make it anew once with `tgq neighbours`")
    if version.dtype != "float32" or version.dim != vectors.shape[1]:
        raise TgqError(
            f"version {version.name} keeps {version.dim} x {version.dtype}, {path} {vectors.shape[1]} x float32: the"
            " store's vectors are too coarse for exact neighbours; use `tgq embed` and `tgq neighbours`"
        )
    return found


def follow(path: Path, table: StoreTable, ids: Sequence[str], *, shown: bool = True) -> Followed:
    """Bring neighbours up to date with the items `ids` of a table, in this order: lists equal to a fresh build of them.

    The folder is replaced in one step, or stays as it was. Other rows of the store are passed over.

    Raises: TgqError as `check_follows` does.
    """
    old = check_follows(path, table.version)
    change = _changes(old, table, ids)
    if not len(change.fresh) and change.ids == old.ids() and change.contents == list(old.contents()):
        return Followed()
    contents = _column(change, old.manifest.partition_size)
    own, seen = fingerprint_of(change.ids), digest_of(contents)
    manifest = replace(old.manifest, count=len(change.ids), ids_fingerprint=own, content=seen)
    with atomic_folder(path, KIND, overwrite=True) as unfinished:
        folder = start_folder(unfinished, manifest, change.ids, contents)
        carry_lists(path, unfinished)
        spans = [folder.bounds(number) for number in range(len(folder))]
        pool = _pool(unfinished / VECTORS, old, change, spans)
        make, searched = _Lists(old, change, pool, manifest), 0
        threads = torch.get_num_threads()
        with (
            one_thread_each(),
            ThreadPoolExecutor(threads) as workers,
            progress("neighbours", len(change.ids), shown=shown) as bar,
        ):
            for number, (positions, scores, again) in enumerate(ahead(workers, make.of, spans, threads)):
                write_part(folder, number, positions, scores, manifest.width)
                searched += again
                bar.advance(len(positions))
    return Followed(len(change.fresh), len(old) - int((change.moved >= 0).sum()), searched, changed=True)


def _changes(old: Neighbours, table: StoreTable, ids: Sequence[str]) -> _Change:
    """Compare by content, and what differs by its vector: the same picture may have come under another name."""
    now = {item_id: content[:SEEN] or None for item_id, content in table.contents()}
    there = [item_id for item_id in ids if item_id in now]
    place = {item_id: at for at, item_id in enumerate(old.ids())}
    seen = list(old.contents())
    was = np.array([place.get(item_id, -1) for item_id in there], np.int64)
    contents = [now[item_id] for item_id in there]
    unsure = [
        at
        for at, (before, content) in enumerate(zip(was.tolist(), contents, strict=True))
        if before < 0 or content in (None, BLIND) or content != seen[before]
    ]
    vectors = np.empty((len(unsure), table.version.dim), np.float32)
    for part in parts(range(len(unsure)), READ):
        rows = table.get([there[unsure[one]] for one in part])
        vectors[part[0] : part[-1] + 1] = [row.vector for row in rows]
    kept = old.vectors
    assert kept is not None
    fresh = np.array(unsure, np.int64)
    new = (was[fresh] < 0) | (kept[np.maximum(was[fresh], 0)] != vectors).any(1) if len(kept) else was[fresh] < 0
    was[fresh[new]] = -1
    moved = np.full(len(old), -1, np.int64)
    moved[was[was >= 0]] = np.flatnonzero(was >= 0)
    return _Change(there, contents, was, moved, fresh[new], vectors[new])


def _column(change: _Change, size: int) -> pa.ChunkedArray:
    chunks = [pa.array(part, pa.string()) for part in parts(change.contents, size)]
    return pa.chunked_array(chunks, pa.string())


def _pool(file: Path, old: Neighbours, change: _Change, spans: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Write the vectors in the new order, and map them."""
    kept = old.vectors
    assert kept is not None

    def rows() -> Iterator[Vectors]:
        for start, stop in spans:
            was = change.was[start:stop]
            found = np.empty((stop - start, kept.shape[1]), np.float32)
            found[was >= 0] = kept[was[was >= 0]]
            first, last = np.searchsorted(change.fresh, [start, stop])
            found[change.fresh[first:last] - start] = change.vectors[first:last]
            yield found

    write_pool(file, (len(change.ids), kept.shape[1]), rows())
    return torch.from_numpy(np.load(file, mmap_mode="c", allow_pickle=False))


class _Lists:
    """Makes the lists of the items of a partition from the old ones, or by a search where those say too little."""

    def __init__(self, old: Neighbours, change: _Change, pool: torch.Tensor, manifest: NeighboursManifest) -> None:
        self._change, self._pool, self._width, self._depth = change, pool, manifest.width, manifest.depth
        self._others, self._size = len(old) - 1, old.manifest.partition_size
        self._moved = change.moved
        spares = old.spares()
        self._parts = [(*part[1:], *spare) for part, spare in zip(old.partitions(), spares, strict=True)]
        self._ordered, self._rows = change.ordered, pool.numpy()
        self._anew = 2 * len(change.fresh) > len(change.ids)  # so many that merging saves nothing

    def of(self, span: tuple[int, int]) -> tuple[Ints, Floats, int]:
        """Return positions and scores [n, depth] of a span of items, and how many were searched."""
        count = span[1] - span[0]
        positions = np.full((count, self._depth), -1, np.int64)
        scores, length = np.full((count, self._depth), -np.inf, np.float32), np.full(count, -1)
        stays = np.flatnonzero((self._change.was[slice(*span)] >= 0) & (not self._anew))
        if len(stays):
            positions[stays], scores[stays], length[stays] = self._carried(span[0] + stays)
        again = np.flatnonzero(length < self._width)
        search = TopK(self._pool, self._depth)
        for first in range(0, len(again), QUERIES):
            rows = again[first : first + QUERIES]
            found = search.of_rows(torch.from_numpy(span[0] + rows))
            positions[rows], scores[rows] = (one.numpy() for one in found)
        return positions, scores, len(again)

    def _carried(self, rows: Ints) -> tuple[Ints, Floats, Ints]:
        """Carry the lists of some items over; the length is -1 where they must be searched."""
        was = self._change.was[rows]
        positions, scores = self._old(was)
        lists = kept_of(positions, scores, self._moved, self._others, ordered=self._ordered)
        new, crowded = self._new(rows, lists.bound)
        found, best, length = merged(lists, new, self._depth)
        return found, best, np.where(crowded, -1, length)

    def _old(self, was: Ints) -> tuple[Ints, Floats]:
        """Read old lists, spare ones included, from wherever they lie."""
        number, row = np.divmod(was, self._size)
        width = sum(part.shape[1] for part in self._parts[0][::2])
        positions, scores = np.empty((len(was), width), np.int64), np.empty((len(was), width), np.float32)
        for one in np.unique(number).tolist():
            here, (first, value, spare, more) = number == one, self._parts[one]
            positions[here] = np.concatenate([first[row[here]], spare[row[here]]], 1)
            scores[here] = np.concatenate([value[row[here]], more[row[here]]], 1)
        return positions, scores

    def _new(self, rows: Ints, bound: Floats) -> tuple[Entries, Bools]:
        """Find which new vectors belong into which lists, and the lists into which more belong than they hold."""
        queries, least = self._pool[torch.from_numpy(rows)], bound - tolerance(self._pool.shape[1])
        fresh, vectors = self._change.fresh, self._change.vectors
        seen, pairs = np.zeros(len(rows), np.int64), [np.empty((2, 0), np.int64)]
        for first in range(0, len(fresh), BLOCK):
            block = torch.mm(queries, torch.from_numpy(vectors[first : first + BLOCK]).T).numpy()
            row, column = np.nonzero(block >= least[:, None])
            seen += np.bincount(row, minlength=len(rows))
            least[seen > self._depth] = np.inf
            pairs.append(np.stack([row, column + first]))
        row, column = np.concatenate(pairs, 1)
        crowded = seen > self._depth
        row, column = row[~crowded[row]], column[~crowded[row]]
        score = np.empty(len(row), np.float32)
        for start in range(0, len(row), PAIRS):
            one, other = row[start : start + PAIRS], column[start : start + PAIRS]
            score[start : start + PAIRS] = exact(self._rows[rows[one]], vectors[other])
        return Entries(row, fresh[column], score), crowded
