"""The one exact top K. The one rule of order: the higher score first, and of equal scores the lower position.

Every list that is shown or stored is made here: of scores by `best_of`, of the entries of a sparse matrix by
`best_entries`, of vectors, a pool against itself, by `topk.vectors`, or without torch by `topk.exact`. Metrics take
no order of equal scores: they average over all (`evaluation.metrics`). A store that is searched live has no positions;
there, equal scores stand by id.
"""

from __future__ import annotations

import numpy as np

from tgqformer.types import Array, Doubles, Floats, Ints


def best_of(scores: Floats, k: int) -> tuple[Ints, Floats]:
    """Return (positions [n, k], scores [n, k]) of the best of each row of `scores` [n, N]; k at most N."""
    if not k or not len(scores):
        return np.empty((len(scores), k), np.int64), np.empty((len(scores), k), scores.dtype)
    kth = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k, None]
    above, tied = scores > kth, scores == kth
    if np.count_nonzero(above) + np.count_nonzero(tied) > k * len(scores):  # more ties than places: the first ones
        tied &= tied.cumsum(1, dtype=np.int32) <= k - above.sum(1, keepdims=True)
    positions = np.nonzero(above | tied)[1].reshape(len(scores), k)
    best = np.take_along_axis(scores, positions, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(positions, order, axis=1), np.take_along_axis(best, order, axis=1)


def best_entries(row: Ints, position: Array, score: Floats | Doubles, k: int) -> tuple[Ints, Ints]:
    """Return (entries, ranks): which entries are among the best `k` of their row, best first, and their ranks from 0.

    row, position, score: of each entry of a sparse matrix [n]; no row has one position twice.
    """
    order = np.lexsort((position, -score, row))
    row = row[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    return order[rank < k], rank[rank < k]
