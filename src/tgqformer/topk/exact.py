"""The exact top K of vectors in numpy, for a process without torch; the same lists as `topk.vectors` gives."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import sqrt

import numpy as np

from tgqformer.parallel import ahead, cores
from tgqformer.types import Doubles, Floats, Ints

QUERIES = 512  # rows of one product
GROUP = 64  # columns of a product of which the best is looked at first
CACHED = 2**16  # numbers that are multiplied at once: a cache holds them


def exact(one: Floats, other: Floats) -> Floats:
    """Return the products [...] of rows [..., d] with others, broadcast: in float64, the same in any batch."""
    sums: Doubles = np.einsum("...d,...d->...", one.astype(np.float64), other.astype(np.float64))
    return sums.astype(np.float32)


def exact_of(pool: Floats, rows: Ints, others: Ints) -> Floats:
    """Return such products [n, m] of rows [n] of `pool` [N, d] with others [n, m] of it."""
    few = max(1, CACHED // (others.shape[1] * pool.shape[1]))
    parts = [(rows[start : start + few], others[start : start + few]) for start in range(0, len(rows), few)]
    return np.concatenate([exact(pool[one, None], pool[other]) for one, other in parts])


def tolerance(dim: int) -> float:
    """Return how far a float32 product of unit vectors may be from the true one, generously."""
    return 2e-7 * max(4.0, sqrt(dim))


def nearest_others(pool: Floats, k: int) -> Iterator[tuple[Ints, Floats]]:
    """Yield (positions [n, k], scores [n, k]) of the rows of `pool` [N, d], of unit length, a block at a time.

    Best first; a row itself is left out, and equal scores stand in the order of the pool. k is at most N - 1.
    """
    starts = range(0, len(pool), QUERIES)
    with ThreadPoolExecutor(cores()) as threads:
        yield from ahead(threads, lambda start: _block(pool, k, start), starts, cores())


def _block(pool: Floats, k: int, start: int) -> tuple[Ints, Floats]:
    queries = pool[start : start + QUERIES]
    scores = queries @ pool.T
    scores[np.arange(len(queries)), start + np.arange(len(queries))] = -np.inf
    peaks = scores  # the k-th best of the best of groups is no better than the k-th best of all
    if scores.shape[1] >= 2 * k * GROUP:
        peaks = np.maximum.reduceat(scores, np.arange(0, scores.shape[1], GROUP), axis=1)
    floor = np.partition(peaks, peaks.shape[1] - k, axis=1)[:, -k] - 2 * tolerance(pool.shape[1])
    positions, best = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    for row, query in enumerate(queries):
        near = np.flatnonzero(scores[row] >= floor[row])
        precise = exact(query, pool[near])
        order = np.argsort(-precise, kind="stable")[:k]
        positions[row], best[row] = near[order], precise[order]
    return positions, best
