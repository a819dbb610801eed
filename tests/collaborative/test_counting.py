from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tgqformer.collaborative.counting import (
    CooccurrenceSettings,
    EaseSettings,
    ItemKnnSettings,
    SwingSettings,
    by_similarity,
    cooccurrence,
    ease,
    item_knn,
    neighbours_of,
    popularity,
    swing,
)
from tgqformer.collaborative.data import Split, histories
from tgqformer.collaborative.graph import interactions_matrix
from tgqformer.errors import TgqError

ROWS = [[0, 1, 2], [0, 1], [1, 2, 3], [0, 1, 3]]
TRAIN = histories(np.repeat(np.arange(4), [3, 2, 3, 3]), np.array([i for row in ROWS for i in row]), 4)
MATRIX = interactions_matrix(TRAIN, 5)
X = MATRIX.toarray()


def test_cooccurrence_counts_users_of_both() -> None:
    wanted = X.T @ X
    np.fill_diagonal(wanted, 0)
    assert (cooccurrence(MATRIX, 10).toarray() == wanted).all()
    best = cooccurrence(MATRIX, 1).toarray()
    assert (best > 0).sum(1).tolist() == [1, 1, 1, 1, 0] and best[0, 1] == 3


def test_item_knn_is_the_shrunk_cosine() -> None:
    found = item_knn(MATRIX, 10, 2.0).toarray()
    assert found[0, 1] == pytest.approx(3 / (np.sqrt(3 * 4) + 2))
    assert found[2, 3] == pytest.approx(1 / (np.sqrt(2 * 2) + 2))
    assert not found.diagonal().any() and not found[4].any()


def test_swing_sums_over_pairs_of_users() -> None:
    found = swing(TRAIN, 5, SwingSettings(alpha=0.5)).toarray()
    for a, b in combinations(range(4), 2):
        both = [u for u, row in enumerate(ROWS) if a in row and b in row]
        wanted = sum(
            1 / np.sqrt(len(ROWS[u]) * len(ROWS[v])) / (0.5 + len(set(ROWS[u]) & set(ROWS[v])))
            for u, v in combinations(both, 2)
        )
        assert found[a, b] == found[b, a] == pytest.approx(wanted, rel=1e-5)


def test_ease_solves_the_regression_of_each_item_on_the_others() -> None:
    found = ease(MATRIX, 1.5, 10)
    assert not found.diagonal().any()
    for item in range(5):
        others = [i for i in range(5) if i != item]
        gram = X[:, others].T @ X[:, others] + 1.5 * np.eye(4)
        np.testing.assert_allclose(found[others, item], np.linalg.solve(gram, X[:, others].T @ X[:, item]), atol=1e-6)
    with pytest.raises(TgqError, match="dense 5 x 5"):
        ease(MATRIX, 1.5, 4)


@pytest.mark.parametrize("dense", [True, False])
def test_scores_are_sums_over_what_was_touched(dense: bool) -> None:
    similarity = ease(MATRIX, 1.0, 10) if dense else cooccurrence(MATRIX, 10)
    whole = similarity if isinstance(similarity, np.ndarray) else similarity.toarray()
    scores = by_similarity(similarity, 5).scorer(TRAIN)(np.array([3, 0]))
    np.testing.assert_allclose(scores.numpy(), (X @ whole)[[3, 0]], rtol=1e-5, atol=1e-6)


def test_popularity_offers_the_same_to_all(split: Split) -> None:
    scores = popularity(split).scorer(split.train)(np.array([0, 5])).numpy()
    assert (scores == np.bincount(split.train.indices, minlength=9)).all()


def test_neighbours_are_ordered_and_padded() -> None:
    items, scores = neighbours_of(cooccurrence(MATRIX, 10), 3)
    assert items.tolist() == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [1, 0, 2], [-1, -1, -1]]
    assert scores[0].tolist() == [3, 1, 1] and scores[4].tolist() == [0, 0, 0]


def test_settings_out_of_range_are_refused() -> None:
    for kind, bad in (
        (CooccurrenceSettings, {"neighbours": 0}),
        (ItemKnnSettings, {"shrink": -1}),
        (SwingSettings, {"neighbours": 0}),
        (EaseSettings, {"l2": 0}),
    ):
        with pytest.raises(ValueError, match=f"{next(iter(bad))}\n.*should be greater"):
            kind(**bad)
