"""Vectors in memory, found through a graph (HNSW, by faiss): for searches within a millisecond.

Rows are numbered in the order in which they come and never taken away: who asks says which of them may be found. Few
rows are compared one by one, exactly, because a graph loses some of them; few are as many as cost no more than a look
at the codes of all. Where more may be found, all of them are compared by codes of one bit a dimension first, and the
best exactly. Where many may be found, the graph is searched. How wide, and how many are the best, is measured. The
codes: Gao and Long, "RaBitQ", SIGMOD 2024, https://arxiv.org/abs/2405.12497.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from tgqformer.types import Bools, Floats, Ints, Vectors

LINKS, BUILD = 16, 100  # of a node, and candidates when it is put into the graph
EXACT_ROWS, EXACT_SHARE = 2000, 8  # so few are compared one by one; or this share of all, divided by the dimensions
WALKED_SHARE, LEAST_SHARE = 0.2, 0.05  # from the first on the graph is walked, below the second never
MOST_CODED, WIDER = 100_000, 2  # between them more rows than that are left to the graph, searched so much wider
WIDTHS = (48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # candidates of a walk through the graph that are tried
CANDIDATES = (100, 200, 400, 800, 1600, 3200)  # rows that codes leave which are tried, for the ten nearest
AIM, SAMPLE, MEASURED = 0.998, 100, 10  # recall of the ten nearest of so many items
PER_ITEM = 4  # candidates of a walk for each row that is asked for, at least
GRAPH, CODES = "graph.faiss", "codes.faiss"
QUERY_BITS = 4  # of a dimension of the query, when it is compared with codes


class MemoryIndex:
    """Vectors [n, d] of unit length. Searches may run side by side; `add` waits for them, and they for it."""

    def __init__(self, dim: int) -> None:
        self._faiss = faiss = _library()
        self.dim, self.width, self.candidates = dim, WIDTHS[3], CANDIDATES[-1]
        self._index: Any = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = BUILD
        self._codes: Any = None
        self.lock = SharedLock()

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @classmethod
    def load(cls, folder: Path, dim: int, width: int, candidates: int) -> MemoryIndex:
        """Read what `save` wrote. Raise ValueError, RuntimeError where it is damaged, or of another width."""
        found = cls(dim)
        found._index, found.width = found._faiss.read_index(str(folder / GRAPH)), width
        if (folder / CODES).exists():
            found._codes, found.candidates = found._faiss.read_index(str(folder / CODES)), candidates
        if any(one.d != dim or one.ntotal != len(found) for one in (found._index, found._codes) if one is not None):
            raise ValueError(f"{folder} holds vectors of another width, or codes of others")
        return found

    def save(self, folder: Path) -> None:
        """Write the graph with the vectors, and the codes."""
        self._faiss.write_index(self._index, str(folder / GRAPH))
        if self._codes is not None:
            self._faiss.write_index(self._codes, str(folder / CODES))

    def add(self, vectors: Vectors) -> None:
        """Put vectors [m, d] into the graph; hold `lock.alone()` where others search."""
        self._faiss.omp_set_num_threads(1)  # of this thread: others answer
        vectors = np.ascontiguousarray(vectors, np.float32)
        self._index.add(vectors)
        if self._codes is not None:
            self._codes.add(vectors)

    def vectors(self) -> Vectors:
        """Return all vectors, as a view that is good until the next `add`."""
        kept = self._faiss.downcast_index(self._index.storage)
        return np.asarray(self._faiss.rev_swig_ptr(kept.get_xb(), len(self) * self.dim).reshape(len(self), self.dim))

    def measure(self, passing: Bools) -> float:
        """Make the codes, choose width and candidates by what a sample finds; return the recall of the graph."""
        rows = np.flatnonzero(passing)
        if len(rows) <= EXACT_ROWS:
            return 1.0
        luck, recall = np.random.default_rng(0), 0.0
        chosen = luck.choice(rows, SAMPLE, replace=False)
        truth = [self._compared(self.vectors()[row], MEASURED, rows)[0] for row in chosen.tolist()]
        for width in WIDTHS:
            self.width = width
            found = [self._walked(self.vectors()[row], MEASURED, passing, 1.0)[0] for row in chosen.tolist()]
            if (recall := _recall(found, truth)) >= AIM:
                break
        self._encode(luck.choice(rows, max(EXACT_ROWS, int(len(rows) * WALKED_SHARE)), replace=False), chosen)
        return recall

    def _encode(self, rows: Ints, chosen: Ints) -> None:
        """Make codes of all vectors, and choose how many candidates they leave; none where they are not good enough."""
        rotation = self._faiss.RandomRotationMatrix(self.dim, self.dim)
        rotation.init(0)
        short = self._faiss.IndexRaBitQ(self.dim, self._faiss.METRIC_INNER_PRODUCT)
        self._codes = self._faiss.IndexPreTransform(rotation, short)
        self._codes.train(self.vectors())
        self._codes.add(self.vectors())
        passing = np.zeros(len(self), bool)
        passing[rows] = True
        rows = np.flatnonzero(passing)
        truth = [self._compared(self.vectors()[row], MEASURED, rows)[0] for row in chosen.tolist()]
        for self.candidates in CANDIDATES:
            found = [self._coded(self.vectors()[row], MEASURED, passing)[0] for row in chosen.tolist()]
            if _recall(found, truth) >= AIM:
                return
        self._codes = None

    def search(self, vector: Floats, k: int, passing: Bools) -> tuple[Ints, Floats]:
        """Return the rows [<= k] nearest to a vector [d] of unit length among those that pass, and their cosines."""
        count = int(np.count_nonzero(passing))
        share = count / max(len(self), 1)
        walked = share >= (WALKED_SHARE if count <= MOST_CODED else LEAST_SHARE)
        few = count <= max(EXACT_ROWS, EXACT_SHARE * len(self) / self.dim)
        if few or k >= count or (self._codes is None and not walked):
            return self._compared(vector, k, np.flatnonzero(passing))
        return self._walked(vector, k, passing, share) if walked else self._coded(vector, k, passing)

    def _compared(self, vector: Floats, k: int, rows: Ints) -> tuple[Ints, Floats]:
        scores = self._scores(vector, rows) if len(rows) < len(self) else self.vectors() @ vector
        best = np.argpartition(-scores, k - 1)[:k] if k < len(rows) else np.arange(len(rows))
        best = best[np.lexsort((rows[best], -scores[best]))]
        return rows[best], scores[best]

    def _scores(self, vector: Floats, rows: Ints) -> Floats:
        """Return the products of a vector and these rows, which are read where they lie."""
        pointer, products = self._faiss.swig_ptr, np.empty(len(rows), np.float32)
        vector, rows = np.ascontiguousarray(vector, np.float32), np.ascontiguousarray(rows, np.int64)
        kept = self._faiss.downcast_index(self._index.storage).get_xb()
        self._faiss.fvec_inner_products_by_idx(
            pointer(products), pointer(vector), kept, pointer(rows), self.dim, 1, len(rows)
        )
        return products

    def _coded(self, vector: Floats, k: int, passing: Bools) -> tuple[Ints, Floats]:
        bits = np.packbits(passing, bitorder="little")
        only = self._faiss.IDSelectorBitmap(len(self), self._faiss.swig_ptr(bits))
        how = self._faiss.RaBitQSearchParameters(sel=only, qb=QUERY_BITS)
        how = self._faiss.SearchParametersPreTransform(index_params=how)
        _, rows = self._codes.search(vector[None], self.candidates * max(MEASURED, k) // MEASURED, params=how)
        return self._compared(vector, k, np.sort(rows[0][rows[0] >= 0]))

    def _walked(self, vector: Floats, k: int, passing: Bools, share: float) -> tuple[Ints, Floats]:
        bits = np.packbits(passing, bitorder="little")
        only = self._faiss.IDSelectorBitmap(len(self), self._faiss.swig_ptr(bits))
        wide = int(max(self.width, PER_ITEM * k) / sqrt(share) * (1 if share >= WALKED_SHARE else WIDER))
        how = self._faiss.SearchParametersHNSW(sel=only, efSearch=wide)
        scores, rows = self._index.search(vector[None], k, params=how)
        there = rows[0] >= 0
        return rows[0][there].astype(np.int64), scores[0][there]


def _recall(found: list[Ints], truth: list[Ints]) -> float:
    return float(np.mean([len(np.intersect1d(one, other)) for one, other in zip(found, truth, strict=True)])) / MEASURED


class SharedLock:
    """Many may read, or one may write; who waits to write comes before who comes to read."""

    def __init__(self) -> None:
        self._changed, self._readers, self._writing, self._waiting = threading.Condition(), 0, False, 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it beside other readers."""
        with self._changed:
            while self._writing or self._waiting:
                self._changed.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold it alone."""
        with self._changed:
            self._waiting += 1
            while self._writing or self._readers:
                self._changed.wait()
            self._waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()


def _library() -> Any:
    import faiss

    return faiss


def available() -> bool:
    """Say whether faiss is installed."""
    from importlib.util import find_spec

    return find_spec("faiss") is not None
