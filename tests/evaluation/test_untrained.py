"""TF-IDF, the choice of a share, and the verdict, on numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tgqformer.evaluation.metrics import METRICS, Queries, evaluate
from tgqformer.evaluation.results import Result, ViewScores
from tgqformer.evaluation.untrained import (
    FEW,
    PREFIX,
    SAFE,
    choose_best,
    choose_middle,
    choose_name,
    co_clicks,
    evaluate_counts,
    evaluate_sparse,
    tfidf,
    verdict,
)

TEXTS = ["Red shirt", "red SHIRT red", "blue shirt", "", "青い", "青空"]


def test_tfidf_weighs_rare_words_more():
    rows = tfidf(TEXTS).toarray()
    idf = {"red": 1 + math.log(7 / 3), "shirt": 1 + math.log(7 / 4)}
    wanted = np.array([2 * idf["red"], idf["shirt"]])
    np.testing.assert_allclose(rows[1][rows[1] > 0], wanted / np.linalg.norm(wanted), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 1, 0, 1, 1], rtol=1e-6)
    assert 0 < rows[4] @ rows[5] < 1  # a character of Chinese or Japanese is a word
    assert (rows @ rows[3] == 0).all()


def test_sparse_scores_are_those_of_the_dense_vectors():
    rng = np.random.default_rng(0)
    words = [f"w{at}" for at in range(12)]
    texts = [" ".join(rng.choice(words, 4)) for _ in range(300)]
    queries = Queries.from_pairs(rng.integers(0, 300, 280), rng.integers(0, 300, 280))
    vectors = tfidf(texts)
    sparse, dense = evaluate_sparse(vectors, queries), evaluate(vectors.toarray(), queries)
    for metric in METRICS:
        np.testing.assert_allclose(sparse.values[metric], dense.values[metric], atol=1e-12)


def test_clicks_together_rank_what_was_counted_and_leave_the_rest_equal():
    counts = co_clicks(np.array([0, 0]), np.array([1, 2]), np.array([5, 1]), 22)
    np.testing.assert_array_equal(counts.toarray()[:3, :3], [[0, 5, 1], [5, 0, 0], [1, 0, 0]])
    found = evaluate_counts(counts, Queries.from_edges(np.array([[0, 2], [3, 4]])))
    assert found.values["mrr"][0] == 0.5
    assert found.values["hit@10"].tolist() == [1.0, pytest.approx(10 / 21)]


def hits(*counts: int, of: int = 100) -> list[np.ndarray]:
    """For each count so many hits, the same queries first."""
    return [(np.arange(of) < count).astype(float) for count in counts]


def test_the_best_share_wins_and_ties_go_to_the_middle():
    none, some, most = hits(20, 40, 60)
    assert choose_best({0.0: most, 0.5: some, 1.0: none}).share == 0.0
    assert choose_best({0.0: some, 0.4: some, 1.0: some}).share == 0.4


def test_the_middle_of_the_shares_within_a_standard_error_wins():
    frozen, near, best = hits(40, 59, 60)
    choice = choose_middle({0.0: frozen, 0.2: near, 0.4: best, 0.6: frozen})
    assert choice.share == 0.2 and choice.hits == {0.0: 0.4, 0.2: 0.59, 0.4: 0.6, 0.6: 0.4}
    assert choice.why == "100 validation queries: H@10 60.0 at best, as good from 0.2 to 0.4"
    assert choose_middle({0.0: best, 0.5: best, 1.0: best}).share == 0.5  # nothing can be told: in the middle
    assert choose_middle({0.0: frozen, 0.5: frozen, 1.0: best}).share == 1.0
    assert choose_middle({0.0: best, 0.5: frozen, 1.0: frozen}).share == 0.0


@pytest.mark.parametrize("choose", [choose_best, choose_middle])
def test_nothing_is_chosen_by_few_queries_or_none_that_hits(choose):
    few, nothing = np.ones(FEW - 1), np.zeros(200)
    for found in ({}, {0.0: few, 1.0: few * 0}, {0.0: nothing, 1.0: nothing}):
        choice = choose(found)
        assert choice.share == SAFE and choice.why.startswith("not chosen")


def test_the_safe_settings_stay_unless_others_are_surely_better():
    few, some, many = hits(40, 41, 60)
    assert choose_name({"gentle": few}) == ("gentle", "the only one tried")
    assert choose_name({"gentle": few, "given": some})[0] == "gentle"
    assert choose_name({"gentle": few, "given": many}) == (
        "given", "100 validation queries: H@10 gentle 40.0, given 60.0"
    )  # fmt: skip
    assert choose_name({"gentle": np.zeros(9), "given": np.ones(9)})[1].startswith("not chosen: 9")
    assert choose_name({"gentle": np.zeros(0), "given": np.zeros(0)})[0] == "gentle"


def result(name: str, values: np.ndarray) -> Result:
    return Result(name, 0, {"mixed": ViewScores([str(at) for at in range(len(values))], {"hit@10": values})})


def test_the_verdict_is_against_the_best_that_needs_none():
    low, middle, high = hits(100, 200, 300, of=1000)
    needs_none = [result(f"{PREFIX}text", low), result(f"{PREFIX}picture", middle)]
    pays = verdict([result("ours", high), *needs_none], "ours", "mixed", "ours")
    assert pays is not None and pays.rival == f"{PREFIX}picture"
    assert pays.text.startswith("training pays: H@10 +10.0 [") and "(picture)" in pays.text
    assert pays.difference.low > 0.07
    loses = verdict([result("ours", low), *needs_none], "ours", "mixed", "the sum")
    assert loses is not None and loses.text.startswith("training does not pay here: H@10 −10.0 [")
    assert loses.text.endswith("Served is the sum.")
    same = verdict([result("ours", middle), *needs_none], "ours", "mixed", "ours")
    assert same is not None and same.text.startswith("cannot tell")
    assert verdict([result("ours", high)], "ours", "mixed", "ours") is None
