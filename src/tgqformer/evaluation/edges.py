"""The groups of tied scores that hold the positives of a query, and how many scores stand above and within each."""

from __future__ import annotations

import numpy as np

from tgqformer.types import Floats, Ints

_MANY_EDGES = 32


class Edges:
    """Where the groups of a query's positives with scores `own` [m] begin and end; groups never overlap."""

    def __init__(self, own: Floats, margin: float) -> None:
        order = np.argsort(-own, kind="stable")
        wide = own[order].astype(np.float64)
        group = np.concatenate([[0], np.cumsum(wide[:-1] - wide[1:] > 2 * margin)])
        first = np.searchsorted(group, np.arange(group[-1] + 1))
        last = np.append(first[1:], len(own)) - 1
        # A score belongs to a group if floor <= score < ceiling; with margin 0 the ceiling is the next float.
        self.ceiling = np.nextafter((wide[first] + margin).astype(np.float32), np.float32(np.inf))
        self.floor = (wide[last] - margin).astype(np.float32)
        self.group = np.empty_like(group)
        self.group[order] = group

    def count(self, scores: Floats) -> tuple[Ints, Ints]:
        """Return how many of some scores stand above each positive, and how many are of its group: [m] each."""
        near = scores[scores >= self.floor[-1]]
        above, reached = _count_from(near, self.ceiling), _count_from(near, self.floor)
        return above[self.group], (reached - above)[self.group]


def _count_from(scores: Floats, edges: Floats) -> Ints:
    """Count, for each edge, the scores at or above it. A pass per edge is cheaper than a sort, up to a few dozen."""
    if len(edges) > _MANY_EDGES:
        return (len(scores) - np.searchsorted(np.sort(scores), edges)).astype(np.int64)
    return np.array([np.count_nonzero(scores >= edge) for edge in edges], dtype=np.int64)
