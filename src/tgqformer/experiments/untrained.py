"""What needs no training, measured like every model: frozen picture, frozen text, their sum, TF-IDF of the text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tgqformer.config import slug
from tgqformer.evaluation.metrics import Queries, Scores, evaluate
from tgqformer.evaluation.results import Result, ViewScores, read_results
from tgqformer.evaluation.untrained import PREFIX, co_clicks, evaluate_counts, evaluate_sparse, tfidf
from tgqformer.experiments.dataset import Dataset
from tgqformer.stages import Stage

if TYPE_CHECKING:
    from tgqformer.model.frozen import FrozenPart


def untrained_results(data: Dataset, to: Path) -> list[Result]:
    """Measure what needs no training in the full pool, on every view; keep the results in a folder, and read them."""
    views = data.recipe.evaluation.views

    def make() -> None:
        for result in _measure(data, views):
            result.write(to / slug(result.model))

    inputs = data.frozen_inputs() | {"views": views} | data.drawn_inputs
    data.stages.run(Stage("evaluation of what needs no training", to, "untrained", inputs, make))
    return read_results(to)


def _measure(data: Dataset, views: tuple[str, ...]) -> list[Result]:
    parts = {"picture": data.frozen.sharing(0.0), "text": data.frozen.sharing(1.0), "sum": data.frozen}
    results = [Result(f"{PREFIX}frozen {name}", 0, _frozen(data, part, views)) for name, part in parts.items()]
    words = tfidf([data.encoders.prompt.metadata(item) for item in data.catalog.items(pictures=False)])
    read = _scores(data, lambda queries: evaluate_sparse(words, queries))
    results.append(Result(f"{PREFIX}TF-IDF", 0, _spread(read, views)))
    if data.known_items is not None:
        counts = co_clicks(*data.pair_positions("train"), data.pairs.train.table["count"].to_numpy(), len(data.catalog))
        seen = _scores(data, lambda queries: evaluate_counts(counts, queries))
        results.append(Result(f"{PREFIX}co-clicks", 0, _spread(seen, views)))
    return results


def _frozen(data: Dataset, part: FrozenPart, views: tuple[str, ...]) -> dict[str, ViewScores]:
    everything, found = np.arange(len(data.catalog)), dict[str, ViewScores]()
    for view in views if part.sees else ("mixed",):
        vectors = data.frozen_vectors(part, everything, view)
        if view == "mixed":
            found |= _scores(data, lambda queries: evaluate(vectors, queries))  # noqa: B023 - called at once
        else:
            found[view] = ViewScores.of(evaluate(vectors, data.queries), data.catalog.ids())
    return _spread(found, views)


def _scores(data: Dataset, score: Callable[[Queries], Scores]) -> dict[str, ViewScores]:
    """Score the queries of the mixed view, and those that ask otherwise, where there are any."""
    asked = {"mixed": data.queries} | data.asked
    return {view: ViewScores.of(score(queries), data.catalog.ids()) for view, queries in asked.items()}


def _spread(found: dict[str, ViewScores], views: tuple[str, ...]) -> dict[str, ViewScores]:
    """Put views in order; a text is the same in every one."""
    return {view: found.get(view, found["mixed"]) for view in dict.fromkeys((*views, *found))}
