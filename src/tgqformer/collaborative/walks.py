"""Random walks over users and items with visit counts: PinSage's neighbourhoods (KDD 2018, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tgqformer.collaborative.data import transposed
from tgqformer.collaborative.sampling import one_of
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Csr
from tgqformer.progress import progress
from tgqformer.topk import best_entries
from tgqformer.types import Floats, Ints

_STEPS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Visits:
    """For each item the items that walks from it visited most, most visited first.

    items: int64 [N, T], -1 where fewer were visited. counts: int64 [N, T], 0 there.
    """

    items: Ints
    counts: Ints

    def nearest(self, count: int, *, importance: bool = True) -> tuple[Ints, Floats]:
        """Return the first `count` neighbours and their weights, float32, which sum to 1 in each row that has any.

        importance: weights in proportion to visits (importance pooling); otherwise all alike. Where there is no
        neighbour, the item itself stands with weight 0.
        """
        items, counts = self.items[:, :count], self.counts[:, :count].astype(np.float64)
        weights = counts if importance else (counts > 0).astype(np.float64)
        weights = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
        own = np.arange(len(items), dtype=np.int64)[:, None]
        return np.where(items < 0, own, items), weights.astype(np.float32)


def walk(
    train: Csr, items: int, *, walks: int, length: int, restart: float, keep: int, seed: int, shown: bool = False
) -> Visits:
    """Walk from every item: item → one of its users → one of that user's items, uniformly, `length` such steps.

    Args:
        walks: from each item. restart: chance to go back to the item before each step, so that counts estimate
            personalised PageRank. keep: T, how many visited items stay. seed: the same gives the same walks.

    Returns:
        The visits, without those to the item itself; ties in no favour of any item.
    """
    if min(walks, length, keep) < 1 or not 0 <= restart < 1:
        raise TgqError(
            f"walks take walks, length, keep >= 1 and restart in [0, 1): {walks}, {length}, {keep}, {restart}"
        )
    by_item = transposed(train, items)
    found = np.full((items, keep), -1, np.int64), np.zeros((items, keep), np.int64)
    block = max(1, _STEPS_AT_ONCE // (walks * length))
    with progress("random walks", items, shown=shown) as bar:
        for first in range(0, items, block):
            start = np.arange(first, min(first + block, items))
            rng = np.random.default_rng([seed, first])
            there = start[np.diff(by_item.indptr)[start] > 0]
            if len(there):
                _most_visited(there, _visited(train, by_item, there, walks, length, restart, rng), items, found, rng)
            bar.advance(len(start))
    return Visits(*found)


def _visited(
    train: Csr, by_item: Csr, start: Ints, walks: int, length: int, restart: float, rng: np.random.Generator
) -> Ints:
    """Return the items visited by walks from `start` [n]: int64 [length, n * walks]; walk j starts from j // walks."""
    home = np.repeat(start, walks)
    at, seen = home.copy(), np.empty((length, len(home)), np.int64)
    for step in range(length):
        at = np.where(rng.random(len(at)) < restart, home, at)
        at = one_of(train, one_of(by_item, at, rng), rng)
        seen[step] = at
    return seen


def _most_visited(start: Ints, seen: Ints, items: int, found: tuple[Ints, Ints], rng: np.random.Generator) -> None:
    """Write the most visited items of each start into the rows of `found`."""
    home = np.repeat(start, seen.shape[1] // len(start))
    keys, counts = np.unique(home * items + seen, return_counts=True)
    source, target = np.divmod(keys, items)
    away = source != target
    source, target, counts = source[away], target[away], counts[away]
    drawn = rng.random(len(source))  # the place of an item among those visited as often
    kept, rank = best_entries(source, drawn, counts.astype(np.float64), found[0].shape[1])
    found[0][source[kept], rank] = target[kept]
    found[1][source[kept], rank] = counts[kept]
