"""Lists of several sources blended into one, with weights learned for each bucket of queries.

A candidate of a query is an item that any source lists. It is described by two numbers a source, its score relative to
the best of that list and `10 / (10 + its place)`, both 0 where the source does not list it, and by whether the item has
few clicks or none. Its blended score is their weighted sum. The weights of a bucket are those under which held-out
partners are most likely chosen: the mean log-probability, over the query's partners, of a softmax over its candidates,
minus a ridge. That is a conditional logit (McFadden, 1974): convex, some dozens of weights, so that a few hundred
queries are enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from tgqformer.collaborative.data import Ints
from tgqformer.collaborative.lists import Lists
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Queries
from tgqformer.files import read_json, write_json
from tgqformer.progress import progress

_HALF = 10.0
_ROWS = 256
_RIDGE = 1e-3
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Blend:
    """How lists are blended.

    sources: names. weights: bucket of the query → float32 [2 S + 2], in the order of `facts`.
    """

    sources: tuple[str, ...]
    weights: Mapping[int, Floats]

    def facts(self) -> list[str]:
        """Name what each weight is of."""
        return [f"{name}, {what}" for name in self.sources for what in ("score", "place")] + ["few clicks", "no click"]

    def apply(
        self, lists: Mapping[str, Lists], bucket: Ints, k: int, *, rows: Ints | None = None, shown: bool = False
    ) -> Lists:
        """Blend lists of N items.

        Args:
            lists: those of `sources`, of the same N items. bucket: int64 [N], of every item: 0 known well, 1 of few
                clicks, 2 without. A bucket without weights of its own takes those of the next one that has some. k: how
                long. rows: only of these queries, int64 [Q].
        """
        chosen = np.arange(len(bucket)) if rows is None else rows
        mine = self._lists(lists)
        found = Lists(np.full((len(chosen), k), -1, np.int32), np.zeros((len(chosen), k), np.float32))
        with progress("blending lists", len(chosen), shown=shown) as bar:
            for first in range(0, len(chosen), _ROWS):
                block = chosen[first : first + _ROWS]
                weights = np.stack([self._of(int(code)) for code in bucket[block]])
                items, scores = _best(*_candidates(mine, block, bucket), weights, k)
                found.items[first : first + len(block)] = items
                found.scores[first : first + len(block)] = scores
                bar.advance(len(block))
        return found

    def write(self, path: Path) -> None:
        """Write JSON, atomically."""
        weights = {str(code): [round(float(w), 6) for w in row] for code, row in self.weights.items()}
        write_json(path, {"sources": list(self.sources), "facts": self.facts(), "weights": weights})

    @classmethod
    def read(cls, path: Path) -> Blend:
        """Read what `write` wrote; raises TgqError where it is not there or holds something else."""
        if not path.is_file():
            raise TgqError(f"there is no blend {path}; `tgq collab study` and `tgq collab join` write one")
        plain = read_json(path)
        try:
            weights = {int(code): np.array(row, np.float32) for code, row in plain["weights"].items()}
            blend = cls(tuple(plain["sources"]), weights)
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


def learn_blend(lists: Mapping[str, Lists], queries: Queries, bucket: Ints, *, least: int = 30) -> Blend:
    """Learn the weights of each bucket on held-out queries.

    Args:
        lists: name → lists of all N items. queries: with their held-out partners. bucket: int64 [N], see `Blend.apply`.
        least: a bucket with fewer queries shares the weights learned on all.

    Raises:
        TgqError: where no source lists any held-out partner.
    """
    blend = Blend(tuple(lists), {})
    mine, code = list(lists.values()), bucket[queries.query]
    weights: dict[int, Floats] = {}
    for one in range(3):
        places = np.flatnonzero(code == one)
        if len(places):
            weights[one] = _fit(mine, queries.at(places if len(places) >= least else np.arange(len(code))), bucket)
    return Blend(blend.sources, weights)


def chained(first: Lists, second: Lists, k: int, *, near: int = 20, reach: int = 50) -> Lists:
    """Follow one list into another: an item's score is the sum over j of first × second, its own item left out.

    near: how many j of the first list. reach: how many items of j's list. k: how long the lists become.

    Content, then behaviour, says what is clicked with items that look like this one: also of an item without clicks.
    Behaviour, then content, reaches items without clicks. Each list's scores are relative to its best.
    """
    one, other = _matrix(first, near), _matrix(second, reach)
    found = Lists(np.full((len(first), k), -1, np.int32), np.zeros((len(first), k), np.float32))
    for start in range(0, len(first), _ROWS):
        block = csr_array(one[start : start + _ROWS] @ other).tocoo()
        real = block.row + start != block.col
        row, column, value = block.row[real], block.col[real], block.data[real]
        order = np.lexsort((column, -value, row))
        row, column, value = row[order], column[order], value[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        kept = rank < k
        found.items[start + row[kept], rank[kept]] = column[kept]
        found.scores[start + row[kept], rank[kept]] = value[kept]
    return found


def _matrix(lists: Lists, width: int) -> csr_array:
    items, relative = lists.items[:, :width], _relative(lists)[:, :width]
    there = items >= 0
    rows = np.broadcast_to(np.arange(len(items))[:, None], items.shape)[there]
    return csr_array((relative[there], (rows, items[there])), shape=(len(items), len(items)))


def _relative(lists: Lists) -> Floats:
    """Scores relative to the best of their list, which is above 0 for all sources; below 0 they count as 0."""
    best = lists.scores[:, :1]
    return np.asarray(np.where(best > 0, np.maximum(lists.scores, 0) / np.where(best > 0, best, 1), 0), np.float32)


def _candidates(lists: Sequence[Lists], rows: Ints, bucket: Ints) -> tuple[Ints, Ints, Floats]:
    """Give the candidates of some queries: place of the query [n], item [n], facts float32 [n, 2 S + 2]; sorted."""
    count = len(bucket)
    keys, values = [], []
    for at, one in enumerate(lists):
        mine = one.of(rows)
        there = mine.items >= 0
        query, place = np.nonzero(there)
        keys.append(query.astype(np.int64) * count + mine.items[there])
        values.append((at, _relative(mine)[there], _HALF / (_HALF + place)))
    union, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    facts = np.zeros((len(union), 2 * len(lists) + 2), np.float32)
    starts = np.concatenate([[0], np.cumsum([len(key) for key in keys])])
    for (at, scores, places), start, stop in zip(values, starts[:-1], starts[1:], strict=True):
        facts[inverse[start:stop], 2 * at], facts[inverse[start:stop], 2 * at + 1] = scores, places
    query, item = np.divmod(union, count)
    facts[:, -2], facts[:, -1] = bucket[item] == 1, bucket[item] == 2
    return query, item, facts


def _best(query: Ints, item: Ints, facts: Floats, weights: Floats, k: int) -> tuple[NDArray[np.int32], Floats]:
    """Give the best k candidates of each query: [Q, k]; weights: [Q, F]. Blended scores may be below 0."""
    total = (facts * weights[query]).sum(1)
    order = np.lexsort((item, -total, query))
    query, item, total = query[order], item[order], total[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    kept = rank < k
    items, scores = np.full((len(weights), k), -1, np.int32), np.zeros((len(weights), k), np.float32)
    items[query[kept], rank[kept]], scores[query[kept], rank[kept]] = item[kept], total[kept]
    return items, scores


def _fit(lists: Sequence[Lists], queries: Queries, bucket: Ints) -> Floats:
    """Maximise the likelihood of the partners by L-BFGS."""
    query, item, facts = _candidates(lists, queries.query, bucket)
    positives = queries.positives
    keys = positives.rows() * len(bucket) + positives.indices
    chosen = np.isin(query * len(bucket) + item, keys)
    if not chosen.any():
        raise TgqError(
            "no list holds a held-out partner, so there is nothing to learn a blend from; give more sessions"
        )
    x, group = torch.from_numpy(facts).double(), torch.from_numpy(query)
    which, own = torch.from_numpy(np.flatnonzero(chosen)), torch.from_numpy(query[chosen])
    share = 1 / torch.bincount(own, minlength=len(queries)).double()[own]
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        scores = x @ weights
        free = _log_sum(scores, group, len(queries))
        loss: Tensor = -((scores[which] - free[own]) * share).sum() / len(queries) + _RIDGE * weights.pow(2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach().float().numpy()


def _log_sum(scores: Tensor, group: Tensor, count: int) -> Tensor:
    """Log of the sum of exponentials of each group."""
    top = torch.full((count,), -torch.inf, dtype=scores.dtype).scatter_reduce(0, group, scores.detach(), "amax")
    summed = torch.zeros(count, dtype=scores.dtype).index_add(0, group, (scores - top[group]).exp())
    return top + summed.log()
