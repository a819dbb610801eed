"""What is laid over a map: names of its clusters, and colours by brand, price, or what another version does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tgqformer.parallel import batches
from tgqformer.store.base import Hit, StoreTable
from tgqformer.store.rows import unit
from tgqformer.topk.exact import nearest_others
from tgqformer.types import Floats, Ints

By = Literal["category", "brand", "price", "version"]
OTHERS, UNKNOWN = "others", "not known"
BRANDS, BANDS, NEAREST = 9, 5, 10
COMPARED = 10_000
"""So many items of a map are compared between two versions; the first of a fixed draw."""
CLUSTERS, ROUNDS, MOST = 14, 25, 0.5
"""Clusters at most; rounds of k-means; the share of a cluster that a category needs to name it."""
KEPT = ("all ten are the same", "7 to 9 of ten", "4 to 6 of ten", "1 to 3 of ten", "none of ten")


@dataclass(frozen=True)
class Coloured:
    """A group for each of n items, int64 [n], and the names of the groups."""

    names: list[str]
    group: Ints


@dataclass(frozen=True)
class Label:
    """The name of a cluster, its middle, and how many items it has."""

    name: str
    x: float
    y: float
    count: int


def labelled(places: Floats, paths: Sequence[tuple[str, ...]]) -> list[Label]:
    """Name the clusters of a map [n, 2] by the deepest category that half of their items share; the largest first."""
    count = len(places)
    if count < 3:
        return []
    k = int(np.clip(np.sqrt(count / 20), 3, CLUSTERS))
    member = _clusters(places.astype(np.float64), min(k, count))
    found = dict[str, Label]()
    for cluster in np.argsort(-np.bincount(member), kind="stable").tolist():
        own = np.flatnonzero(member == cluster)
        if not len(own) or (name := _name([paths[place] for place in own.tolist()])) is None:
            continue
        x, y = np.median(places[own], axis=0).tolist()
        found.setdefault(name, Label(name, round(x, 4), round(y, 4), len(own)))
    return list(found.values())


def _clusters(places: Floats, k: int) -> Ints:
    """K-means from a start of points far from each other; the same every time."""
    centres = [places[int(((places - places.mean(0)) ** 2).sum(1).argmin())]]
    for _ in range(k - 1):
        away = np.min([((places - centre) ** 2).sum(1) for centre in centres], axis=0)
        centres.append(places[int(away.argmax())])
    middle = np.array(centres)
    member = np.zeros(len(places), np.int64)
    for _ in range(ROUNDS):
        member = np.stack([((places - centre) ** 2).sum(1) for centre in middle]).argmin(0)
        middle = np.array([places[member == at].mean(0) if (member == at).any() else middle[at] for at in range(k)])
    return member


def _name(paths: Sequence[tuple[str, ...]]) -> str | None:
    for level in range(max(map(len, paths)), 0, -1):
        best, count = Counter(path[:level] for path in paths).most_common(1)[0]
        if len(best) == level and count >= MOST * len(paths):
            return best[-1]
    roots = [path[0] for path in paths if path]
    return " and ".join(name for name, _ in Counter(roots).most_common(2)) or None


def by_brand(rows: Sequence[Hit | None]) -> Coloured:
    """Give the fullest brands a colour of their own."""
    names = [row.brand if row is not None else None for row in rows]
    kept = [name for name, _ in Counter(filter(None, names)).most_common(BRANDS)]
    return Coloured([*kept, OTHERS], np.array([kept.index(name) if name in kept else len(kept) for name in names]))


def by_price(rows: Sequence[Hit | None]) -> Coloured:
    """Give each fifth of the prices that are paid now a colour."""
    told = [None if row is None else row.sale_price if row.sale_price is not None else row.price for row in rows]
    prices = np.array([np.nan if price is None else price for price in told], np.float64)
    known = prices[~np.isnan(prices)]
    if not len(known):
        return Coloured([UNKNOWN], np.zeros(len(rows), np.int64))
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BANDS + 1)[1:-1], method="inverted_cdf"))
    bands = [f"up to {edges[0]:,.2f}", *(f"over {edge:,.2f}" for edge in edges)]
    group = np.where(np.isnan(prices), len(bands), np.searchsorted(edges, prices, side="left"))
    return Coloured([*bands, UNKNOWN], group.astype(np.int64))


def by_version(ids: Sequence[str], one: StoreTable, other: StoreTable) -> Coloured:
    """Say how many of an item's ten nearest are the same in another version, among the items of the map.

    An item that the other version has not, or beyond the first `COMPARED` of a fixed draw, is `UNKNOWN`.
    """
    there = {item_id for item_id, _ in other.contents()}
    both = np.array([place for place, item_id in enumerate(ids) if item_id in there], np.int64)
    if len(both) > COMPARED:
        both = np.sort(np.random.default_rng(0).choice(both, COMPARED, replace=False))
    group = np.full(len(ids), len(KEPT), np.int64)
    if len(both) > 1:
        names = [ids[place] for place in both.tolist()]
        near = [_nearest(table, names) for table in (one, other)]
        wide = near[0].shape[1]
        same = np.array([len(set(a) & set(b)) for a, b in zip(near[0].tolist(), near[1].tolist(), strict=True)])
        group[both] = np.searchsorted(-np.array([wide, 0.7 * wide, 0.4 * wide, 1, 0]), -same)
    return Coloured([*KEPT, UNKNOWN], group)


def _nearest(table: StoreTable, ids: Sequence[str]) -> Ints:
    """Return the nearest of each item among these, itself left out: [n, NEAREST], fewer where there are not so many."""
    vectors = np.concatenate([[row.vector for row in table.get(names)] for names in batches(ids, 1024)])
    pool = unit(vectors.astype(np.float32))
    return np.concatenate([places for places, _ in nearest_others(pool, min(NEAREST, len(ids) - 1))])


COLOURS: dict[By, Callable[[Sequence[Hit | None]], Coloured]] = {"brand": by_brand, "price": by_price}
