"""Two coordinates for every item, so that a map of the catalogue can be drawn: neighbours stay neighbours.

PCA gives the start; then neighbours pull and random others push, as UMAP does it (McInnes, Healy, Melville 2018,
arXiv 1802.03426, sections 3.1 and 3.2): the same neighbour weights, the same curve, in vectorised steps over shares of
the edges instead of one edge at a time. Needs no package beyond numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tgqformer.store.rows import unit
from tgqformer.topk.exact import QUERIES, nearest_others
from tgqformer.types import Doubles, Floats, Ints

NEIGHBOURS = 15
EPOCHS, FEW_EPOCHS, SHARES, NEGATIVES = 400, 160, 6, 4
MANY = 10_000
"""So many items and more are placed in fewer epochs."""
# The curve 1 / (1 + a d^2b) that UMAP fits for a least distance of 0.5 and a spread of 1.
_A, _B = 0.583, 1.334
_LONGEST = 4.0


@dataclass(frozen=True)
class MapEdges:
    """MapEdges of a graph [m]: from `head` to `tail`, both ways, and how much each weighs."""

    head: Ints
    tail: Ints
    weight: Doubles


def lay_out(
    vectors: Floats, *, seed: int = 0, epochs: int | None = None, told: Callable[[float], None] = lambda done: None
) -> Floats:
    """Place N items on a plane: float32 [N, 2] in [0, 1], near where their vectors are near.

    vectors: [N, d], any length. told: called with the share that is done, 0 to 1. The same seed gives the same map.
    """
    count = len(vectors)
    if count < 4:
        return np.linspace(0.2, 0.8, max(count, 1), dtype=np.float32)[:count, None].repeat(2, axis=1)
    pool = unit(np.ascontiguousarray(vectors, dtype=np.float32))
    edges = _edges(pool, min(NEIGHBOURS, count - 1), lambda done: told(0.4 * done))
    places = _start(pool, seed)
    epochs = epochs or (EPOCHS if count < MANY else FEW_EPOCHS)
    places = _pulled(places, edges, epochs, np.random.default_rng(seed), lambda done: told(0.4 + 0.6 * done))
    return _framed(places)


def _start(pool: Floats, seed: int) -> Floats:
    """Return the first two principal components, scaled to +-10, with a trace of noise so that equal items can part."""
    centred = pool.astype(np.float64) - pool.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    axes = directions[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    places = centred @ axes
    places *= 10 / max(float(np.abs(places).max()), 1e-9)
    noise = np.random.default_rng([seed, 1]).normal(0, 1e-2, places.shape)
    return np.asarray(places + noise, dtype=np.float32)


def _edges(pool: Floats, k: int, told: Callable[[float], None]) -> MapEdges:
    """Weigh each item's k nearest, UMAP's way, and make the weights mutual: w + w' - w w'."""
    count, found = len(pool), []
    for done, block in enumerate(nearest_others(pool, k), 1):
        found.append(block)
        told(min(1.0, done * QUERIES / count))
    near = np.concatenate([positions for positions, _ in found])
    away = np.sqrt(np.maximum(2 - 2 * np.concatenate([scores for _, scores in found]).astype(np.float64), 0))
    one, other, weight = np.repeat(np.arange(count), k), near.ravel(), _memberships(away).ravel()
    return _mutual(MapEdges(one, other, weight), count)


def _mutual(edges: MapEdges, count: int) -> MapEdges:
    """Return every edge both ways, sorted, with the weight w + w' - w w' of its two directions; 0 where one is not."""
    ways = np.concatenate([edges.head * count + edges.tail, edges.tail * count + edges.head])
    keys, place = np.unique(ways, return_inverse=True)
    there, back = np.zeros((2, len(keys)))
    there[place[: len(edges.weight)]] = back[place[len(edges.weight) :]] = edges.weight
    return MapEdges(keys // count, keys % count, there + back - there * back)


def _memberships(away: Doubles) -> Doubles:
    """Return exp(-(d - nearest) / sigma), sigma such that each row sums to log2(k); away: [N, k], sorted."""
    beyond = away - away[:, :1]
    low, high = np.full((len(away), 1), 1e-6), np.full((len(away), 1), 10.0)
    for _ in range(40):
        sigma = (low + high) / 2
        above = np.exp(-beyond / sigma).sum(axis=1, keepdims=True) > np.log2(max(away.shape[1], 2))
        high, low = np.where(above, sigma, high), np.where(above, low, sigma)
    return np.asarray(np.exp(-beyond / sigma))


def _pulled(
    places: Floats, edges: MapEdges, epochs: int, rng: np.random.Generator, told: Callable[[float], None]
) -> Floats:
    """Let edges pull and random others push; each edge is drawn as often as it weighs."""
    heads, tails = edges.head, edges.tail
    chance = (edges.weight / edges.weight.max()).astype(np.float32)
    for epoch in range(epochs):
        step = 1.0 - epoch / epochs
        drawn = rng.permutation(np.flatnonzero(rng.random(len(chance), dtype=np.float32) < chance))
        for part in np.array_split(drawn, SHARES):
            head, tail = heads[part], tails[part]
            _push(places, head, tail, _pull_of, step)
            for _ in range(NEGATIVES):
                _push(places, head, rng.integers(len(places), size=len(head)), _push_of, step)
        told((epoch + 1) / epochs)
    return places


def _push(places: Floats, head: Ints, tail: Ints, force: Callable[[Floats], Floats], step: float) -> None:
    """Move the heads by a force along head - tail, all at once; `places` changes."""
    difference = places[head] - places[tail]
    squared = np.maximum((difference**2).sum(axis=1), 1e-12)
    moves = np.clip(force(squared)[:, None] * difference, -_LONGEST, _LONGEST) * step
    moves[head == tail] = 0
    for axis in (0, 1):
        places[:, axis] += np.bincount(head, moves[:, axis], minlength=len(places))


def _pull_of(squared: Floats) -> Floats:
    return np.asarray(-2 * _A * _B * squared ** (_B - 1) / (1 + _A * squared**_B), dtype=np.float32)


def _push_of(squared: Floats) -> Floats:
    return np.asarray(2 * _B / ((0.001 + squared) * (1 + _A * squared**_B)), dtype=np.float32)


def _framed(places: Floats) -> Floats:
    """Bring the places into [0, 1], proportions kept; the outermost two in a thousand are drawn to the rim."""
    low, high = np.quantile(places, [0.001, 0.999], axis=0)
    scale = max(float((high - low).max()), 1e-9)
    middle = (low + high) / 2
    return np.asarray(np.clip((places - middle) / scale * 0.96 + 0.5, 0, 1), dtype=np.float32)
