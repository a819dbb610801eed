"""Batches of pairs: reproducible, grouped by category, with every known positive found."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgqformer.errors import TgqError
from tgqformer.training.sampling import PairSampler


def sampler(pairs: list[tuple[int, int]], category: list[int], *, batch: int, group: int, seed: int = 0) -> PairSampler:
    a, b = (np.array(side, dtype=np.int64) for side in zip(*pairs, strict=True))
    codes = np.array(category, dtype=np.int64)
    return PairSampler(a, b, codes, items=len(codes), batch=batch, group=group, seed=seed)


@st.composite
def shops(draw):
    """Some items with categories, and distinct pairs a < b of them."""
    count = draw(st.integers(2, 12))
    category = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    every = [(a, b) for a in range(count) for b in range(a + 1, count)]
    pairs = draw(st.lists(st.sampled_from(every), min_size=1, max_size=20, unique=True))
    return pairs, category


@settings(max_examples=60, deadline=None)
@given(shops(), st.integers(1, 3), st.integers(1, 4), st.integers(0, 5), st.integers(0, 1000))
def test_a_batch_is_a_pure_function_of_seed_and_step(shop, groups, group, seed, step):
    pairs, category = shop
    first, second = (sampler(pairs, category, batch=groups * group, group=group, seed=seed) for _ in range(2))
    second.batch_at(step + 1)  # what was drawn before does not matter
    queries, positives = first.batch_at(step)
    again = second.batch_at(step)
    assert np.array_equal(queries, again[0]) and np.array_equal(positives, again[1])
    assert len(queries) == len(positives) == groups * group
    assert all((min(q, p), max(q, p)) in pairs for q, p in zip(queries.tolist(), positives.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(shops(), st.data())
def test_false_negatives_are_those_of_a_naive_count(shop, data):
    pairs, category = shop
    items = st.lists(st.integers(0, len(category) - 1), min_size=1, max_size=10)
    queries, positives = data.draw(items), data.draw(items)
    found = sampler(pairs, category, batch=1, group=1).false_negatives(np.array(queries), np.array(positives))
    known = {frozenset(pair) for pair in pairs}
    naive = [[q == p or frozenset((q, p)) in known for p in positives] for q in queries]
    assert found.dtype == bool and found.tolist() == naive


def test_a_repeated_pair_counts_once_as_known():
    drawn = sampler([(0, 1), (0, 1), (1, 0)], [0, 0], batch=1, group=1)
    assert drawn.false_negatives(np.array([0, 1]), np.array([1, 1])).tolist() == [[True, True], [True, True]]


def test_groups_share_the_category_of_the_first_item_of_their_pairs():
    pairs = [(n, n + 1) for n in range(0, 60, 2)]
    category = [n // 20 for n in range(60)]
    drawn = sampler(pairs, category, batch=12, group=4)
    met = set()
    for step in range(30):
        queries, positives = drawn.batch_at(step)
        for start in range(0, 12, 4):
            lower = np.minimum(queries, positives)[start : start + 4]
            assert len({category[item] for item in lower}) == 1 and len(set(lower.tolist())) == 4
            met.add(category[lower[0]])
    assert met == {0, 1, 2}


def test_a_small_category_is_filled_up():
    drawn = sampler([(0, 1), (2, 3), (4, 5), (6, 7)], [0, 0, 1, 1, 1, 1, 1, 1], batch=8, group=4)
    for step in range(20):
        assert len(drawn.batch_at(step)[0]) == 8


def test_either_item_of_a_pair_is_the_query_as_often():
    drawn = sampler([(0, 1)], [0, 0], batch=4, group=1)
    queries = np.concatenate([drawn.batch_at(step)[0] for step in range(250)])
    assert abs(queries.mean() - 0.5) < 0.07


def test_steps_and_seeds_differ():
    pairs = [(n, n + 1) for n in range(40)]
    one, other = (sampler(pairs, [0] * 41, batch=16, group=4, seed=seed) for seed in (0, 1))
    drawn = [tuple(one.batch_at(step)[0]) for step in range(5)] + [tuple(other.batch_at(step)[0]) for step in range(5)]
    assert len(set(drawn)) == 10


def test_every_pair_of_large_categories_is_drawn_alike():
    pairs = [(n, n + 50) for n in range(50)]
    drawn = sampler(pairs, [n % 50 // 25 for n in range(100)], batch=16, group=8)
    seen = Counter(int(min(pair)) for step in range(400) for pair in zip(*drawn.batch_at(step), strict=True))
    assert min(seen.values()) > 80 and max(seen.values()) < 180  # 128 expected


def test_no_pair_is_an_error():
    with pytest.raises(TgqError, match="no training pair"):
        PairSampler(*(np.zeros(0, np.int64),) * 2, np.zeros(3, np.int64), items=3, batch=1, group=1, seed=0)
