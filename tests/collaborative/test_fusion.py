from __future__ import annotations

import numpy as np
import pytest

from tgqformer.collaborative.fusion import reciprocal_rank, spread
from tgqformer.collaborative.lists import Lists
from tgqformer.errors import TgqError


def test_reciprocal_rank_by_hand() -> None:
    first, second = np.array([[3, 1, 2]]), np.array([[1, 5, -1]])
    items, scores = reciprocal_rank([first, second], 5)
    assert items.tolist() == [[1, 3, 5, 2, -1]]
    assert scores[0, 0] == pytest.approx(1 / 62 + 1 / 61) and scores[0, 2] == pytest.approx(1 / 62)


def test_equal_scores_stand_in_the_order_of_items_and_an_empty_list_is_no_vote() -> None:
    items, _ = reciprocal_rank([np.array([[4, 0], [-1, -1]]), np.array([[0, 4], [2, -1]])], 3)
    assert items.tolist() == [[0, 4, -1], [2, -1, -1]]


def test_what_cannot_be_fused_is_refused() -> None:
    with pytest.raises(TgqError, match="same queries"):
        reciprocal_rank([np.zeros((1, 2), int), np.zeros((2, 2), int)], 2)


def test_content_is_spread_over_what_is_clicked_with_it() -> None:
    content = np.array([[2, 0], [0, 3], [0, 1], [0, 0]], np.float32)
    lists = Lists(
        np.array([[1, 2], [0, -1], [-1, -1], [0, 1]], np.int32), np.array([[3, 1], [1, 0], [0, 0], [1, 1]], np.float32)
    )
    half = np.sqrt(0.5)
    expected = [[half, half], [half, half], [0, 1], [half, half]]  # a new item keeps its own; one without takes theirs
    np.testing.assert_allclose(spread(content, lists, 1.0), expected, atol=1e-6)
    np.testing.assert_allclose(spread(content, lists, 1.0, near=1)[3], [1, 0], atol=1e-6)
    np.testing.assert_allclose(spread(content, lists, 0.0)[:3], [[1, 0], [0, 1], [0, 1]])
