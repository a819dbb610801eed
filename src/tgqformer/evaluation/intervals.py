"""How sure a mean is: over queries (bootstrap), over seeds (Student's t), and of the difference of two models.

Shapes: S seeds, Q queries, R resamples. Every draw comes from a generator with a given seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tgqformer.errors import TgqError
from tgqformer.types import ArrayLike, Doubles

RESAMPLES = 2000
LEVEL = 0.95
MANY = 1000  # degrees of freedom beyond which Student's t is taken as there

_EQUAL = 1e-12  # a spread of drawn means below it is rounding
_CHUNK = 1 << 15  # drawn query positions held at a time: few, so that they stay in the cache of a core


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its interval; the bounds are NaN where one number alone gives none."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    @property
    def apart_from_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def resample(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Doubles:
    """Draw Q queries with replacement R times; give the mean of each row in each draw.

    values: [n, Q], rows that share their queries (so that differences of rows are paired). Returns [n, R].
    Queries with the same column are drawn together, by a multinomial draw of how many of each come: the same
    distribution, and much faster for hits, which take few values.
    """
    rows = _matrix(values)
    size = rows.shape[1]
    rng = np.random.default_rng(seed)
    columns, counts = np.unique(rows, axis=1, return_counts=True)
    if len(counts) <= size // 8:
        together: Doubles = columns @ rng.multinomial(size, counts / size, size=resamples).T / size
        return together
    return _draw_each(rows, resamples, rng)


def _draw_each(rows: Doubles, resamples: int, rng: np.random.Generator) -> Doubles:
    size = rows.shape[1]
    means = np.empty((len(rows), resamples))
    step = max(1, _CHUNK // size)
    for start in range(0, resamples, step):
        draws = min(step, resamples - start)
        drawn = rng.integers(0, size, size=(draws, size)) + np.arange(draws)[:, None] * size
        counts = np.bincount(drawn.ravel(), minlength=draws * size).reshape(draws, size)
        means[:, start : start + draws] = rows @ counts.T.astype(np.float64) / size
    return means


def over_queries(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL) -> Interval:
    """Percentile bootstrap of the mean of values [Q], or of seeds' values [S, Q] averaged over the seeds first.

    Where all values of a metric (0 to 1) are equal, no draw differs. Then the bounds are those of Clopper and Pearson:
    how many queries with another value, of 0 or 1, may be unseen yet.
    """
    averaged = _matrix(values).mean(axis=0, keepdims=True)
    low, high = float(averaged.min()), float(averaged.max())
    if low == high and 0 <= low <= 1:
        return _with_unseen(low, (0, 1), averaged.size, level)
    return percentiles(float(averaged.mean()), resample(averaged, resamples=resamples, seed=seed)[0], level=level)


def _with_unseen(same: float, bounds: tuple[float, float], queries: int, level: float) -> Interval:
    """Interval of a mean of queries that all have the `same` value, where an unseen one may be at either bound."""
    unseen = 1 - ((1 - level) / 2) ** (1 / queries)
    low, high = bounds
    return Interval(same, same + (low - same) * unseen, same + (high - same) * unseen)


def over_seeds(means: Sequence[float] | Doubles, *, level: float = LEVEL) -> Interval:
    """Student's t interval of the mean of the seeds' means [S]; with one seed the bounds are NaN."""
    numbers = np.asarray(means, dtype=np.float64)
    if len(numbers) == 0:
        raise TgqError("there is no seed to make an interval of; give at least one mean")
    mean = float(numbers.mean())
    if len(numbers) == 1:
        return Interval(mean, math.nan, math.nan)
    half = t_quantile(level, len(numbers) - 1) * float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    return Interval(mean, mean - half, mean + half)


def of_ratio(part: ArrayLike, whole: ArrayLike, *, level: float = LEVEL) -> Interval:
    """Interval of sum(part) / sum(whole) over n units [n] that act by themselves, such as visitors: the delta method.

    What one unit does may hang together. Bounds are NaN for fewer than two units, the mean where sum(whole) is 0.
    """
    share, error, units = _ratio(part, whole)
    half = error * t_quantile(level, min(units - 1, MANY)) if units > 1 else math.nan
    return Interval(share, 0.0 if half > share else share - half, share + half)


def of_lift(one: tuple[ArrayLike, ArrayLike], other: tuple[ArrayLike, ArrayLike], *, level: float = LEVEL) -> Interval:
    """Interval of how much one ratio is above another, as a share of that: on the logarithm, so that it is lopsided.

    Each is (part [n], whole [n]) over its own units. NaN where a ratio is 0 or has fewer than two units.
    """
    (a, error_a, units_a), (b, error_b, units_b) = _ratio(*one), _ratio(*other)
    if not (a > 0 and b > 0 and min(units_a, units_b) > 1):
        return Interval(a / b - 1 if b > 0 else math.nan, math.nan, math.nan)
    half = t_quantile(level, min(units_a + units_b - 2, MANY)) * math.hypot(error_a / a, error_b / b)
    return Interval(a / b - 1, a / b * math.exp(-half) - 1, a / b * math.exp(half) - 1)


def _ratio(part: ArrayLike, whole: ArrayLike) -> tuple[float, float, int]:
    """Return a ratio of sums, its standard error, and the number of units that count."""
    top, bottom = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    total, units = float(bottom.sum()), len(bottom)
    if total <= 0 or units < 2:
        return float(top.sum()) / total if total > 0 else math.nan, math.nan, units if total > 0 else 0
    share = float(top.sum()) / total
    spread = float(((top - share * bottom) ** 2).sum()) * units / (units - 1)
    return share, math.sqrt(spread) / total, units


def difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    relative: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Interval of mean(a) - mean(b) for two models on the same queries: a [Sa, Q] (or [Q]), b [Sb, Q] (or [Q]).

    Hierarchical bootstrap: every resample draws queries (the same for both models) and, for each model on its own,
    seeds; seeds are averaged. With a single seed only the queries are drawn; with two or three seeds the share of the
    seeds is a rough one. `relative` divides by mean(b) in every resample. Where the models differ by the same on every
    query, the bounds tell, as those of `over_queries`, what may be unseen yet: queries that one finds and one does not.
    """
    left, right = _matrix(a), _matrix(b)
    if left.shape[1] != right.shape[1]:
        raise TgqError(f"the models have {left.shape[1]} and {right.shape[1]} queries; compare them on the same ones")
    means = resample(np.concatenate([left, right]), resamples=resamples, seed=seed)
    point = float(left.mean()), float(right.mean())
    drawn = means[: len(left)], means[len(left) :]
    return difference_of_resampled(point, *drawn, queries=left.shape[1], relative=relative, seed=seed + 1, level=level)


def difference_of_resampled(
    point: tuple[float, float],
    a: Doubles,
    b: Doubles,
    *,
    queries: int,
    relative: bool = False,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Do the second half of `difference`: `point` the two means, a [Sa, R] and b [Sb, R] from one `resample`."""
    rng = np.random.default_rng(seed)
    left, right = _draw_seeds(a, rng), _draw_seeds(b, rng)
    if relative and (point[1] == 0 or (right == 0).any()):
        return Interval(math.nan, math.nan, math.nan)
    lead = point[0] - point[1]
    if np.ptp(left - right) < _EQUAL and abs(lead) <= 1:
        found, by = _with_unseen(lead, (-1, 1), queries, level), point[1] if relative else 1.0
        return Interval(found.mean / by, found.low / by, found.high / by)
    if relative:
        return percentiles(point[0] / point[1] - 1, left / right - 1, level=level)
    return percentiles(lead, left - right, level=level)


def percentiles(mean: float, draws: Doubles, *, level: float = LEVEL) -> Interval:
    """Take the interval from the percentiles of resampled means [R]."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def t_quantile(level: float, degrees: int) -> float:
    """Return t with P(|T| < t) = level for Student's T with whole degrees of freedom (bisection on the exact sum)."""
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, degrees) < level else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _t_inside(angle: float, degrees: int) -> float:
    """P(|T| < sqrt(degrees) tan(angle)): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = term if degrees > 1 else 0.0
    for power in range(2 + odd, degrees - 1, 2):
        term *= math.cos(angle) ** 2 * (power - 1) / power
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def _draw_seeds(means: Doubles, rng: np.random.Generator) -> Doubles:
    seeds, resamples = means.shape
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    drawn: Doubles = (weights.T * means).sum(axis=0)
    return drawn


def _matrix(values: ArrayLike) -> Doubles:
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if rows.ndim != 2 or 0 in rows.shape:
        raise TgqError(f"values have shape {list(np.shape(values))}; give [queries] or [seeds, queries], not empty")
    return rows
