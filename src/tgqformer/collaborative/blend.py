"""Lists of several sources blended into one, with weights learned for each bucket of queries.

A candidate of a query is an item that any source lists. It is described by two numbers a source, its score relative to
the best of that list and `10 / (10 + its place)`, both 0 where the source does not list it; and by its clicks: whether
they are few or none, and their logarithm. Its blended score is the weighted sum of these. The weights of a bucket are
those under which a query's choice is most likely any one of its held-out partners: the log of the share that they
have together in a softmax over its candidates, minus a ridge. That is a conditional logit (McFadden, 1974) with
some dozens of weights, so that a few hundred queries are enough. (To ask for each partner alike moves lists towards few
kinds of items: more partners where one is found, but more queries without any.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from tgqformer.collaborative.lists import Lists
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Queries
from tgqformer.files import read_json, write_json
from tgqformer.progress import progress
from tgqformer.topk import best_entries
from tgqformer.types import Doubles, Floats, Int32s, Ints

BUCKETS = ("warm", "few clicks", "brand-new")
"""Buckets of items by their clicks: more than few, few, none."""
_CLICKS = ("few clicks", "no click", "log of clicks")
_HALF = 10.0
_ROWS = 256
_RIDGE = 1e-2
_LEAST = 30
"""A bucket with fewer queries shares the weights learned on all."""
FITTED = f"to any partner, ridge {_RIDGE:g}"
"""What weights are fitted to: what holds some is made again where this has changed."""


@dataclass(frozen=True)
class Blend:
    """How lists are blended.

    sources: names. weights: bucket of the query (places in `BUCKETS`) → float32 [2 S + 3], in the order of `facts`.
    few: clicks up to which an item is one of few.
    """

    sources: tuple[str, ...]
    weights: Mapping[int, Floats]
    few: int = 3

    def facts(self) -> list[str]:
        """Name what each weight is of."""
        return [f"{name}, {what}" for name in self.sources for what in ("score", "place")] + [*_CLICKS]

    def apply(
        self, lists: Mapping[str, Lists], clicks: Ints, k: int, *, rows: Ints | None = None, shown: bool = False
    ) -> Lists:
        """Blend lists of N items.

        Args:
            lists: those of `sources`, of the same N items. clicks: int64 [N], of every item. A bucket without weights
                of its own takes those of the next one that has some. k: how long. rows: of these items only, int64 [Q].
        """
        bucket, extra = bucket_of(clicks, self.few), _of_clicks(clicks, self.few)
        chosen = np.arange(len(clicks)) if rows is None else rows
        mine = self._lists(lists)
        found = Lists(np.full((len(chosen), k), -1, np.int32), np.zeros((len(chosen), k), np.float32))
        with progress("blending lists", len(chosen), shown=shown) as bar:
            for first in range(0, len(chosen), _ROWS):
                block = chosen[first : first + _ROWS]
                weights = np.stack([self._of(int(code)) for code in bucket[block]])
                items, scores = _best(*_candidates(mine, block, extra), weights, k)
                found.items[first : first + len(block)] = items
                found.scores[first : first + len(block)] = scores
                bar.advance(len(block))
        return found

    def write(self, path: Path) -> None:
        """Write JSON, atomically."""
        weights = {str(code): [round(float(w), 6) for w in row] for code, row in self.weights.items()}
        facts = {"sources": list(self.sources), "few": self.few, "facts": self.facts()}
        write_json(path, {**facts, "weights": weights})

    @classmethod
    def read(cls, path: Path) -> Blend:
        """Read what `write` wrote; raises TgqError where it is not there or holds something else."""
        if not path.is_file():
            raise TgqError(f"there is no blend {path}; `tgq collab study` and `tgq collab join` write one")
        plain = read_json(path)
        try:
            weights = {int(code): np.array(row, np.float32) for code, row in plain["weights"].items()}
            blend = cls(tuple(plain["sources"]), weights, int(plain["few"]))
        except (KeyError, TypeError, ValueError) as error:
            raise TgqError(f"{path} holds no blend: {error}; make it again") from error
        if not weights or any(len(row) != len(blend.facts()) for row in weights.values()):
            raise TgqError(f"{path} does not hold {len(blend.facts())} weights a bucket; make it again")
        return blend

    def _of(self, code: int) -> Floats:
        return self.weights[min(self.weights, key=lambda other: abs(other - code))]

    def _lists(self, lists: Mapping[str, Lists]) -> list[Lists]:
        absent = [name for name in self.sources if name not in lists]
        if absent:
            raise TgqError(f"this blend needs the lists of {', '.join(absent)}; there are {', '.join(lists)}")
        return [lists[name] for name in self.sources]


def bucket_of(clicks: Ints, few: int) -> Ints:
    """Return the bucket of each item, a place in `BUCKETS`, by its clicks [N]; 1 to `few` clicks are few."""
    return np.where(clicks == 0, 2, np.where(clicks <= few, 1, 0)).astype(np.int64)


def learn_blend(lists: Mapping[str, Lists], queries: Queries, clicks: Ints, *, few: int = 3) -> Blend:
    """Learn the weights of each bucket on held-out queries.

    Args:
        lists: name → lists of all N items. queries: with their held-out partners. clicks: int64 [N], that the lists
            were made from. few: clicks up to which an item is one of few.

    Raises:
        TgqError: where no source lists any held-out partner.
    """
    mine, extra = list(lists.values()), _of_clicks(clicks, few)
    code = bucket_of(clicks, few)[queries.query]
    weights: dict[int, Floats] = {}
    for one in range(3):
        places = np.flatnonzero(code == one)
        if len(places):
            weights[one] = _fit(mine, queries.at(places if len(places) >= _LEAST else np.arange(len(code))), extra)
    return Blend(tuple(lists), weights, few)


def _relative(lists: Lists) -> Floats:
    """Scores relative to the best of their list, which is above 0 for all sources; below 0 they count as 0."""
    best = lists.scores[:, :1]
    return np.asarray(np.where(best > 0, np.maximum(lists.scores, 0) / np.where(best > 0, best, 1), 0), np.float32)


def _of_clicks(clicks: Ints, few: int) -> Floats:
    """Return what an item's clicks say of it as a candidate: float32 [N, 3], in the order of `_CLICKS`."""
    much = np.log1p(clicks) / np.log1p(max(1, int(clicks.max(initial=1))))
    return np.stack([bucket_of(clicks, few) == 1, clicks == 0, much], axis=1).astype(np.float32)


def _candidates(lists: Sequence[Lists], rows: Ints, extra: Floats) -> tuple[Ints, Ints, Floats]:
    """Return the candidates of some queries: place of the query [n], item [n], facts float32 [n, 2 S + 3]; sorted."""
    count, own = extra.shape
    keys, values = [], []
    for at, one in enumerate(lists):
        mine = one.of(rows)
        there = mine.items >= 0
        query, place = np.nonzero(there)
        keys.append(query.astype(np.int64) * count + mine.items[there])
        values.append((at, _relative(mine)[there], _HALF / (_HALF + place)))
    union, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    facts = np.zeros((len(union), 2 * len(lists) + own), np.float32)
    starts = np.concatenate([[0], np.cumsum([len(key) for key in keys])])
    for (at, scores, places), start, stop in zip(values, starts[:-1], starts[1:], strict=True):
        facts[inverse[start:stop], 2 * at], facts[inverse[start:stop], 2 * at + 1] = scores, places
    query, item = np.divmod(union, count)
    facts[:, -own:] = extra[item]
    return query, item, facts


def _best(query: Ints, item: Ints, facts: Floats, weights: Floats, k: int) -> tuple[Int32s, Floats]:
    """Return the best k candidates of each query: [Q, k]; weights: [Q, F]. Blended scores may be below 0."""
    total = (facts * weights[query]).sum(1)
    kept, rank = best_entries(query, item, total, k)
    items, scores = np.full((len(weights), k), -1, np.int32), np.zeros((len(weights), k), np.float32)
    items[query[kept], rank], scores[query[kept], rank] = item[kept], total[kept]
    return items, scores


def _fit(lists: Sequence[Lists], queries: Queries, extra: Floats) -> Floats:
    """Maximise the likelihood that a partner is chosen, by L-BFGS."""
    query, item, facts = _candidates(lists, queries.query, extra)
    positives = queries.positives
    keys = positives.rows() * len(extra) + positives.indices
    chosen = np.isin(query * len(extra) + item, keys)
    if not chosen.any():
        raise TgqError(
            "no list holds a held-out partner, so there is nothing to learn a blend from; give more sessions"
        )
    x, own = facts.astype(np.float64), query[chosen]
    counted = np.isin(query, own)  # a query none of whose partners is listed says nothing

    def loss(weights: Doubles) -> tuple[float, Doubles]:
        scores = x @ weights
        every, share = _softmax(scores[counted], query[counted])
        liked, part = _softmax(scores[chosen], own)
        value = (every - liked).sum() / len(queries) + _RIDGE * weights @ weights
        return value, (share @ x[counted] - part @ x[chosen]) / len(queries) + 2 * _RIDGE * weights

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x, np.float32)


def _softmax(scores: Doubles, group: Ints) -> tuple[Doubles, Doubles]:
    """Return the log of the sum of exponentials of each group, and each score's share of it; groups are sorted."""
    _, first, own = np.unique(group, return_index=True, return_inverse=True)
    top = np.maximum.reduceat(scores, first)
    risen = np.exp(scores - top[own])
    summed = np.add.reduceat(risen, first)
    return top + np.log(summed), risen / summed[own]
