"""Ranked lists: of vectors, of scores; where positives stand in them, by hand and against full-pool ranking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tgqformer.collaborative.lists import Lists, lists_of_scorer, lists_of_vectors, ranks_of_lists
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Queries, evaluate, score


def test_lists_of_vectors_are_the_nearest_and_leave_unknown_items_out() -> None:
    vectors = np.array([[1, 0], [1, 0.1], [0, 0], [0, 1], [-1, 0]], np.float32)
    found = lists_of_vectors(vectors, 3)
    assert found.items[0].tolist() == [1, 3, 4]
    assert found.items[2].tolist() == [-1, -1, -1]  # nothing is known of it
    assert 2 not in found.items
    assert found.scores[0][1] == 0.0 and found.scores[0][0] > 0.9
    some = lists_of_vectors(vectors, 3, rows=np.array([3, 2, 0]))
    assert (some.items == found.items[[3, 2, 0]]).all()


def test_equal_scores_stand_in_the_order_of_the_items_and_a_floor_cuts() -> None:
    table = torch.tensor([[0.0, 2.0, 1.0, 2.0], [2, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]])
    known = np.ones(4, bool)
    found = lists_of_scorer(lambda rows: table[torch.from_numpy(rows)], known, 10, floor=0.0)
    assert found.items[0].tolist() == [1, 3, 2]
    assert found.items[1].tolist() == [0, -1, -1]


def test_ties_at_the_last_place_go_to_the_first_items() -> None:
    flat = torch.ones(40, 40)
    flat[:, 35] = 2
    found = lists_of_scorer(lambda rows: flat[torch.from_numpy(rows)], np.ones(40, bool), 4)
    assert found.items[0].tolist() == [35, 1, 2, 3] and found.items[2].tolist() == [35, 0, 1, 3]
    assert found.items[35].tolist() == [0, 1, 2, 3]


def test_ranks_agree_with_the_full_pool_where_lists_are_long_enough() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 4)).astype(np.float32)
    vectors[10:20] = vectors[10]  # ties
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = Queries.from_pairs(rng.integers(60, size=80), rng.integers(60, size=80))
    lists = lists_of_vectors(vectors, 59)
    ours = score(queries, ranks_of_lists(lists.of(queries.query), queries, 60)).means()
    exact = evaluate(vectors, queries).means()
    assert ours == pytest.approx(exact, abs=1e-9)


def test_what_no_list_holds_is_tied_behind_it() -> None:
    lists = Lists(np.array([[1, 2], [-1, -1]], np.int32), np.array([[0.5, 0.5], [0, 0]], np.float32))
    queries = Queries.from_pairs([0, 0], [2, 3]).at([0])
    ranks = ranks_of_lists(lists.of(np.array([0])), queries, 10)
    assert ranks.above.tolist() == [0, 2]
    assert ranks.tied.tolist() == [2, 7]
    empty = ranks_of_lists(lists.of(np.array([1])), queries, 10)
    assert empty.above.tolist() == [0, 0] and empty.tied.tolist() == [9, 9]


def test_lists_are_written_and_read(tmp_path: Path) -> None:
    lists = Lists(np.array([[1, -1]], np.int32), np.array([[0.5, 0]], np.float32))
    lists.write(tmp_path / "lists.safetensors")
    again = Lists.read(tmp_path / "lists.safetensors")
    assert (again.items == lists.items).all() and again.k == 2 and len(again) == 1
    with pytest.raises(TgqError, match="no lists"):
        Lists.read(tmp_path / "absent")
    with pytest.raises(TgqError, match="as many scores"):
        Lists(np.zeros((1, 2), np.int32), np.zeros((1, 3), np.float32))
