"""What needs no training: TF-IDF of the text, the share of two cosines, and whether a trained model earns its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tgqformer.evaluation.intervals import Interval
from tgqformer.evaluation.metrics import Queries, Scores, ranks_by, score
from tgqformer.evaluation.results import Result, compare, models
from tgqformer.evaluation.tables import points
from tgqformer.types import Doubles, Floats, Ints, Positions

if TYPE_CHECKING:
    from scipy import sparse

Key = TypeVar("Key", float, str)
PREFIX = "no training: "
"""Stands before the name of what needs no training, in tables."""
MAIN, FEW, SAFE = "hit@10", 30, 0.5
"""The metric that decides; with fewer queries, or none that hits, nothing is chosen: the share is SAFE."""
STEPS = tuple(at / 10 for at in range(11))
"""The shares that are tried."""
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


def tfidf(texts: Sequence[str]) -> sparse.csr_matrix:
    """Weigh words by count · (1 + log((1 + N) / (1 + texts that hold them))): float32 [N, words], rows of unit length.

    Small letters; a Chinese, Japanese or Korean character is a word of its own. Texts without words have zeros.
    """
    from scipy import sparse

    number: dict[str, int] = {}
    rows, columns = [], []
    for row, text in enumerate(texts):
        words = [number.setdefault(word, len(number)) for word in _WORDS.findall(text.lower())]
        rows += [row] * len(words)
        columns += words
    shape = len(texts), max(1, len(number))
    counts = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape)  # sums what stands twice
    known = np.bincount(counts.indices, minlength=shape[1])
    weighted = counts.multiply(1 + np.log((1 + len(texts)) / (1 + known))).tocsr()
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
    scale = sparse.diags_array(1 / np.where(length > 0, length, 1))
    return sparse.csr_matrix(scale @ weighted, dtype=np.float32)


def evaluate_sparse(vectors: sparse.csr_matrix, queries: Queries) -> Scores:
    """Rank and score as `metrics.evaluate` does, by sparse vectors [N, words] of unit length."""
    turned = vectors.T.tocsr()

    def scores(chosen: Ints) -> Floats:
        found: Floats = np.asarray((vectors[chosen] @ turned).todense(), dtype=np.float32)
        return found

    return score(queries, ranks_by(scores, queries))


def co_clicks(a: Positions, b: Positions, counts: Ints, items: int) -> sparse.csr_matrix:
    """Return how often items were clicked together, from pairs [M] and their counts [M]: float32 [N, N]."""
    from scipy import sparse

    both = np.concatenate([counts, counts]).astype(np.float32)
    return sparse.csr_matrix((both, (np.concatenate([a, b]), np.concatenate([b, a]))), (items, items))


def evaluate_counts(counts: sparse.csr_matrix, queries: Queries) -> Scores:
    """Rank and score as `metrics.evaluate` does, by how often items were clicked together: [N, N]."""

    def scores(chosen: Ints) -> Floats:
        found: Floats = np.asarray(counts[chosen].todense(), dtype=np.float32)
        return found

    return score(queries, ranks_by(scores, queries))


@dataclass(frozen=True)
class Choice:
    """A share that validation chose, from 0 to 1, and why, for people; hits: share -> mean H@10 there."""

    share: float
    why: str
    hits: Mapping[float, float]


def choose_best(hits: Mapping[float, Doubles]) -> Choice:
    """Choose the share with the most hits; of equal ones that nearest to the middle. hits: share -> H@10 [Q]."""
    means = _means(hits)
    if unsure := _too_few(hits):
        return Choice(SAFE, unsure, means)
    best = max(means, key=lambda share: (round(means[share], 9), -abs(share - SAFE)))
    return Choice(best, f"best of {_queries(hits)} (H@10 {100 * means[best]:.1f})", means)


def choose_middle(hits: Mapping[float, Doubles]) -> Choice:
    """Choose the middle of the shares that cannot be told from the best: within a standard error of it, paired.

    Of two as near to the middle the smaller one, which has learned less.

    Args:
        hits: share -> H@10 [Q] of the same queries.
    """
    means = _means(hits)
    if unsure := _too_few(hits):
        return Choice(SAFE, unsure, means)
    best = max(means, key=lambda share: means[share])
    alike = [share for share in sorted(hits) if _error(ahead := hits[best] - hits[share]) >= ahead.mean() - 1e-12]
    middle = sum(alike) / len(alike)
    chosen = min(sorted(hits), key=lambda share: round(abs(share - middle), 9))
    why = f"{_queries(hits)}: H@10 {100 * means[best]:.1f} at best, as good from {alike[0]:g} to {alike[-1]:g}"
    return Choice(chosen, why, means)


def choose_name(hits: Mapping[str, Doubles]) -> tuple[str, str]:
    """Choose among models, the safest first: that, unless another is better by more than a standard error.

    Args:
        hits: name -> H@10 [Q] of the same queries.

    Returns:
        The name, and why, for people.
    """
    first, *others = hits
    if not others:
        return first, "the only one tried"
    if unsure := _too_few(hits):
        return first, unsure
    means = _means(hits)
    best = max(others, key=lambda name: means[name])
    ahead = hits[best] - hits[first]
    sure = ahead.mean() > _error(ahead) + 1e-12
    figures = ", ".join(f"{name} {100 * mean:.1f}" for name, mean in means.items())
    return (best if sure else first), f"{_queries(hits)}: H@10 {figures}"


def _error(values: Doubles) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


def _means(hits: Mapping[Key, Doubles]) -> dict[Key, float]:
    return {share: float(values.mean()) if len(values) else 0.0 for share, values in hits.items()}


def _too_few(hits: Mapping[Key, Doubles]) -> str:
    queries = len(next(iter(hits.values()), ()))
    if queries < FEW:
        return f"not chosen: {queries} validation queries are too few"
    return "" if any(values.any() for values in hits.values()) else "not chosen: no validation query has a hit"


def _queries(hits: Mapping[Key, Doubles]) -> str:
    return f"{len(next(iter(hits.values()))):,} validation queries"


@dataclass(frozen=True)
class Verdict:
    """Whether training pays; `text` says it to people.

    rival: the best that needs no training. difference: of H@10, the trained model's lead over it.
    """

    rival: str
    difference: Interval
    text: str


def verdict(results: Sequence[Result], model: str, view: str, served: str, what: str = "training") -> Verdict | None:
    """Compare a trained model with the best that needs no training, query by query; None where there is no such.

    Args:
        results: of all. model: the trained one. view: on which they are compared. served: what is served, for people.
        what: pays or does not: training, or pretraining.
    """
    found = []
    for name in models(results):
        if name.startswith(PREFIX):
            found += [c for c in compare(results, model, name) if (c.view, c.metric) == (view, MAIN)]
    if not found:
        return None
    rival = min(found, key=lambda c: c.difference.mean)
    lead, name = rival.difference, rival.b.removeprefix(PREFIX)
    figure = f"H@10 {points(lead)} over the best that needs none ({name})"
    if lead.low > 0:
        text = f"{what} pays: {figure}"
    elif lead.high < 0:
        text = f"{what} does not pay here: {figure}"
    else:
        text = f"cannot tell whether {what} pays: {figure}"
    return Verdict(rival.b, lead, f"{text}, on {view}. Served is {served}.")
