"""Blends: weights that are learned for each bucket find the source that is right there; chains follow lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tgqformer.collaborative.blend import Blend, learn_blend
from tgqformer.collaborative.lists import Lists, ranks_of_lists
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Queries, score

N = 120


def lists_with(right: np.ndarray, good: np.ndarray) -> Lists:
    """Lists of eight random items; where `good`, the first of them is the item's partner."""
    rng = np.random.default_rng(int(good.sum()))
    items = np.stack([rng.choice(np.delete(np.arange(N), [i, right[i]]), 8, replace=False) for i in range(N)])
    items[good, 0] = right[good]
    scores = np.broadcast_to(np.linspace(1, 0.3, 8), items.shape)
    return Lists(items.astype(np.int32), scores.astype(np.float32).copy())


def test_each_bucket_learns_which_source_to_trust() -> None:
    right = (np.arange(N) + N // 2) % N
    bucket = np.arange(N) % 3
    lists = {"a": lists_with(right, bucket == 0), "b": lists_with(right, bucket != 0)}
    queries = Queries.from_pairs(np.arange(N // 2), right[: N // 2])
    clicks = np.choose(bucket, [9, 2, 0])
    blend = learn_blend(lists, queries, clicks)
    found = blend.apply(lists, clicks, 10)
    assert (found.items[:, 0] == right).mean() > 0.9
    hit = score(queries, ranks_of_lists(found.of(queries.query), queries, N)).means()["hit@10"]
    assert hit > 0.99
    some = blend.apply(lists, clicks, 10, rows=np.array([5, 7]))
    assert (some.items == found.items[[5, 7]]).all()


def test_weights_are_those_under_which_any_partner_is_likeliest() -> None:
    right, other = (np.arange(N) + N // 2) % N, (np.arange(N) + 7) % N
    lists = {"a": lists_with(right, np.arange(N) % 2 == 0), "b": lists_with(other, np.arange(N) % 3 == 0)}
    asked, clicks = np.arange(N // 2), np.full(N, 9)
    queries = Queries.from_pairs(np.repeat(asked, 2), np.stack([right, other], 1)[: N // 2].ravel())
    partners = queries.positives.rows() * N + queries.positives.indices
    learned = learn_blend(lists, queries, clicks).weights[0].astype(np.float64)

    def loss(weights: np.ndarray) -> float:
        found = Blend(("a", "b"), {0: weights.astype(np.float32)}).apply(lists, clicks, 16, rows=queries.query)
        scores = np.where(found.items >= 0, found.scores.astype(np.float64), -np.inf)
        partner = np.isin(np.arange(len(queries))[:, None] * N + found.items, partners) & (found.items >= 0)
        every, liked = np.exp(scores).sum(1), (np.exp(scores) * partner).sum(1)
        there = liked > 0
        return float(np.log(every[there] / liked[there]).sum() / len(queries) + 0.01 * (weights**2).sum())

    for at in range(len(learned)):
        for step in (-0.1, 0.1):
            assert loss(learned) < loss(learned + step * np.eye(len(learned))[at])


def test_a_blend_is_written_and_read(tmp_path: Path) -> None:
    blend = Blend(("a", "b"), {0: np.arange(7, dtype=np.float32)}, 5)
    blend.write(tmp_path / "blend.json")
    again = Blend.read(tmp_path / "blend.json")
    assert again.sources == ("a", "b") and again.weights[0].tolist() == [0, 1, 2, 3, 4, 5, 6] and again.few == 5
    assert again.facts()[0] == "a, score" and again.facts()[-1] == "log of clicks"
    (tmp_path / "short.json").write_text('{"sources": ["a"], "few": 3, "weights": {"0": [1.0]}}')
    with pytest.raises(TgqError, match="5 weights"):
        Blend.read(tmp_path / "short.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(TgqError, match="no blend"):
        Blend.read(tmp_path / "other.json")
    with pytest.raises(TgqError, match="there is no blend"):
        Blend.read(tmp_path / "absent.json")
    with pytest.raises(TgqError, match="needs the lists of b"):
        blend.apply({"a": Lists(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32))}, np.zeros(1, np.int64), 1)


def test_nothing_to_learn_from_is_said() -> None:
    lists = {"a": Lists(np.full((4, 2), -1, np.int32), np.zeros((4, 2), np.float32))}
    with pytest.raises(TgqError, match="no list holds"):
        learn_blend(lists, Queries.from_pairs([0], [1]), np.zeros(4, np.int64))
