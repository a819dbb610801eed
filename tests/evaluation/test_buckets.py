"""Buckets: every query in the right one, none lost, none twice."""

from __future__ import annotations

import numpy as np
import pytest

from tgqformer.evaluation.buckets import by_label, by_noise, by_quantile

VALUES = np.array([[1.0, 0.0, 1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]])


def test_by_label_averages_seeds_and_puts_the_largest_first() -> None:
    buckets = by_label(VALUES, ["shoe", "bag", "shoe", "", "shoe", "bag"], resamples=50)
    assert [(b.name, b.queries) for b in buckets] == [("shoe", 3), ("bag", 2)]
    assert buckets[0].interval.mean == pytest.approx(2.5 / 3)
    assert buckets[1].interval.mean == 0
    assert [b.name for b in by_label(VALUES, ["a", "b"] * 3, order=["b", "none", "a"], resamples=50)] == ["b", "a"]


def test_by_noise_starts_every_curve_at_the_clean_queries() -> None:
    kinds = ["", "poster", "poster", "clutter", "clean", "poster"]
    curves = by_noise(VALUES, kinds, [0, 1, 3, 5, 0, 3], resamples=50)
    assert {kind: [(step, b.queries) for step, b in curve] for kind, curve in curves.items()} == {
        "clutter": [(0, 2), (5, 1)],
        "poster": [(0, 2), (1, 1), (3, 2)],
    }
    assert curves["poster"][0][1].interval.mean == 1
    assert curves["poster"][2][1].interval.mean == 0.25


def test_by_noise_without_clean_queries() -> None:
    curves = by_noise(VALUES[:, :2], ["poster", "poster"], [2, 1], resamples=50)
    assert [step for step, _ in curves["poster"]] == [1, 2]


def test_by_quantile_splits_evenly_and_leaves_the_unknown_out() -> None:
    numbers = np.append(np.arange(100) / 100, [np.nan] * 3)
    buckets = by_quantile(np.append(np.arange(100) / 100, [7.0] * 3), numbers, resamples=50)
    assert [b.queries for b in buckets] == [25, 25, 25, 25]
    assert [round(b.interval.mean, 3) for b in buckets] == [0.12, 0.37, 0.62, 0.87]
    assert buckets[0].name == "0.00 to 0.25"


def test_by_quantile_of_equal_or_unknown_numbers() -> None:
    assert [(b.name, b.queries) for b in by_quantile(VALUES, [0.5] * 6, resamples=50)] == [("0.50", 6)]
    assert by_quantile(VALUES, [np.nan] * 6) == []
