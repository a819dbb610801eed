"""Intervals against tables, against formulas, and by their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tgqformer.errors import TgqError
from tgqformer.evaluation.intervals import difference, over_queries, over_seeds, resample, t_quantile


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423)]
)
def test_t_quantiles_are_those_of_the_tables(degrees: int, expected: float) -> None:
    assert t_quantile(0.95, degrees) == pytest.approx(expected, abs=1e-4)


def test_seed_interval_by_hand() -> None:
    """Means 1, 2, 3: standard error 1/sqrt(3), t 4.3027."""
    interval = over_seeds([1.0, 2.0, 3.0])
    assert interval.mean == 2
    assert interval.half == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)


def test_one_seed_has_no_interval() -> None:
    interval = over_seeds([0.4])
    assert interval.mean == 0.4
    assert math.isnan(interval.low)
    with pytest.raises(TgqError, match="no seed"):
        over_seeds([])


def test_query_interval_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).random(2000)
    interval = over_queries(values)
    assert interval.half == pytest.approx(1.96 * values.std() / math.sqrt(2000), rel=0.08)
    assert interval.low < values.mean() < interval.high
    assert over_queries(values) == interval
    assert over_queries(values, seed=1) != interval


def test_query_intervals_cover_the_truth() -> None:
    """95 % intervals of 200 samples hold the true mean in about 95 % of cases."""
    rng = np.random.default_rng(1)
    inside = [(i := over_queries(rng.random(100) < 0.3, resamples=300)).low <= 0.3 <= i.high for _ in range(200)]
    assert 0.89 <= np.mean(inside) <= 0.99


@pytest.mark.parametrize(("value", "queries", "low", "high"), [(1, 5, 0.478, 1), (0, 5, 0, 0.522), (1, 3000, 0.999, 1)])
def test_queries_that_all_agree_are_no_certainty(value: float, queries: int, low: float, high: float) -> None:
    found = over_queries([value] * queries)
    assert (found.mean, *np.round([found.low, found.high], 3)) == (value, low, high)


def test_resampling_is_the_same_for_all_rows_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).random((3, 50))
    whole = resample(np.stack([values[0], values[0] + 1]), resamples=40)
    np.testing.assert_allclose(whole[1] - whole[0], 1)
    monkeypatch.setattr("tgqformer.evaluation.intervals._CHUNK", 50 * 7)
    np.testing.assert_allclose(resample(values[:1], resamples=40)[0], whole[0])


def test_drawing_equal_queries_together_gives_the_same_spread() -> None:
    """Hits of two models with four distinct columns, against the formula for the variance of a mean."""
    rng = np.random.default_rng(5)
    a = (rng.random(400) < 0.6).astype(float)
    b = np.where(rng.random(400) < 0.8, a, 1 - a)
    means = resample(np.stack([a, b]), resamples=20_000)
    assert means.mean(axis=1) == pytest.approx([a.mean(), b.mean()], abs=0.002)
    assert (means[0] - means[1]).std() == pytest.approx((a - b).std() / 20, rel=0.03)


def test_paired_difference_is_narrower_than_unpaired() -> None:
    rng = np.random.default_rng(3)
    b = rng.random(1000)
    a = b + 0.05 + rng.normal(0, 0.02, 1000)
    paired = difference(a, b)
    assert paired.low < 0.05 < paired.high
    assert paired.half < 0.003
    assert paired.apart_from_zero
    assert not difference(b, b[::-1]).apart_from_zero


def test_relative_difference() -> None:
    b = np.random.default_rng(6).random(100)
    interval = difference(b * 1.1, b, relative=True)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.1, 0.1, 0.1))
    assert math.isnan(difference(b, np.zeros(100), relative=True).mean)


def test_models_that_agree_on_a_few_queries_may_still_differ() -> None:
    """With 20 queries that both find, up to 17 % of all may be found by one of them alone."""
    both = np.ones((3, 20))
    found = difference(both, both)
    assert (found.mean, found.low, found.high) == pytest.approx((0, -0.168, 0.168), abs=0.001)
    relative = difference(both / 2, both / 2, relative=True)
    assert (relative.mean, relative.low, relative.high) == pytest.approx((0, -0.337, 0.337), abs=0.001)
    ahead = difference(both, both * 0)
    assert (ahead.mean, ahead.low, ahead.high) == pytest.approx((1, 0.663, 1), abs=0.001)
    many = difference(np.ones(10_000), np.ones(10_000))
    assert many.half < 0.0005


def test_seeds_that_differ_widen_the_difference() -> None:
    rng = np.random.default_rng(4)
    b = np.tile(rng.random(500), (3, 1))
    steady = difference(b + 0.05, b)
    moved = difference(b + np.array([[-0.05], [0.05], [0.15]]), b)
    assert moved.mean == pytest.approx(steady.mean)
    assert moved.half > steady.half + 0.05


def test_bad_shapes_are_explained() -> None:
    with pytest.raises(TgqError, match="same ones"):
        difference([1.0, 2.0], [1.0])
    with pytest.raises(TgqError, match="not empty"):
        over_queries([])
