"""Full-pool retrieval metrics: exact, blocked, with ties averaged.

Every query is scored against every item of the pool but itself; never is more than a block of the score matrix held.
Items with the same score stand in no order, so each metric is its *expected value* over all orders of the tied items
(McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of tied
scores", ECIR 2008). Write a group of `t` tied items, `m` of them positives, with `a` items scored above it. Then

* hit@K = 1 - C(t-m, n) / C(t, n) with n = clip(K - a, 0, t), for the best group that holds a positive
  (hypergeometric: none of its m positives falls into the n places left);
* MRR = sum over j of P(first positive at place j of the group) / (a + j), for the same group,
  P(j) = m / (t - j + 1) * C(t-m, j-1) / C(t, j-1), negative hypergeometric, summed exactly;
* recall@K = sum over positives of n / t, divided by the number of positives;
* nDCG@K: each positive of a group gains the mean discount of the group's places, places past K giving 0; the ideal
  has all positives on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tgqformer.errors import TgqError
from tgqformer.evaluation.edges import Edges
from tgqformer.progress import progress
from tgqformer.types import ArrayLike, Bools, Doubles, Floats, Ints, Positions, Reals

if TYPE_CHECKING:
    from torch import Tensor

Matrix: TypeAlias = "Tensor | Reals"

TIE_TOLERANCE = 2e-6
"""Scores nearer than this (times the query's norm times the largest norm of the pool) count as tied.

Equal titles give equal vectors up to the last bits of the batch they were embedded in, and equal vectors give dot
products that differ in the last bits between blocks of a matrix product; both are below 1e-6 in single precision.
"""

METRICS = ("hit@10", "hit@50", "hit@100", "mrr", "ndcg@10", "recall@10", "recall@100")
"""The metrics that `score` gives, in the order of tables."""

_BLOCK_SCORES = 1 << 24  # scores held at a time when no block is given: 64 MiB
_FEW = 16  # queries of a block with fewer of which a product is no better than so many single ones
_WIDE = 256  # queries of a block of a pool so large that its columns are cut into blocks too


@dataclass(frozen=True)
class Csr:
    """Lists of pool positions, one per row: row i is `indices[indptr[i]:indptr[i + 1]]`.

    indptr: int64 [rows + 1]. indices: int64 [entries].
    """

    indptr: Ints
    indices: Ints

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, i: int) -> Ints:
        """Return the positions of row i."""
        return self.indices[self.indptr[i] : self.indptr[i + 1]]

    def at(self, chosen: Ints) -> Csr:
        """Return some of the rows, in that order."""
        lengths = self.indptr[chosen + 1] - self.indptr[chosen]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
        return Csr(indptr, self.indices[np.repeat(self.indptr[chosen], lengths) + within])

    def rows(self) -> Ints:
        """Return the row of every entry, int64 [entries]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.indptr))


@dataclass(frozen=True)
class Queries:
    """Query items and their positives, as positions in the pool.

    query: int64 [Q], each once. positives: Csr of Q rows, none of them empty, none holding its query.
    """

    query: Ints
    positives: Csr

    def __post_init__(self) -> None:
        if len(self.query) != len(self.positives):
            raise TgqError(f"{len(self.query)} queries have {len(self.positives)} lists of positives; give one each")
        if len(self.query) == 0:
            raise TgqError("there is no query with a positive; give at least one pair of two different items")
        if np.diff(self.positives.indptr).min() < 1:
            raise TgqError("a query has no positive; leave such queries out")
        if (self.positives.indices == self.query[self.positives.rows()]).any():
            raise TgqError("a query is its own positive; leave such pairs out")

    def __len__(self) -> int:
        return len(self.query)

    def at(self, places: ArrayLike) -> Queries:
        """Return some of the queries, by their places, in that order."""
        chosen = np.asarray(places, dtype=np.int64)
        return Queries(self.query[chosen], self.positives.at(chosen))

    def drawn(self, most: int) -> Queries:
        """Return at most so many of the queries, drawn at random, the same ones each time, in their order."""
        if len(self) <= most:
            return self
        return self.at(np.sort(np.random.default_rng(0).choice(len(self), most, replace=False)))

    @classmethod
    def from_pairs(cls, a: ArrayLike, b: ArrayLike) -> Queries:
        """Make every item of the pairs (a[i], b[i]) a query whose positives are all its partners.

        Pairs count in both directions; doubles and pairs of an item with itself are dropped. Queries are sorted.
        """
        return cls.from_edges(both_directions(a, b))

    @classmethod
    def from_edges(cls, edges: Ints) -> Queries:
        """Make every first item of the edges int64 [n, 2] a query whose positives are all its second ones."""
        edges = np.unique(edges, axis=0)
        query, start = np.unique(edges[:, 0], return_index=True)
        indptr = np.append(start, len(edges)).astype(np.int64)
        return cls(query, Csr(indptr, np.ascontiguousarray(edges[:, 1])))

    def in_pool(self, pool: Positions) -> Queries:
        """Return the same queries in a pool of some items, int64 [n] ascending, that holds all they name."""
        found = Csr(self.positives.indptr, np.searchsorted(pool, self.positives.indices))
        return Queries(np.searchsorted(pool, self.query), found)

    def others(self, a: ArrayLike, b: ArrayLike) -> Csr:
        """Return, per query, its partners among the pairs (a[i], b[i]) that are not its positives: what to `ignore`."""
        edges = both_directions(a, b)
        rows = np.searchsorted(self.query, edges[:, 0], sorter=(order := np.argsort(self.query)))
        rows = order[np.minimum(rows, len(order) - 1)]
        own = self.query[rows] == edges[:, 0]
        known = np.stack([rows[own], edges[own, 1]], axis=1)
        own_positives = np.stack([self.positives.rows(), self.positives.indices], axis=1)
        extra = known[~_rows_in(known, own_positives)]
        extra = extra[np.lexsort((extra[:, 1], extra[:, 0]))]
        counts = np.bincount(extra[:, 0], minlength=len(self))
        return Csr(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), np.ascontiguousarray(extra[:, 1]))


def both_directions(a: ArrayLike, b: ArrayLike) -> Ints:
    """Return both directions of the pairs (a[i], b[i]), each once; not of an item with itself: int64 [n, 2]."""
    left, right = np.asarray(a, dtype=np.int64).ravel(), np.asarray(b, dtype=np.int64).ravel()
    if len(left) != len(right):
        raise TgqError(f"pairs have {len(left)} left and {len(right)} right items; give as many of each")
    edges = np.stack([np.concatenate([left, right]), np.concatenate([right, left])], axis=1)
    return np.unique(edges[edges[:, 0] != edges[:, 1]], axis=0)


def _rows_in(rows: Ints, among: Ints) -> Bools:
    width = int(max(rows.max(initial=0), among.max(initial=0))) + 1
    inside: Bools = np.isin(rows[:, 0] * width + rows[:, 1], among[:, 0] * width + among[:, 1])
    return inside


@dataclass(frozen=True)
class Ranks:
    """Where each positive stands, in the order of `Queries.positives.indices`.

    above: int64 [entries], pool items scored strictly higher. tied: int64 [entries], items of the same score, the
    positive itself and other tied positives among them (1: no tie). Two positives of a query with equal `above` are
    tied with each other. The best possible rank is `above + 1`, the worst `above + tied`.
    """

    above: Ints
    tied: Ints


def retrieve_ranks(
    vectors: Matrix,
    queries: Queries,
    *,
    block: int | None = None,
    ignore: Csr | None = None,
    tolerance: float = TIE_TOLERANCE,
    query_vectors: Matrix | None = None,
    shown: bool = False,
) -> Ranks:
    """Rank every positive of every query in the full pool by inner product, in single precision.

    vectors: [N, d], on any device; normalise them for cosine similarity. query_vectors: [Q, d], the queries as they
    look now, where that is not how they stand in the pool (a picture that got a sticker). block: queries scored at a
    time (None: as many as fit in 64 MiB of scores; of a pool beyond a million items, 256 with a part of the pool at a
    time). ignore: rows of pool positions, one row per query, left out of that
    query's pool (known positives of training, say). tolerance: see `TIE_TOLERANCE`. shown: whether to show a bar.

    Raises TgqError when a vector is not finite, a position is outside the pool, or a positive is to be ignored.
    """
    import torch  # here, because it takes a second: tables are made of results without it

    pool = _as_float(vectors)
    _check(pool, queries, ignore)
    seen = pool[torch.from_numpy(queries.query).to(pool.device)]
    if query_vectors is not None:
        seen = _as_float(query_vectors).to(pool.device)
        if seen.shape != (len(queries), pool.shape[1]) or not bool(torch.isfinite(seen).all()):
            wanted = [len(queries), pool.shape[1]]
            raise TgqError(f"query vectors have shape {list(seen.shape)}; give finite ones, {wanted}")
    fitting = _BLOCK_SCORES // max(1, len(pool))
    margins = tolerance * torch.linalg.vector_norm(seen, dim=1) * torch.linalg.vector_norm(pool, dim=1).max()
    above, tied = np.empty((2, len(queries.positives.indices)), dtype=np.int64)
    if block is None and fitting < _FEW and tolerance >= TIE_TOLERANCE:
        return _rank_wide(pool, seen, queries, margins.double().cpu().numpy(), ignore, shown)
    block = block or max(1, fitting)
    with progress("ranking", len(queries), shown=shown) as bar:
        for start, scores in _blocks(pool, seen, queries, block, ignore):
            stop = start + len(scores)
            entries = slice(queries.positives.indptr[start], queries.positives.indptr[stop])
            part = _rank_block(scores, queries, start, margins[start:stop].double().cpu().numpy())
            above[entries], tied[entries] = part
            bar.advance(stop - start)
    return Ranks(above, tied)


def ranks_by(scores: Callable[[Ints], Floats], queries: Queries, *, block: int = 256) -> Ranks:
    """Rank every positive of every query in the full pool by scores of any kind, at most about 1.

    scores: pool positions int64 [b] -> float32 [b, N].
    """
    found = []
    for start in range(0, len(queries), block):
        chosen = queries.query[start : start + block]
        rows = scores(chosen)
        rows[np.arange(len(chosen)), chosen] = -np.inf
        found.append(_rank_block(rows, queries, start, np.full(len(chosen), TIE_TOLERANCE)))
    above, tied = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Ranks(above, tied)


def _as_float(vectors: Matrix) -> Tensor:
    import torch

    tensor = vectors if isinstance(vectors, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(vectors))
    if tensor.ndim != 2:
        raise TgqError(f"vectors have shape {list(tensor.shape)}; give a matrix [items, width]")
    return tensor.detach().float()


def _check(pool: Tensor, queries: Queries, ignore: Csr | None) -> None:
    if not bool(pool.isfinite().all()):
        raise TgqError("some item vectors hold NaN or infinity; look for a diverged training or a broken picture")
    top = max(int(queries.query.max()), int(queries.positives.indices.max()))
    if top >= len(pool) or min(int(queries.query.min()), int(queries.positives.indices.min())) < 0:
        raise TgqError(f"queries point outside the pool of {len(pool)} items; give positions in the pool")
    if ignore is None:
        return
    if len(ignore) != len(queries):
        raise TgqError(f"`ignore` has {len(ignore)} rows for {len(queries)} queries; give one row per query")
    left_out = np.stack([ignore.rows(), ignore.indices], axis=1)
    if _rows_in(np.stack([queries.positives.rows(), queries.positives.indices], axis=1), left_out).any():
        raise TgqError("an item to be ignored is a positive of the same query; use `Queries.others` to make the list")


def _blocks(
    pool: Tensor, seen: Tensor, queries: Queries, block: int, ignore: Csr | None
) -> Iterator[tuple[int, Floats]]:
    """Return (first query, scores [queries of the block, N]) with the query itself and what to ignore at -inf."""
    for start in range(0, len(queries), block):
        chosen = seen[start : start + block]
        scores: Floats = (chosen @ pool.T).cpu().numpy()
        scores[np.arange(len(chosen)), queries.query[start : start + block]] = -np.inf
        if ignore is not None:
            for i in range(len(chosen)):
                scores[i, ignore.row(start + i)] = -np.inf
        yield start, scores


def _rank_block(scores: Floats, queries: Queries, start: int, margins: Doubles) -> tuple[Ints, Ints]:
    found = [
        Edges(row[queries.positives.row(start + i)], margin).count(row)
        for i, (row, margin) in enumerate(zip(scores, margins, strict=True))
    ]
    above, tied = (np.concatenate(part) for part in zip(*found, strict=True))
    return above, tied


def _own(pool: Tensor, query: Tensor, positives: Ints) -> Floats:
    import torch

    scores: Floats = (pool[torch.from_numpy(positives).to(pool.device)] @ query).cpu().numpy()
    return scores


def _rank_wide(
    pool: Tensor, seen: Tensor, queries: Queries, margins: Doubles, ignore: Csr | None, shown: bool
) -> Ranks:
    """Rank as `retrieve_ranks` does, a part of the pool at a time: first what positives score, then how many above."""
    above, tied = np.zeros((2, len(queries.positives.indices)), dtype=np.int64)
    with progress("ranking", len(queries), shown=shown) as bar:
        for start in range(0, len(queries), _WIDE):
            stop = min(start + _WIDE, len(queries))
            edges = [Edges(_own(pool, seen[i], queries.positives.row(i)), margins[i]) for i in range(start, stop)]
            columns = max(1, _BLOCK_SCORES // (stop - start))
            for first in range(0, len(pool), columns):
                scores: Floats = (seen[start:stop] @ pool[first : first + columns].T).cpu().numpy()
                for row, i, edge in zip(scores, range(start, stop), edges, strict=True):
                    left_out = (
                        queries.query[i : i + 1] if ignore is None else np.append(ignore.row(i), queries.query[i])
                    )
                    left_out = left_out[(left_out >= first) & (left_out < first + len(row))]
                    row[left_out - first] = -np.inf
                    entries = slice(queries.positives.indptr[i], queries.positives.indptr[i + 1])
                    part_above, part_tied = edge.count(row)
                    above[entries] += part_above
                    tied[entries] += part_tied
            bar.advance(stop - start)
    return Ranks(above, tied)


def ranks_of_scores(scores: Tensor, positives: Csr, k: int) -> Ranks:
    """Rank the positives of each row of `scores` [b, N], as far as the first `k` places depend on it.

    Only equal scores tie. What cannot come into the first `k` places counts as ranked just behind them. Items at -inf
    are left out.
    """
    import torch

    place, items = (torch.from_numpy(one).to(scores.device) for one in (positives.rows(), positives.indices))
    best = scores.topk(min(k, scores.shape[1]), dim=1).values
    own, kth = scores[place, items], best[place, -1]
    first = best[place]
    at_kth = (scores == best[:, -1:]).sum(1)[place]
    inside = (own >= kth) & (own > -torch.inf)
    above = torch.where(inside, (first > own[:, None]).sum(1), k)
    tied = torch.where(inside & (own > kth), (first == own[:, None]).sum(1), torch.where(inside, at_kth, 1))
    return Ranks(above.cpu().numpy(), tied.cpu().numpy())


@dataclass(frozen=True)
class Scores:
    """Metrics of Q queries: `values[metric]` is float64 [Q] for each of `METRICS`; `query` int64 [Q] as in Queries."""

    query: Ints
    values: Mapping[str, Doubles]

    def means(self) -> dict[str, float]:
        """Return the mean of each metric over the queries."""
        return {metric: float(values.mean()) for metric, values in self.values.items()}


def score(queries: Queries, ranks: Ranks) -> Scores:
    """Turn ranks into metrics per query, each the expected value over the orders of tied items (see the module)."""
    best = _best_groups(queries.positives, ranks)
    values = {f"hit@{k}": _hit(best, k) for k in (10, 50, 100)}
    values["mrr"] = _reciprocal_rank(best)
    values["ndcg@10"] = ndcg(queries.positives, ranks, 10)
    values |= {f"recall@{k}": recall(queries.positives, ranks, k) for k in (10, 100)}
    return Scores(queries.query, {metric: values[metric] for metric in METRICS})


def evaluate(
    vectors: Matrix,
    queries: Queries,
    *,
    block: int | None = None,
    ignore: Csr | None = None,
    query_vectors: Matrix | None = None,
    shown: bool = False,
) -> Scores:
    """Rank and score in one step: `retrieve_ranks`, then `score`."""
    ranks = retrieve_ranks(vectors, queries, block=block, ignore=ignore, query_vectors=query_vectors, shown=shown)
    return score(queries, ranks)


def _best_groups(positives: Csr, ranks: Ranks) -> Ints:
    """Return, per query, (a, t, m) of the best group that holds a positive: int64 [Q, 3]."""
    starts = positives.indptr[:-1]
    above = np.minimum.reduceat(ranks.above, starts)
    inside = ranks.above == above[positives.rows()]
    tied = np.maximum.reduceat(np.where(inside, ranks.tied, 0), starts)
    return np.stack([above, tied, np.add.reduceat(inside.astype(np.int64), starts)], axis=1)


def _hit(best: Ints, k: int) -> Doubles:
    above, tied, positives = best.T
    places = np.clip(k - above, 0, tied)
    missed = np.ones(len(best))
    for i in range(int(places.max())):
        left = np.maximum(tied - i, 1)
        missed = np.where(i < places, missed * np.maximum(tied - positives - i, 0) / left, missed)
    return 1 - missed


def _reciprocal_rank(best: Ints) -> Doubles:
    cases, which = np.unique(best, axis=0, return_inverse=True)
    expected = np.array([_expected_reciprocal(int(a), int(t), int(m)) for a, t, m in cases])
    return expected[which.ravel()]


def _expected_reciprocal(above: int, tied: int, positives: int) -> float:
    place = np.arange(1, tied - positives + 2)
    left = tied - place + 1
    missed_before = np.concatenate([[1.0], np.cumprod((left - positives) / left)[:-1]])
    return float((missed_before * positives / left / (above + place)).sum())


def recall(positives: Csr, ranks: Ranks, k: int) -> Doubles:
    """Return the expected share of each row's positives within the first `k` places; no row is empty."""
    inside = np.clip(k - ranks.above, 0, ranks.tied) / ranks.tied
    shares: Doubles = np.add.reduceat(inside, positives.indptr[:-1]) / np.diff(positives.indptr)
    return shares


def ndcg(positives: Csr, ranks: Ranks, k: int) -> Doubles:
    """Return the expected nDCG@k of each row, by the best order of its positives; no row is empty."""
    discount = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    reach = np.minimum(ranks.above + ranks.tied, k)
    gain = (discount[reach] - discount[np.minimum(ranks.above, k)]) / ranks.tied
    ideal = discount[np.minimum(np.diff(positives.indptr), k)]
    gains: Doubles = np.add.reduceat(gain, positives.indptr[:-1]) / ideal
    return gains
