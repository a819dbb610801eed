"""A pool of vectors cut into cells by k-means, so that an item is compared with those of few cells alone.

How many cells are enough is found by measurement: the exact neighbours of a sample say in which cells they lie.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import ceil, sqrt

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from tgqformer.errors import TgqError
from tgqformer.parallel import ahead, one_thread_each
from tgqformer.topk.exact import exact_of, tolerance
from tgqformer.topk.vectors import SPARE, TopK, ordered
from tgqformer.types import Floats, Ints

AIM, ENOUGH = 0.99, 0.985
"""Recall of the sample that the probes are chosen for, and the one that is enough once it was searched for."""
MOST = 0.25
"""Share of the cells that one item may probe; with more an exact search is as good."""
SMALL = 1000
"""Pools that are not worth cutting."""
PER_CELL = 200
"""Items of a cell on average."""
MANY, MIDDLES, WIDE = 2000, 4, 16
"""Of more centres than that, the nearest are looked for through so many √C clusters of centres, among the so many √C
centres that are nearest to a vector's cluster: what a vector costs grows with √C only, and is small."""
LEARNT, ROUNDS = 16, 8
"""Vectors for each centre that k-means looks at, and how often."""
LARGEST = 8
"""Times the mean that a cell may hold. Larger ones, of copies mostly, are cut: memory is taken for the largest."""
LOOKED, WIDEST = 64, 512
"""The nearest cells are looked for among so many that lie beside the item's own; so many are tried at most."""
SAMPLE, BLOCK, ROOM = 1000, 1024, 2**24
"""Items of a sample; vectors that are compared with centres at once; products at once."""
FEW = 64
"""Items whose best are chosen at once: a cache holds their products."""


class Known:
    """The exact neighbours of some rows of a pool: what others are held against."""

    def __init__(self, pool: Tensor, k: int, rows: Ints) -> None:
        self.pool, self.rows = pool, torch.from_numpy(rows)
        self.positions, self.scores = TopK(pool, k).of_rows(self.rows)

    def recall(self, scores: Tensor) -> float:
        """Return how many of the scores found for these rows [n, k] are as high as the lowest exact one of each."""
        return float((scores >= self.scores[:, -1:] - tolerance(self.pool.shape[1])).float().mean())


def known_of(pool: Tensor, width: int, half: int) -> Known:
    """Return one of two samples whose exact neighbours are known: 0 to choose probes by, 1 to measure the recall."""
    chosen = np.random.default_rng(0).permutation(len(pool))[: 2 * SAMPLE]
    return Known(pool, width, np.sort(np.array_split(chosen, 2)[half]))


class _Parts:
    """Vectors [N, d] in parts: `part` [N] says which is whose, `order` [N] lists them by part."""

    def __init__(self, vectors: Tensor, part: Tensor, count: int) -> None:
        self.vectors, self.part = vectors, part
        self.order, self.sizes = part.argsort(stable=True), part.bincount(minlength=count)
        self.starts = self.sizes.cumsum(0) - self.sizes

    def pieces(self, most: int) -> tuple[Tensor, Tensor]:
        """Cut each part into pieces of at most `most`: (the piece of each vector [N], how many each part has)."""
        offset = torch.empty_like(self.part)  # of each vector in its part
        offset[self.order] = torch.arange(len(offset)) - self.starts[self.part[self.order]]
        pieces = (self.sizes + most - 1) // most
        return (pieces.cumsum(0) - pieces)[self.part] + offset // most, pieces

    def best(self, queries: Tensor, probed: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the best of the parts that each query [n, d] probes [n, p]: (products [n, count], places [n, count]).

        In any order. Where fewer are there, the products are -inf and the places mean nothing.
        """
        products, slot = self._products(queries.numpy(), probed.flatten().numpy())
        most = products.shape[1]
        width = min(count, most * probed.shape[1])
        some = torch.split(slot.view(probed.shape), FEW)
        found = [products[rows.flatten()].view(len(rows), -1).topk(width, sorted=False) for rows in some]
        best, at = torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])
        places = self.starts[probed.gather(1, at // most)] + at % most
        places = self.order[places.clamp(max=len(self.order) - 1)]
        short = (0, count - width)
        return pad(best, short, value=-torch.inf), pad(places, short)

    def _products(self, queries: Floats, probed: Ints) -> tuple[Tensor, Tensor]:
        """Return the products of queries [n, d] with the vectors of the parts that each probes [n * p]: [n * p, most].

        They stand by parts; beside them, the row of each probe [n * p]. A part of fewer than `most` vectors ends in
        -inf. By numpy: for products as small as these torch takes several times as long.
        """
        vectors, order = self.vectors.numpy(), self.order.numpy()
        slots = probed.argsort(kind="stable")
        parts, firsts = np.unique(probed[slots], return_index=True)
        sizes, starts = self.sizes.numpy()[parts], self.starts.numpy()[parts]
        found = np.full((len(probed), sizes.max()), -np.inf, np.float32)
        asked = queries[slots // (len(probed) // len(queries))]
        others = np.empty((sizes.max(), queries.shape[1]), np.float32)
        bounds = zip(firsts.tolist(), [*firsts[1:].tolist(), len(probed)], starts.tolist(), sizes.tolist(), strict=True)
        for first, last, start, size in bounds:
            other = np.take(vectors, order[start : start + size], axis=0, out=others[:size], mode="clip")
            np.matmul(asked[first:last], other.T, out=found[first:last, :size])
        place = np.empty_like(slots)
        place[slots] = np.arange(len(slots))
        return torch.from_numpy(found), torch.from_numpy(place)


class Cells:
    """The pool by cells, cut by spherical k-means; `probes` of them are searched for an item.

    They are looked for among those nearest to the item's own cell, `beside` [C, m].
    """

    def __init__(self, pool: Tensor, centres: Tensor, cell: Tensor, beside: Tensor, probes: int) -> None:
        self.pool, self.centres, self.beside, self.probes = pool, centres, beside, probes
        self.items = _Parts(pool, cell, len(centres))

    @classmethod
    def made(cls, pool: Tensor, width: int) -> Cells:
        """Cut a pool, and choose how many cells are searched. Raise TgqError where that is too large a part of them."""
        centres = _k_means(pool, round(len(pool) / PER_CELL) if len(pool) > SMALL else 1)
        nearest = _near(pool, centres, 1)
        if len(centres) > MANY:  # a few went by: their nearest centre is beside the one that was found
            nearest = _among(pool, nearest.flatten(), _nearest(centres, centres, LOOKED), centres, 1)
        centres, cell = _cut(pool, nearest.flatten(), centres)
        known = known_of(pool, width, 0)
        probes = _probes(known, centres, cell)
        made = cls(pool, centres, cell, _nearest(centres, centres, max(LOOKED, 8 * probes)), probes)
        while known.recall(made.search(known.rows, k=width)[1]) < ENOUGH:
            made = made.wider()
        return made

    def wider(self) -> Cells:
        """Look for an item's cells among twice as many, at most 512; then search one more of them.

        Raise TgqError where that is too large a part of them.
        """
        beside, probes = self.beside, self.probes
        if beside.shape[1] < min(WIDEST, len(self.centres)):
            beside = _nearest(self.centres, self.centres, 2 * beside.shape[1])
        else:
            probes = _few(probes + 1, self.centres)
        return Cells(self.pool, self.centres, self.items.part, beside, probes)

    @classmethod
    def of_table(cls, pool: Tensor, table: pa.Table) -> Cells:
        """Read what `as_table` gives."""
        read = {name: torch.tensor(table[name].chunk(0).flatten().to_numpy()) for name in ("centres", "cell", "beside")}
        centres, cell = read["centres"].view(-1, pool.shape[1]), read["cell"].long()
        return cls(pool, centres, cell, read["beside"].long().view(len(centres), -1), table["probes"][0].as_py())

    def as_table(self) -> pa.Table:
        """Return a table of one row: the plan of a job."""
        number = pa.large_list(pa.int32())
        columns = {
            "probes": pa.array([self.probes]),
            "centres": pa.array([self.centres.flatten().numpy()], pa.large_list(pa.float32())),
            "cell": pa.array([self.items.part.numpy()], number),
            "beside": pa.array([self.beside.flatten().numpy()], number),
        }
        return pa.table(columns)

    def search(self, rows: Tensor, k: int, *, times: int = 1) -> tuple[Tensor, Tensor, int]:
        """Search rows [n] in their cells: (positions [n, k], scores [n, k], pairs compared).

        times: how many times the probes are searched. Whose cells hold fewer than k looks further, at last in all.
        """
        if times * self.probes > self.beside.shape[1]:
            others, scores = TopK(self.pool, k).of_rows(rows)
            return others.long(), scores.clone(), len(rows) * len(self.pool)
        positions, scores, compared = self._search(rows, k, times * self.probes)
        few = (scores[:, -1] == -torch.inf).nonzero().flatten()
        if len(few):
            positions[few], scores[few], more = self.search(rows[few], k=k, times=4 * times)
            compared += more
        return positions, scores, compared

    def _search(self, rows: Tensor, k: int, probes: int) -> tuple[Tensor, Tensor, int]:
        queries, own = self.pool[rows], self.items.part[rows]
        probed = _among(queries, own, self.beside, self.centres, probes)
        coarse, others = self.items.best(queries, probed, k + SPARE + 1)
        coarse.masked_fill_(others == rows[:, None], -torch.inf)  # each item itself
        precise = torch.from_numpy(exact_of(self.pool.numpy(), rows.numpy(), others.numpy()))
        positions, scores = ordered(precise.where(coarse > -torch.inf, -torch.inf), others)
        return positions[:, :k].clone(), scores[:, :k].clone(), int(self.items.sizes[probed].sum())


def _k_means(vectors: Tensor, count: int) -> Tensor:
    """Return the centres [count, d] of clusters of unit vectors, by spherical k-means of some of them."""
    luck = torch.Generator().manual_seed(0)
    sample = vectors[torch.randperm(len(vectors), generator=luck)[: LEARNT * count].sort().values]
    centres = sample[torch.randperm(len(sample), generator=luck)[:count]].clone()
    for _ in range(ROUNDS):
        nearest = _near(sample, centres, 1).flatten()
        sums = torch.zeros_like(centres).index_add_(0, nearest, sample)
        held = nearest.bincount(minlength=count) > 0
        centres[held] = normalize(sums[held], dim=1)
    return centres


def _near(vectors: Tensor, centres: Tensor, count: int) -> Tensor:
    """Return the `count` nearest centres of each vector [n, count]; of many centres nearly the nearest."""
    if len(centres) <= MANY:
        return _side_by_side(lambda some: _nearest(some, centres, count), vectors)
    root = sqrt(len(centres))
    middles = _k_means(centres, round(MIDDLES * root))
    beside = _nearest(middles, centres, max(count, round(WIDE * root)))
    return _among(vectors, _near(vectors, middles, 1).flatten(), beside, centres, count)


def _among(vectors: Tensor, own: Tensor, beside: Tensor, centres: Tensor, count: int) -> Tensor:
    """Return the nearest centres of each vector [n, count] among those beside its own cluster `own` [n].

    Vectors of one cluster are compared together, by one matrix product.
    """
    order = own.argsort(stable=True)

    def work(rows: Tensor) -> Tensor:
        clusters, sizes = torch.unique_consecutive(own[rows], return_counts=True)
        parts = zip(clusters.tolist(), torch.split(rows, sizes.tolist()), strict=True)
        return torch.cat([beside[one][_nearest(vectors[some], centres[beside[one]], count)] for one, some in parts])

    near = _side_by_side(work, order)
    return torch.empty_like(near).index_copy_(0, order, near)


def _side_by_side(work: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Return what `work` makes of rows, one for each; each thread takes a part of them."""
    workers = torch.get_num_threads()
    if workers == 1 or len(rows) <= BLOCK:
        return work(rows)
    size = BLOCK * min(64, ceil(len(rows) / (BLOCK * workers)))
    with one_thread_each(), ThreadPoolExecutor(workers) as threads:
        return torch.cat(list(ahead(threads, work, torch.split(rows, size), 2 * workers)))


def _cut(vectors: Tensor, nearest: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Part vectors by their nearest centres [N], without empty parts; too large ones are cut.

    Return the centre of each part, and the part of each vector [N].
    """
    parts = _Parts(vectors, nearest, len(centres))
    part, pieces = parts.pieces(ceil(LARGEST * len(vectors) / len(centres)))
    return centres.repeat_interleave(pieces, dim=0), part


def _few(probes: int, centres: Tensor) -> int:
    """Return the probes of an item. Raise TgqError where they are too large a part of the cells."""
    if probes > max(8, MOST * len(centres)):
        raise TgqError(
            f"these vectors lie in no cells: to find {AIM} of its neighbours, an item would have to look into"
            f" {probes} of {len(centres)}; leave --approximate out"
        )
    return probes


def _probes(known: Known, centres: Tensor, cell: Tensor) -> int:
    """Return how many cells an item must look into. Raise TgqError where that is too large a part of them."""
    queries, wanted = known.pool[known.rows], cell[known.positions.long()]
    ranks = []
    for few, asked in zip(torch.split(queries, 64), torch.split(wanted, 64), strict=True):
        order = _nearest(few, centres, len(centres))
        rank = torch.empty_like(order).scatter_(1, order, torch.arange(len(centres)).expand_as(order).contiguous())
        ranks.append(rank.gather(1, asked).flatten())
    needed = torch.cat(ranks).sort().values + 1
    return _few(int(needed[int(AIM * (len(needed) - 1))]), centres)


def _nearest(vectors: Tensor, centres: Tensor, count: int) -> Tensor:
    """Return the `count` nearest centres of each vector [n, count], or all where they are fewer.

    The products have one memory: small results between freed large ones would keep those from being used again.
    """
    count = min(count, len(centres))
    found = torch.empty((len(vectors), count), dtype=torch.int64)
    rows = max(1, min(BLOCK, ROOM // len(centres), len(vectors)))
    products = torch.empty(rows, len(centres))
    for some, best in zip(torch.split(vectors, rows), torch.split(found, rows), strict=True):
        scores = torch.mm(some, centres.T, out=products[: len(some)])
        best[:] = scores.argmax(dim=1, keepdim=True) if count == 1 else scores.topk(count, dim=1).indices
    return found
