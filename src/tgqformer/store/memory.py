"""Vectors in memory, found through a graph (HNSW, by faiss): for searches within a millisecond.

Rows are numbered in the order in which they come and never taken away: who asks says which of them may be found. Few
rows are compared one by one, exactly, because a graph loses some of them. How wide the graph is searched is measured.
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
EXACT_ROWS = 8000  # so few are compared one by one
EXACT_SHARE, MOST_EXACT = 0.15, 60_000  # a smaller share is, too, where it is no more rows than that
WIDTHS = (48, 64, 96, 128, 192, 256, 384, 512)  # candidates of a search that are tried
AIM, SAMPLE, MEASURED = 0.995, 100, 10  # recall of the ten nearest of so many items
PER_ITEM = 4  # candidates for each row that is asked for, at least


class MemoryIndex:
    """Vectors [n, d] of unit length. Searches may run side by side; `add` waits for them, and they for it."""

    def __init__(self, dim: int) -> None:
        self._faiss = faiss = _library()
        self.dim, self.width = dim, WIDTHS[3]
        self._index: Any = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = BUILD
        self.lock = SharedLock()

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @classmethod
    def load(cls, file: Path, dim: int, width: int) -> MemoryIndex:
        """Read what `save` wrote. Raise ValueError, RuntimeError where it is damaged, or of another width."""
        found = cls(dim)
        found._index, found.width = found._faiss.read_index(str(file)), width
        if found._index.d != dim:
            raise ValueError(f"{file} holds vectors of another width")
        return found

    def save(self, file: Path) -> None:
        """Write the graph and the vectors."""
        self._faiss.write_index(self._index, str(file))

    def add(self, vectors: Vectors) -> None:
        """Put vectors [m, d] into the graph; hold `lock.alone()` where others search."""
        self._faiss.omp_set_num_threads(1)  # of this thread: others answer
        self._index.add(np.ascontiguousarray(vectors, np.float32))

    def vectors(self) -> Vectors:
        """Return all vectors, as a view that is good until the next `add`."""
        kept = self._faiss.downcast_index(self._index.storage)
        return np.asarray(self._faiss.rev_swig_ptr(kept.get_xb(), len(self) * self.dim).reshape(len(self), self.dim))

    def measure(self, passing: Bools) -> float:
        """Choose the width by the exact neighbours of a sample; return the recall that it has."""
        rows = np.flatnonzero(passing)
        if len(rows) <= EXACT_ROWS:
            return 1.0
        chosen, recall = np.random.default_rng(0).choice(rows, SAMPLE, replace=False), 0.0
        truth = [self._compared(self.vectors()[row], MEASURED, rows)[0] for row in chosen.tolist()]
        for width in WIDTHS:
            self.width = width
            found = [self._walked(self.vectors()[row], MEASURED, passing, 1.0)[0] for row in chosen.tolist()]
            shared = [len(np.intersect1d(one, other)) for one, other in zip(found, truth, strict=True)]
            if (recall := float(np.mean(shared)) / MEASURED) >= AIM:
                break
        return recall

    def search(self, vector: Floats, k: int, passing: Bools) -> tuple[Ints, Floats]:
        """Return the rows [<= k] nearest to a vector [d] of unit length among those that pass, and their cosines."""
        count = int(np.count_nonzero(passing))
        share = count / max(len(self), 1)
        if count <= EXACT_ROWS or (share < EXACT_SHARE and count <= MOST_EXACT) or k >= count:
            return self._compared(vector, k, np.flatnonzero(passing))
        return self._walked(vector, k, passing, share)

    def _compared(self, vector: Floats, k: int, rows: Ints) -> tuple[Ints, Floats]:
        vectors = self.vectors()
        scores = vectors[rows] @ vector if len(rows) < len(vectors) else vectors @ vector
        best = np.argpartition(-scores, k - 1)[:k] if k < len(rows) else np.arange(len(rows))
        best = best[np.lexsort((rows[best], -scores[best]))]
        return rows[best], scores[best]

    def _walked(self, vector: Floats, k: int, passing: Bools, share: float) -> tuple[Ints, Floats]:
        bits = np.packbits(passing, bitorder="little")
        only = self._faiss.IDSelectorBitmap(len(self), self._faiss.swig_ptr(bits))
        wide = int(max(self.width, PER_ITEM * k) / sqrt(share))
        how = self._faiss.SearchParametersHNSW(sel=only, efSearch=wide)
        scores, rows = self._index.search(vector[None], k, params=how)
        there = rows[0] >= 0
        return rows[0][there].astype(np.int64), scores[0][there]


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
