"""Reference rankers: how well one could rank knowing what the shopper simulator knows. They bound every model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from scipy.special import gammaln

from tgqformer.pairs.pairs import Pairs
from tgqformer.progress import progress
from tgqformer.synthetic.shoppers import ROWS, Affinity
from tgqformer.types import Bools, Doubles, Floats, Ints

RANKERS = ("affinity", "group + tastes", "group", "random")


def reference_rankers(
    affinity: Affinity, pairs: Pairs, *, ks: Sequence[int] = (10, 100), shown: bool = False
) -> pa.Table:
    """Rank the full pool, for every item of `pairs`, by what the simulator knows; return hit rates.

    Rankers: `affinity` (the true affinity), `group + tastes` (the group, items of the same taste attributes first),
    `group` (in random order), `random`. The pool is all items of `affinity` but the query. Ties are averaged: a hit
    rate is the expectation over random orders of equal scores. Columns: ranker, H@k for every k (shares), queries.
    Raises TgqError when a pair has an item that `affinity` has not.
    """
    partners = _partners(pairs.positions(affinity.ids), len(affinity.ids))
    hits: dict[str, list[Doubles]] = {name: [np.zeros((0, len(ks)))] for name in RANKERS}
    with progress("reference rankers", len(affinity.groups), shown=shown) as bar:
        for group in affinity.groups:
            for name, found in _group_hits(affinity, group, partners, ks):
                hits[name].append(found)
            bar.advance()
    joined = {name: np.concatenate(found) for name, found in hits.items()}
    columns: dict[str, list[object]] = {"ranker": list(RANKERS)}
    for place, k in enumerate(ks):
        columns[f"H@{k}"] = [float(found[:, place].mean()) if len(found) else None for found in joined.values()]
    columns["queries"] = [len(found) for found in joined.values()]
    return pa.table(columns)


def tied_hits(scores: Floats, positive: Bools, k: int) -> Doubles:
    """Return the chance [r] that the top k of each row holds a positive, over random orders of equal scores.

    scores: [r, n]; -inf: not in the pool. positive: bool [r, n].
    """
    k = min(k, scores.shape[1])
    edge = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k][:, None]
    above, tied = scores > edge, (scores == edge) & np.isfinite(scores)
    sure = (above & positive).any(axis=1)
    chance = _hit_chance(tied.sum(axis=1), (tied & positive).sum(axis=1), k - above.sum(axis=1))
    return np.where(sure, 1.0, chance)


def _hit_chance(items: Ints, positives: Ints, drawn: Ints) -> Doubles:
    """Return 1 − C(items − positives, drawn) / C(items, drawn): at least one positive among `drawn` of `items`."""
    rest = items - positives
    drawn = np.minimum(drawn, items)
    possible = rest >= drawn
    safe = np.where(possible, rest - drawn, 0)
    log = gammaln(rest + 1) - gammaln(safe + 1) - gammaln(items + 1) + gammaln(items - drawn + 1)
    return np.where(possible, 1 - np.exp(log), 1.0)


def _group_hits(
    affinity: Affinity, group: Ints, partners: sp.csr_matrix, ks: Sequence[int]
) -> Iterator[tuple[str, Doubles]]:
    """Return (ranker, hits [r, len(ks)]) for the queries of one group, a block at a time."""
    wanted = np.flatnonzero(np.diff(partners.indptr)[group] > 0)
    for first in range(0, len(wanted), ROWS):
        rows = wanted[first : first + ROWS]
        mine = partners[group[rows]]
        inside = mine[:, group].toarray() > 0
        total = np.diff(mine.indptr)
        blank = np.zeros((len(rows), len(group)), dtype=np.float32)
        scores = (affinity.rows(group, rows), affinity.tastes_only(group[rows], group), blank)
        for name, score in zip(RANKERS, scores, strict=False):
            score[np.arange(len(rows)), rows] = -np.inf
            yield name, np.stack([tied_hits(score, inside, k) for k in ks], axis=1)
        pool = np.full(len(rows), len(affinity.ids) - 1)
        yield RANKERS[-1], np.stack([_hit_chance(pool, total, np.full(len(rows), k)) for k in ks], axis=1)


def _partners(positions: Ints, n: int) -> sp.csr_matrix:
    """Return the symmetric 0/1 matrix [n, n] of pairs."""
    a, b = positions[:, 0], positions[:, 1]
    ones = np.ones(2 * len(a), dtype=np.int8)
    return sp.csr_matrix((ones, (np.concatenate([a, b]), np.concatenate([b, a]))), shape=(n, n))
