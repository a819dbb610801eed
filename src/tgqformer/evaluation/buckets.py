"""Where a model is good and where not: scores by noise kind and severity, by category, by agreement.

Values are float [S, Q] (seeds, queries) or [Q]; seeds are averaged and the interval is over the queries of the bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tgqformer.evaluation.intervals import RESAMPLES, Interval, over_queries
from tgqformer.types import ArrayLike, Bools, Words

CLEAN = ("", "none", "clean")
"""What the kind of a query is called whose picture has no noise."""


@dataclass(frozen=True)
class Bucket:
    """The mean of one metric over the queries of one bucket."""

    name: str
    queries: int
    interval: Interval


def by_label(
    values: ArrayLike,
    labels: Sequence[str] | Words,
    *,
    order: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> list[Bucket]:
    """Split by a label per query [Q]; in the given order, else the largest first; empty labels are left out."""
    names = np.asarray(labels, dtype=np.str_)
    found, counts = np.unique(names[names != ""], return_counts=True)
    if order is None:
        order = [str(found[i]) for i in np.argsort(-counts, kind="stable")]
    return [_bucket(name, values, names == name, resamples) for name in order if name in found]


def by_noise(
    values: ArrayLike,
    kinds: Sequence[str] | Words,
    severities: ArrayLike,
    *,
    resamples: int = RESAMPLES,
) -> dict[str, list[tuple[int, Bucket]]]:
    """Split by noise kind and severity (1-5) of the query; per kind (severity, bucket), severities ascending.

    Clean queries (see `CLEAN`) are severity 0 of every kind, so that a curve starts at the clean picture.
    """
    names, steps = np.asarray(kinds, dtype=np.str_), np.asarray(severities, dtype=np.int64)
    clean = np.isin(names, CLEAN)
    start = [(0, _bucket("clean", values, clean, resamples))] if clean.any() else []
    curves = {}
    for kind in np.unique(names[~clean]).tolist():
        of_kind = names == kind
        curve = [
            (step, _bucket(f"{kind} {step}", values, of_kind & (steps == step), resamples))
            for step in np.unique(steps[of_kind]).tolist()
        ]
        curves[kind] = start + curve
    return curves


def by_quantile(values: ArrayLike, numbers: ArrayLike, *, parts: int = 4, resamples: int = RESAMPLES) -> list[Bucket]:
    """Split at the quantiles of a number per query [Q] (agreement), lowest first; NaN (no picture, no title) left out.

    A bucket is named by its bounds. Equal numbers stay together, so buckets can differ in size or be fewer.
    """
    measure = np.asarray(numbers, dtype=np.float64)
    known = np.isfinite(measure)
    if not known.any():
        return []
    edges = np.unique(np.quantile(measure[known], np.linspace(0, 1, parts + 1)))
    inner = edges[1:-1]
    part = np.where(known, np.searchsorted(inner, measure, side="right"), -1)
    names = [f"{low:.2f} to {high:.2f}" for low, high in pairwise(edges)] or [f"{edges[0]:.2f}"]
    return [_bucket(name, values, part == i, resamples) for i, name in enumerate(names) if (part == i).any()]


def _bucket(name: str, values: ArrayLike, inside: Bools, resamples: int) -> Bucket:
    chosen = np.atleast_2d(np.asarray(values, dtype=np.float64))[:, inside]
    return Bucket(name, int(inside.sum()), over_queries(chosen, resamples=resamples))
