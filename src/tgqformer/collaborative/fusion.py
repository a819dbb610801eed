"""Content and behaviour joined: content spread over clicks, and late fusion of ranked lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from tgqformer.collaborative.lists import Lists
from tgqformer.errors import TgqError
from tgqformer.topk import best_entries
from tgqformer.types import Doubles, Ints, Vectors


def reciprocal_rank(lists: Sequence[Ints], k: int) -> tuple[Ints, Doubles]:
    """Fuse ranked lists: an item's score is the sum of 1 / (60 + its place, from 1) over the lists.

    Cormack, Clarke, Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods",
    SIGIR 2009.

    Args:
        lists: int64 [Q, K] each, items best first, -1 where a list has no more. k: length of the answer.

    Returns:
        Items int64 [Q, k], best first, -1 where there are no more, and their scores float64 [Q, k]. Equal scores stand
        in the order of the items.
    """
    if not lists or len({len(one) for one in lists}) != 1:
        raise TgqError(f"lists of the same queries can be fused; got {[len(one) for one in lists]} queries")
    queries, span = len(lists[0]), max(int(one.max(initial=0)) for one in lists) + 1
    keys = np.concatenate([(np.arange(queries)[:, None] * span + one).ravel() for one in lists])
    real = np.concatenate([(one >= 0).ravel() for one in lists])
    gains = np.concatenate([np.tile(1 / (61.0 + np.arange(one.shape[1])), queries) for one in lists])
    unique, inverse = np.unique(keys[real], return_inverse=True)
    totals: Doubles = np.asarray(np.bincount(inverse, weights=gains[real], minlength=len(unique)), np.float64)
    query, item = np.divmod(unique, span)
    kept, rank = best_entries(query, item, totals, k)
    items, scores = np.full((queries, k), -1, np.int64), np.zeros((queries, k))
    items[query[kept], rank], scores[query[kept], rank] = item[kept], totals[kept]
    return items, scores


def spread(vectors: Vectors, lists: Lists, share: float, near: int = 30) -> Vectors:
    """Spread content over behaviour: add to each item's vector `share` times that of the items clicked with it.

    x_i + share · y_i, where y_i is the direction of the mean of x_j over the first `near` of i's list, weighted by
    their scores; an item without a list keeps its own vector. It is one step of a graph convolution without weights
    (Wu et al., "Simplifying Graph Convolutional Networks", ICML 2019): what is wrong in one picture is made up for by
    its neighbours' pictures, and a new item, which has none, is compared with vectors that are right more often.

    Args:
        vectors: float32 [N, d], of any length. lists: of the N items, by a model of behaviour.

    Returns:
        float32 [N, d] of unit length, zeros for an item without content whose neighbours have none.
    """
    own = _unit(vectors)
    there = lists.items[:, :near] >= 0
    rows = np.broadcast_to(np.arange(len(own))[:, None], there.shape)[there]
    weights = np.maximum(lists.scores[:, :near][there], 0.0)
    graph = csr_array((weights, (rows, lists.items[:, :near][there])), shape=(len(own), len(own)))
    return _unit(own + share * _unit(np.asarray(graph @ own)))


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)
