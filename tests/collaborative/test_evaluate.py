from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgqformer.collaborative import evaluate as module
from tgqformer.collaborative.base import Recommender
from tgqformer.collaborative.data import Ints, Split, histories
from tgqformer.collaborative.evaluate import evaluate, full_ranking, leave_one_out
from tgqformer.collaborative.settings import EvaluationSettings
from tgqformer.errors import TgqError

NOTHING = np.zeros(0, np.int64)


def scorer_of(table: np.ndarray):
    return lambda users: torch.from_numpy(table[users].astype(np.float32))


def test_full_ranking_by_hand() -> None:
    table = np.array([[9, 8, 7, 6, 5, 4], [1, 2, 3, 4, 5, 6], [3, 3, 3, 3, 3, 3.5]])
    known = histories(np.array([0, 1]), np.array([0, 5]), 3)  # hides item 0 of user 0, item 5 of user 1
    held = histories(np.array([0, 0, 1]), np.array([2, 5, 3]), 3)  # user 2 has none and does not count
    found = full_ranking(scorer_of(table), held, known, 3)
    # User 0 is shown 1 2 3: item 2 at place 2 of two; user 1 is shown 4 3 2: item 3 at place 2 of one.
    ideal = 1 + 1 / np.log2(3)
    assert found["recall@3"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["ndcg@3"] == pytest.approx((1 / np.log2(3) / ideal + 1 / np.log2(3)) / 2)
    assert found["users"] == 2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_full_ranking_is_that_of_a_plain_loop(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    table, code = rng.normal(size=(5, 9)), rng.integers(3, size=(5, 9))
    known, held = (histories(*map(np.int64, np.nonzero(code == part)), 5) for part in (0, 1))
    recall, ndcg = [], []
    for user in range(5):
        wanted = set(held.row(user).tolist())
        if wanted:
            order = [i for i in np.argsort(-table[user]) if code[user, i]][:k]
            gains = [float(i in wanted) for i in order]
            recall.append(sum(gains) / len(wanted))
            best = sum(1 / np.log2(p + 2) for p in range(min(k, len(wanted))))
            ndcg.append(sum(g / np.log2(p + 2) for p, g in enumerate(gains)) / best)
    if recall:
        found = full_ranking(scorer_of(table), held, known, k)
        assert found[f"recall@{k}"] == pytest.approx(np.mean(recall))
        assert found[f"ndcg@{k}"] == pytest.approx(np.mean(ndcg))


def test_leave_one_out_by_hand() -> None:
    table = np.array([[9, 8, 7, 6, 5.0], [5, 4, 3, 2, 1.0]])
    known = histories(np.array([0]), np.array([0]), 2)
    found = leave_one_out(
        scorer_of(table), np.array([0, 1]), np.array([2, 4]), np.array([[3, 4], [0, 1]]), known, 2
    )  # fmt: skip
    # Among sampled ones: user 0's item is first, user 1's third. Among all but the known: places 1 and 4 (from 0).
    assert found["hit@2"] == 0.5 and found["ndcg@2"] == 0.5
    assert found["full_hit@2"] == 0.5 and found["full_ndcg@2"] == pytest.approx(0.5 / np.log2(3))


def test_a_model_that_cannot_tell_items_apart_gains_nothing_by_ties() -> None:
    flat = np.ones((1, 50))
    drawn = np.arange(1, 41)[None]
    found = leave_one_out(scorer_of(flat), np.array([0]), np.array([0]), drawn, histories(NOTHING, NOTHING, 1), 10)
    assert found["hit@10"] == 0 and found["full_hit@10"] == 0


def test_blocks_change_nothing_and_users_are_drawn_by_seed(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(7, 9))
    asked: list[Ints] = []

    def scorer(known: object):
        def scores(users: Ints) -> torch.Tensor:
            asked.append(users)
            return torch.from_numpy(table[users].astype(np.float32))

        return scores

    loo = EvaluationSettings("leave-one-out", k=3, negatives=2, users=4)
    whole = evaluate(Recommender(scorer), split, loo)
    users = np.concatenate(asked)
    assert whole["users"] == 4 and len(set(users.tolist())) == 4 and 6 not in users
    monkeypatch.setattr(module, "BLOCK", 3)
    assert evaluate(Recommender(scorer), split, loo) == whole
    full = EvaluationSettings("full", k=3)
    assert evaluate(Recommender(scorer), split, full)["users"] == 6


def test_scores_that_are_no_numbers_are_refused() -> None:
    held = histories(np.array([0]), np.array([1]), 1)
    with pytest.raises(TgqError, match="not finite"):
        full_ranking(scorer_of(np.full((1, 3), np.nan)), held, histories(NOTHING, NOTHING, 1), 2)
