"""Approximate neighbours of every item, for catalogues so large that exact ones take days.

The pool is cut into cells by k-means (about 2 √N of them). Each item is compared with those of the cells nearest to it,
the `probes`; all that look into one cell do it together, by one matrix product. How many probes are enough is found by
measurement: the exact neighbours of a sample say in which cells they lie. The recall of what was made is measured on
another sample, and too low a one is refused.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tgqformer.errors import TgqError
from tgqformer.files import write_json
from tgqformer.parallel import ahead, one_thread_each
from tgqformer.progress import progress
from tgqformer.stages import make_way
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.neighbours import KIND, VECTORS, Neighbours, normalised_pool, write_lists
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
REPORT = "approximate.json"


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


def build_approximate(
    embeddings: Embeddings, to: Path, k: int = 100, *, show_progress_bar: bool = True, overwrite: bool = False
) -> tuple[Neighbours, Approximation]:
    """Find nearly all of the top `k` by cosine of every item and write them to the folder `to`, as exact ones are.

    `approximate.json` there says how they were found and how many of the exact ones they are. Scores are exact. Needs
    the pool and the lists once more on the disk of `to` while it runs. A job that was killed begins anew.

    Raises: TgqError where `to` holds something and `overwrite` is False; where less than 0.98 of the exact neighbours
        of a sample are found, or a quarter of the cells would not be enough: then nothing is written.
    """
    if k < 1:
        raise TgqError(f"k is the number of neighbours to keep, at least 1; got {k}")
    make_way(to, KIND, overwrite=overwrite, sources=[embeddings.path])
    width = min(k, len(embeddings) - 1)
    if width < 1:
        raise TgqError(f"{embeddings.path} holds {len(embeddings)} vectors; neighbours need at least two")
    to.absolute().parent.mkdir(parents=True, exist_ok=True)
    hidden = tempfile.TemporaryDirectory(dir=to.absolute().parent, prefix=f".{to.name}.")
    with hidden as scratch, torch.inference_mode():
        pool = normalised_pool(embeddings, Path(scratch) / "pool.npy")
        luck = np.random.default_rng(0)
        chosen = luck.permutation(len(pool))[: 2 * SAMPLE]
        first, second = (_Known(pool, width, np.sort(part)) for part in np.array_split(chosen, 2))
        cells = _Cells(pool)
        probes = cells.probes_for(first)
        shape = (len(pool), width)
        positions = np.memmap(Path(scratch) / "positions", np.int32, "w+", shape=shape)
        scores = np.memmap(Path(scratch) / "scores", np.float32, "w+", shape=shape)
        looked = _search(cells, width, probes, (positions, scores), show_progress_bar)
        recall = second.recall(scores)
        done = Approximation(len(cells.centres), probes, looked / len(pool) ** 2, recall, len(second.rows))
        if recall < LEAST:
            raise TgqError(f"{done.told()}: below {LEAST}, so nothing was written; leave --approximate out")

        def beside(folder: Path) -> None:  # vectors for rules; too coarse for a sync, which refuses them
            np.save(folder / VECTORS, pool.numpy().astype(np.float16))
            write_json(folder / REPORT, asdict(done))

        return write_lists(to, embeddings, positions, scores, beside), done


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

    def __init__(self, pool: Tensor) -> None:
        count = round(2 * sqrt(len(pool))) if len(pool) > SMALL else 1
        luck = torch.Generator().manual_seed(0)
        sample = pool[torch.randperm(len(pool), generator=luck)[: PER_CELL * count].sort().values]
        self.pool, self.centres = pool, sample[torch.randperm(len(sample), generator=luck)[:count]].clone()
        for _ in range(ROUNDS):
            nearest = self.nearest(sample, 1).flatten()
            sums = torch.zeros_like(self.centres).index_add_(0, nearest, sample)
            held = nearest.bincount(minlength=count) > 0
            self.centres[held] = normalize(sums[held], dim=1)
        self.cell = self.nearest(pool, 1).flatten()
        self.order, self.sizes = self.cell.argsort(stable=True), self.cell.bincount(minlength=count)
        self._ends = self.sizes.cumsum(0).tolist()

    def nearest(self, vectors: Tensor, count: int) -> Tensor:
        """Return the `count` nearest cells of each vector [n, count]."""
        blocks = torch.split(vectors, ROWS)
        return torch.cat([(block @ self.centres.T).topk(count, dim=1).indices for block in blocks])

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


def _search(cells: _Cells, k: int, probes: int, lists: tuple[Array, Array], shown: bool) -> int:
    """Fill the lists of all items, in the order of their cells; return how many pairs were compared."""
    workers, looked, whole = torch.get_num_threads(), 0, TopK(cells.pool, k)
    with (
        progress("neighbours", len(cells.pool), shown=shown) as bar,
        one_thread_each(),
        ThreadPoolExecutor(workers) as threads,
    ):
        work = partial(_near, cells, k, probes)
        for rows, positions, scores, compared in ahead(threads, work, torch.split(cells.order, ROWS), 2 * workers):
            few = (scores[:, -1] == -torch.inf).nonzero().flatten()  # the cells they probe hold fewer than k
            if len(few):
                found = whole.of_rows(rows[few])
                positions[few], scores[few] = found[0].long(), found[1]
            lists[0][rows.numpy()], lists[1][rows.numpy()] = positions.numpy(), scores.numpy()
            looked += compared + len(few) * len(cells.pool)
            bar.advance(len(rows))
    return looked


def _near(cells: _Cells, k: int, probes: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Search rows [n] in the cells that each probes: (rows, positions [n, k], scores [n, k], pairs compared)."""
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
    return rows, positions[:, :k].clone(), scores[:, :k].clone(), int(sizes.sum())
