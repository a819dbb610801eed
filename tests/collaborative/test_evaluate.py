from __future__ import annotations

from itertools import permutations

import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgqformer.collaborative import evaluate as module
from tgqformer.collaborative.base import Recommender
from tgqformer.collaborative.data import Ints, Split, SplitSettings, histories, part
from tgqformer.collaborative.evaluate import evaluate, full_ranking, leave_one_out
from tgqformer.collaborative.settings import EvaluationSettings
from tgqformer.errors import TgqError
from tgqformer.pairs.interactions import Interactions

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


def test_an_item_that_a_user_came_back_to_can_be_hit() -> None:
    log = Interactions.of(["a", "a", "a", "a", "b"], ["1", "2", "3", "1", "4"])
    parts = part(log, SplitSettings("leave-one-out"))
    again, new = (parts.item_names.index(name) for name in "14")
    assert parts.test.row(0).tolist() == [again] and again in parts.known().row(0)
    for own, hit in ((2, 1), (0, 0)):  # of a, items 2 and 3 are known and not ranked: 1 and 4 are
        table = np.full((2, 4), 9.0)
        table[0, [again, new]] = own, 1
        found = evaluate(Recommender(lambda _, table=table: scorer_of(table)), parts, EvaluationSettings("full", k=1))
        assert found["recall@1"] == found["ndcg@1"] == hit


def test_a_model_that_cannot_tell_items_apart_scores_as_chance() -> None:
    flat = np.ones((1, 50))
    drawn = np.arange(1, 41)[None]
    nobody = histories(NOTHING, NOTHING, 1)
    found = leave_one_out(scorer_of(flat), np.array([0]), np.array([0]), drawn, nobody, 10)
    assert found["hit@10"] == pytest.approx(10 / 41) and found["full_hit@10"] == pytest.approx(10 / 50)
    gain = sum(1 / np.log2(place + 1) for place in range(1, 11))
    assert found["ndcg@10"] == pytest.approx(gain / 41) and found["full_ndcg@10"] == pytest.approx(gain / 50)


def test_five_held_out_items_that_tie_with_45_others() -> None:
    """Worked out by hand: each of the 50 stands in the first ten with chance 10/50, so recall@10 is 0.2."""
    table = np.concatenate([np.ones(50), np.zeros(30)])[None]
    held = histories(np.zeros(5, np.int64), np.array([40, 41, 45, 47, 49]), 1)
    found = full_ranking(scorer_of(table), held, histories(NOTHING, NOTHING, 1), 10)
    assert found["recall@10"] == pytest.approx(0.2)
    discount = 1 / np.log2(np.arange(2, 12))
    assert found["ndcg@10"] == pytest.approx(5 * discount.sum() / 50 / discount[:5].sum())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.integers(1, 7), st.integers(1, 2**6 - 1))
def test_full_ranking_is_the_mean_over_all_orders_of_equal_scores(levels: list[int], k: int, chosen: int) -> None:
    wanted = [item for item in range(len(levels)) if chosen >> item & 1] or [0]
    held = histories(np.zeros(len(wanted), np.int64), np.array(wanted), 1)
    found = full_ranking(scorer_of(np.array([levels])), held, histories(NOTHING, NOTHING, 1), k)
    recalls, gains = [], []
    ideal = sum(1 / np.log2(place + 2) for place in range(min(k, len(wanted))))
    for order in permutations(range(len(levels))):
        top = sorted(order, key=lambda item: -levels[item])[:k]
        recalls.append(sum(item in wanted for item in top) / len(wanted))
        gains.append(sum((item in wanted) / np.log2(place + 2) for place, item in enumerate(top)) / ideal)
    assert found[f"recall@{k}"] == pytest.approx(np.mean(recalls))
    assert found[f"ndcg@{k}"] == pytest.approx(np.mean(gains))


def test_full_ranking_agrees_with_ir_measures() -> None:
    rng = np.random.default_rng(5)
    table = rng.normal(size=(20, 60)).astype(np.float32)
    known, held = (histories(*map(np.int64, np.nonzero(rng.random((20, 60)) < 0.1)), 20) for _ in range(2))
    qrels, run = {}, {}
    for user in np.flatnonzero(np.diff(held.indptr)).tolist():
        qrels[str(user)] = {str(item): 1 for item in held.row(user).tolist()}
        hidden = set(known.row(user).tolist()) - set(held.row(user).tolist())
        run[str(user)] = {str(item): float(s) for item, s in enumerate(table[user]) if item not in hidden}
    theirs = ir_measures.calc_aggregate([ir_measures.R @ 10, ir_measures.nDCG @ 10], qrels, run)
    found = full_ranking(scorer_of(table), held, known, 10)
    assert found["recall@10"] == pytest.approx(theirs[ir_measures.R @ 10], abs=1e-9)
    assert found["ndcg@10"] == pytest.approx(theirs[ir_measures.nDCG @ 10], abs=1e-9)


def test_without_a_held_out_item_all_is_zero() -> None:
    nobody, table = histories(NOTHING, NOTHING, 1), np.ones((1, 5))
    assert full_ranking(scorer_of(table), nobody, nobody, 3) == {"recall@3": 0, "ndcg@3": 0, "users": 0}
    found = leave_one_out(scorer_of(table), NOTHING, NOTHING, np.zeros((0, 2), np.int64), nobody, 3)
    assert list(found) == ["hit@3", "full_hit@3", "ndcg@3", "full_ndcg@3", "users"] and set(found.values()) == {0}


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
