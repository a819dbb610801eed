"""Metrics against hand-worked cases, against every order of the ties, and against an independent package."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations

import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgqformer.errors import TgqError
from tgqformer.evaluation import metrics
from tgqformer.evaluation.metrics import METRICS, Csr, Queries, Ranks, evaluate, retrieve_ranks, score
from tgqformer.topk.vectors import nearest_items

torch.set_num_threads(1)


def one_query(scores: Iterable[float]) -> np.ndarray:
    """Give vectors of width 2 whose inner product with item 0 is `scores` (item 0 itself has 1)."""
    return np.array([[1.0, 0.0]] + [[s, 0.0] for s in scores], dtype=np.float32)


def csr(*rows: list[int]) -> Csr:
    lengths = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    return Csr(lengths, np.array([i for row in rows for i in row], dtype=np.int64))


def test_pairs_count_in_both_directions_once() -> None:
    queries = Queries.from_pairs([3, 1, 1, 2], [1, 3, 2, 2])
    assert queries.query.tolist() == [1, 2, 3]
    assert [queries.positives.row(i).tolist() for i in range(3)] == [[2, 3], [1], [1]]


def test_others_are_known_partners_that_are_not_positives() -> None:
    queries = Queries.from_pairs([0, 4], [1, 5])
    others = queries.others([0, 0, 2, 4, 9], [1, 2, 0, 3, 8])
    assert [others.row(i).tolist() for i in range(4)] == [[2], [], [3], []]


def test_a_single_positive_by_hand() -> None:
    queries = Queries(np.array([0]), csr([3]))
    vectors = one_query([0.9, 0.8, 0.7, 0.6])
    ranks = retrieve_ranks(vectors, queries)
    assert (ranks.above.tolist(), ranks.tied.tolist()) == ([2], [1])
    means = score(queries, ranks).means()
    assert means["mrr"] == pytest.approx(1 / 3)
    assert means["ndcg@10"] == pytest.approx(1 / np.log2(4))
    assert means["hit@10"] == means["recall@10"] == 1


def test_two_positives_by_hand() -> None:
    """Positives at ranks 1 and 12 of 12: recall@10 one half, nDCG@10 1 / (1 + 1/log2 3)."""
    queries = Queries(np.array([0]), csr([1, 12]))
    means = evaluate(one_query([1 - i / 20 for i in range(12)]), queries).means()
    assert means["hit@10"] == means["mrr"] == 1
    assert means["recall@10"] == 0.5
    assert means["recall@100"] == 1
    assert means["ndcg@10"] == pytest.approx(1 / (1 + 1 / np.log2(3)))


def test_ties_by_hand() -> None:
    """One positive among 20 tied items: half of the orders put it into the top ten."""
    queries = Queries(np.array([0]), csr([7]))
    means = evaluate(one_query([0.5] * 20), queries).means()
    assert means["hit@10"] == pytest.approx(0.5)
    assert means["recall@10"] == pytest.approx(0.5)
    assert means["mrr"] == pytest.approx(sum(1 / r for r in range(1, 21)) / 20)
    assert means["hit@50"] == 1


def test_the_query_itself_is_not_in_its_pool() -> None:
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    ranks = retrieve_ranks(vectors, Queries(np.array([0]), csr([1])))
    assert (ranks.above.tolist(), ranks.tied.tolist()) == ([0], [1])


def test_ignored_items_do_not_take_a_place() -> None:
    queries = Queries(np.array([0]), csr([3]))
    ranks = retrieve_ranks(one_query([0.9, 0.8, 0.7]), queries, ignore=csr([1]))
    assert ranks.above.tolist() == [1]
    with pytest.raises(TgqError, match="ignored"):
        retrieve_ranks(one_query([0.9, 0.8, 0.7]), queries, ignore=csr([3]))
    with pytest.raises(TgqError, match="rows"):
        retrieve_ranks(one_query([0.9, 0.8, 0.7]), queries, ignore=csr([1], [2]))


def dcg(places: list[int], k: int) -> float:
    return sum(1 / np.log2(place + 1) for place in places if place <= k)


def plain_metrics(places: list[int]) -> dict[str, float]:
    """Metrics of positives at these places (1 is best), worked out in the plainest way."""
    first = min(places)
    values = {f"hit@{k}": float(first <= k) for k in (10, 50, 100)}
    values |= {f"recall@{k}": sum(p <= k for p in places) / len(places) for k in (10, 100)}
    values |= {"mrr": 1 / first, "ndcg@10": dcg(places, 10) / dcg(list(range(1, len(places) + 1)), 10)}
    return values


@settings(max_examples=60, deadline=None)
@given(
    levels=st.lists(st.integers(0, 2), min_size=2, max_size=6),
    lead=st.integers(0, 11),
    data=st.data(),
)
def test_ties_equal_the_mean_over_all_orders(levels: list[int], lead: int, data: st.DataObject) -> None:
    """`lead` items stand above; the rest tie at up to three levels; every order of them is enumerated."""
    size = len(levels)
    positives = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=size))
    queries = Queries(np.array([0]), csr([1 + lead + i for i in sorted(positives)]))
    got = evaluate(one_query([0.95] * lead + [0.1 + 0.2 * level for level in levels]), queries).means()
    orders = list(permutations(range(size)))
    sums = dict.fromkeys(METRICS, 0.0)
    for order in orders:
        ranked = sorted(order, key=lambda i: -levels[i])
        for metric, value in plain_metrics([lead + 1 + ranked.index(i) for i in positives]).items():
            sums[metric] += value / len(orders)
    assert got == pytest.approx(sums, abs=1e-9)


def test_large_ties_equal_a_simulation() -> None:
    """3 positives among 40 tied items with 6 above, against 20,000 drawn orders."""
    rng = np.random.default_rng(0)
    ranks = Ranks(np.array([6, 6, 6]), np.array([40, 40, 40]))
    got = score(Queries(np.array([0]), csr([1, 2, 3])), ranks).means()
    draws = [plain_metrics((6 + rng.choice(40, 3, replace=False) + 1).tolist()) for _ in range(20_000)]
    for metric in METRICS:
        assert got[metric] == pytest.approx(np.mean([draw[metric] for draw in draws]), abs=0.01)


def test_equal_vectors_tie_whatever_their_last_bits() -> None:
    """Copies of one vector, some off by the rounding of another batch, are tied with each other in every block."""
    rng = np.random.default_rng(3)
    base = rng.normal(size=(60, 48)).astype(np.float32)
    pool = np.repeat(base, 3, axis=0)
    pool *= 1 + rng.uniform(-1.5e-7, 1.5e-7, size=pool.shape).astype(np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    a = np.arange(0, 180, 7)
    queries = Queries.from_pairs(a, (a + 20) % 180)
    results = [retrieve_ranks(pool, queries, block=block) for block in (1, 5, 64)]
    for ranks in results:
        assert (ranks.above == results[0].above).all()
        assert (ranks.tied == results[0].tied).all()
    twin = queries.query[queries.positives.rows()] // 3 == queries.positives.indices // 3
    assert (results[0].tied[~twin] == 3).all()


def test_without_tolerance_only_equal_scores_tie() -> None:
    queries = Queries(np.array([0]), csr([2]))
    near = one_query([0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0.5])
    assert retrieve_ranks(near, queries, tolerance=0).above.tolist() == [0]
    assert retrieve_ranks(near, queries, tolerance=0).tied.tolist() == [1]
    assert retrieve_ranks(near, queries).tied.tolist() == [3]


def test_agrees_with_ir_measures() -> None:
    rng = np.random.default_rng(1)
    pool = rng.normal(size=(300, 16)).astype(np.float32)
    queries = Queries.from_pairs(rng.integers(0, 300, 200), rng.integers(0, 300, 200))
    got = score(queries, retrieve_ranks(torch.from_numpy(pool), queries, block=37, tolerance=0))
    similarity = pool.astype(np.float64) @ pool.T.astype(np.float64)
    qrels, run = {}, {}
    for i, query in enumerate(queries.query.tolist()):
        qrels[str(query)] = {str(p): 1 for p in queries.positives.row(i).tolist()}
        run[str(query)] = {str(j): float(similarity[query, j]) for j in range(300) if j != query}
    names = {
        "hit@10": ir_measures.Success @ 10, "hit@50": ir_measures.Success @ 50, "hit@100": ir_measures.Success @ 100,
        "mrr": ir_measures.RR, "ndcg@10": ir_measures.nDCG @ 10, "recall@10": ir_measures.R @ 10,
        "recall@100": ir_measures.R @ 100,
    }  # fmt: skip
    theirs = {(str(row.measure), row.query_id): row.value for row in ir_measures.iter_calc(names.values(), qrels, run)}
    for metric, measure in names.items():
        expected = [theirs[(str(measure), str(query))] for query in queries.query]
        np.testing.assert_allclose(got.values[metric], expected, atol=1e-9)


def test_many_positives_are_counted_as_few_are() -> None:
    vectors = one_query(np.random.default_rng(2).permutation(200) / 256)
    many = retrieve_ranks(vectors, Queries(np.array([0]), csr(list(range(1, 80)))))
    few = [retrieve_ranks(vectors, Queries(np.array([0]), csr([i]))).above[0] for i in range(1, 80)]
    assert many.above.tolist() == few


def test_bad_input_is_explained() -> None:
    queries = Queries(np.array([0]), csr([9]))
    with pytest.raises(TgqError, match="outside the pool"):
        retrieve_ranks(one_query([0.1]), queries)
    with pytest.raises(TgqError, match="NaN"):
        retrieve_ranks(one_query([float("nan")]), Queries(np.array([0]), csr([1])))
    with pytest.raises(TgqError, match="matrix"):
        retrieve_ranks(np.zeros(3, dtype=np.float32), queries)
    with pytest.raises(TgqError, match="no positive"):
        Queries(np.array([0, 1]), csr([1], []))
    with pytest.raises(TgqError, match="own positive"):
        Queries(np.array([0]), csr([0]))
    with pytest.raises(TgqError, match="no query"):
        Queries.from_pairs([1], [1])
    with pytest.raises(TgqError, match="lists of positives"):
        Queries(np.array([0, 1]), csr([1]))
    with pytest.raises(TgqError, match="as many of each"):
        Queries.from_pairs([1, 2], [1])


def test_nearest_leaves_the_query_out() -> None:
    positions, scores = nearest_items(one_query([0.2, 0.9, 0.5]), [0], 2)
    assert positions.tolist() == [[2, 3]]
    assert scores[0] == pytest.approx([0.9, 0.5])


def test_nearest_takes_ties_by_position() -> None:
    positions, _ = nearest_items(one_query([0.2] + [0.5] * 30), [0, 1], 3)
    assert positions.tolist() == [[2, 3, 4], [0, 2, 3]]
    assert nearest_items(one_query([]), [0], 3)[0].shape == (1, 0)


def test_queries_may_look_other_than_they_stand_in_the_pool() -> None:
    pool = np.eye(4, dtype=np.float32)
    queries = Queries.from_pairs([0, 2], [1, 3])
    scores = evaluate(pool, queries, query_vectors=pool[[1, 0, 3, 2]])  # each query looks like its positive
    assert scores.values["mrr"].tolist() == [1, 1, 1, 1]
    some = queries.at([3, 0])
    assert some.query.tolist() == [3, 0] and some.positives.row(0).tolist() == [2]
    again = evaluate(pool, some, query_vectors=pool[[2, 1]])
    assert again.values["mrr"].tolist() == [1, 1]
    with pytest.raises(TgqError, match=r"finite ones, \[4, 4\]"):
        evaluate(pool, queries, query_vectors=pool[:2])


@pytest.mark.parametrize("seed", range(4))
def test_a_pool_in_parts_ranks_as_a_whole_one(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    luck = np.random.default_rng(seed)
    vectors = luck.normal(size=(300, 6)).astype(np.float32)
    vectors[::7] = vectors[3]  # copies, which tie
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    a, b = luck.integers(0, 300, (2, 400))
    queries = Queries.from_pairs(a[:300], b[:300])
    ignore = queries.others(a[300:], b[300:])
    seen = vectors[queries.query] + 0.01
    for options in ({}, {"ignore": ignore}, {"query_vectors": seen}):
        monkeypatch.setattr(metrics, "_BLOCK_SCORES", 1 << 24)
        whole = retrieve_ranks(vectors, queries, **options)
        monkeypatch.setattr(metrics, "_BLOCK_SCORES", 2000)
        monkeypatch.setattr(metrics, "_WIDE", 60)
        parts = retrieve_ranks(vectors, queries, **options)
        assert np.array_equal(parts.above, whole.above) and np.array_equal(parts.tied, whole.tied)
        assert whole.tied.max() > 1
