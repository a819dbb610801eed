"""What shops count: popularity, co-occurrence, item-kNN, Swing, EASE. No training, an item x item matrix.

A user's score of item j is the sum of S[i, j] over the items i that it touched; S [N, N] is sparse but for EASE.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.sparse import csr_array, vstack
from torch import Tensor

from tgqformer.collaborative.base import Recommender, Scorer
from tgqformer.collaborative.data import Split
from tgqformer.collaborative.graph import interactions_matrix
from tgqformer.config import NaturalFloat, Positive, PositiveFloat, settings
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Csr
from tgqformer.pairs.interactions import Interactions
from tgqformer.pairs.mining import MiningSettings, Window
from tgqformer.pairs.pairs import mine_pairs
from tgqformer.topk import best_entries
from tgqformer.types import Array, Floats, Ints

_ROWS_AT_ONCE = 1024


@settings
class PopularitySettings:
    """Popularity: every user is offered what most users touched. It has no settings."""


@settings
class CooccurrenceSettings:
    """Co-occurrence: S[i, j] is the number of users of both.

    Args:
        neighbours: so many of the best j of each i stay.
    """

    neighbours: Positive = 200


@settings
class ItemKnnSettings:
    """Item-kNN: S[i, j] = c(i, j) / (sqrt(c(i) c(j)) + shrink) (Sarwar et al., WWW 2001).

    Args:
        neighbours: so many of the best j of each i stay. shrink: how much small counts are held back.
    """

    neighbours: Positive = 200
    shrink: NaturalFloat = 10.0


@settings
class SwingSettings:
    """Swing: pairs of users who share both items, weighed down by what else they share (arXiv 2010.05525).

    Args:
        neighbours: so many of the best j of each i stay. alpha: as in `tgq pairs mine`, which weighs pairs alike.
        max_session: so many items of a user count, the latest.
    """

    neighbours: Positive = 200
    alpha: float = 1.0
    max_session: int = 200


@settings
class EaseSettings:
    """EASE: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.

    Args:
        l2: λ. max_items: a catalogue with more is refused, because the matrix [N, N] is dense: 12 N² bytes, about.
    """

    l2: PositiveFloat = 500.0
    max_items: int = 30_000


def cooccurrence(matrix: csr_array, neighbours: int) -> csr_array:
    """Count users of two items: [N, N] of a user x item matrix [U, N] of ones."""
    return _blocks(matrix, neighbours, lambda block, first: block)


def item_knn(matrix: csr_array, neighbours: int, shrink: float) -> csr_array:
    """Cosine of the items' columns, shrunk: [N, N]."""
    root = np.sqrt(np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel())

    def cosine(block: csr_array, first: int) -> csr_array:
        found = block.tocoo()
        values = found.data / (root[found.row + first] * root[found.col] + shrink)
        return csr_array((values, (found.row, found.col)), shape=block.shape)

    return _blocks(matrix, neighbours, cosine)


def swing(rows: Csr, items: int, options: SwingSettings) -> csr_array:
    """Swing weights [N, N], symmetric: a pair stays if each item is among the best `neighbours` of the other."""
    names = pa.array([f"{i:09d}" for i in range(items)], pa.string())
    users = pa.array([f"{u:09d}" for u in range(len(rows))], pa.string())
    log = Interactions(rows.rows().astype(np.int32), rows.indices.astype(np.int32), users, names)
    cap, alpha, longest = options.neighbours, options.alpha, options.max_session
    mining = MiningSettings(window=Window(), cap=cap, weighting="swing", alpha=alpha, max_session=longest)
    table = mine_pairs(log, mining).table
    a, b = (np.asarray(table[side].to_pylist(), dtype=np.int64).reshape(-1) for side in ("a", "b"))
    weight = table["weight"].to_numpy().astype(np.float32)
    there = np.concatenate([a, b]), np.concatenate([b, a])
    return csr_array((np.concatenate([weight, weight]), there), shape=(items, items))


def ease(matrix: csr_array, l2: float, max_items: int) -> Array:
    """EASE's weights [N, N], float32, zero diagonal: B = I - P diag(1 / diag P), P = (X^T X + λ I)^-1.

    Raises:
        TgqError: where there are more than `max_items` items.
    """
    items = matrix.shape[1]
    if items > max_items:
        raise TgqError(
            f"EASE keeps a dense {items} x {items} matrix, {12e-9 * items**2:.1f} GB while it is made; raise"
            " options.max_items if there is memory for it, or use item-knn"
        )
    gram = (matrix.T @ matrix).toarray().astype(np.float64)
    gram[np.diag_indices(items)] += l2
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(torch.from_numpy(gram))).numpy()
    weights = inverse / -np.diag(inverse)
    weights[np.diag_indices(items)] = 0.0
    return weights.astype(np.float32)


def neighbours_of(similarity: csr_array | Array, count: int) -> tuple[Ints, Floats]:
    """Return the best `count` others of each item, int64 [N, count], -1 where none is left, and their scores, float32.

    Only similarities above 0 count; equal ones stand in the order of the items.
    """
    rows = csr_array(similarity)
    items = np.full((rows.shape[0], count), -1, np.int64)
    scores = np.zeros((rows.shape[0], count), np.float32)
    found = rows.tocoo()
    above = found.data > 0
    row, column, value = found.row[above], found.col[above], found.data[above]
    kept, rank = best_entries(row, column, value, count)
    items[row[kept], rank], scores[row[kept], rank] = column[kept], value[kept]
    return items, scores


def by_similarity(similarity: csr_array | Array, items: int) -> Recommender:
    """Score by the sum of similarities to what a user touched."""

    def scorer(known: Csr) -> Scorer:
        touched = interactions_matrix(known, items)

        def scores(users: Ints) -> Tensor:
            product = touched[users] @ similarity
            dense = product.toarray() if not isinstance(product, np.ndarray) else product
            return torch.from_numpy(np.asarray(dense, dtype=np.float32))

        return scores

    return Recommender(scorer)


def popularity(split: Split) -> Recommender:
    """Score every item by its number of training interactions, for every user."""
    counts = torch.from_numpy(np.bincount(split.train.indices, minlength=split.items).astype(np.float32))
    return Recommender(lambda known: lambda users: counts.expand(len(users), -1).clone())


def _blocks(matrix: csr_array, neighbours: int, weigh: Any) -> csr_array:
    """Multiply X^T X some rows at a time, without the diagonal, keeping the best of each row."""
    transpose, parts = csr_array(matrix.T.tocsr()), []
    for first in range(0, transpose.shape[0], _ROWS_AT_ONCE):
        block = csr_array(transpose[first : first + _ROWS_AT_ONCE] @ matrix)
        found = block.tocoo()
        apart = found.row + first != found.col
        block = csr_array((found.data[apart], (found.row[apart], found.col[apart])), shape=block.shape)
        parts.append(_best(weigh(block, first), neighbours))
    return csr_array(vstack(parts, format="csr").astype(np.float32))


def _best(rows: csr_array, count: int) -> csr_array:
    """Keep the `count` greatest entries above 0 of each row; equal ones by the order of columns."""
    found = rows.tocoo()
    positive = found.data > 0
    row, column, value = found.row[positive], found.col[positive], found.data[positive]
    kept, _ = best_entries(row, column, value, count)
    return csr_array((value[kept], (row[kept], column[kept])), shape=rows.shape)
