"""What the report of a run says of it: its settings, what validation chose, which model is which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tgqformer.errors import counted
from tgqformer.evaluation.results import Result, summarize
from tgqformer.evaluation.tables import csv_text, differences_markdown, markdown
from tgqformer.experiments.dataset import NEW_ITEM, Dataset
from tgqformer.experiments.recipe import Recipe
from tgqformer.files import write_text
from tgqformer.pairs.pairs import PairSets

NOTES = (
    "Every item but the query is in the pool. Test queries and their positives are items that training never saw. Ties "
    "are averaged, never broken by order.",
    "What needs no training: the frozen vectors of picture and text, each centred and cut to 128 main axes of the "
    "training items; the share of the text in their sum is chosen on pairs of training and validation. TF-IDF counts "
    "words. The view 'new item' asks as a shop does that gets a new item: the query was never seen, its partners may "
    "have been.",
    "All models have the same pairs, steps, batch, learning rate, language model and visual tokens. The example "
    "queries are those where the first two models differ most: three quarters in favour of the first, one quarter "
    "against it.",
)


def settings_of_run(recipe: Recipe, data: Dataset, choices: Mapping[str, str]) -> dict[str, object]:
    """Return the rows of the table of settings, by name.

    Args:
        choices: what validation chose for each model, in words.
    """
    sets = data.pairs
    training, noise = recipe.training.resolved(len(sets.train)), recipe.noise
    given = " (given training)" if choices else ""  # the gentle one has its own
    learned = {
        f"steps of the connector alone before{given}": training.visual_steps,
        f"steps{given}": training.steps,
        "pairs a step": training.batch,
        f"learning rate{given}": training.lr,
    }
    return {
        "catalogue": f"{recipe.catalog.source}, {counted(len(data.catalog), 'item')}",
        "pairs": f"{len(sets.train):,} train, {len(sets.val):,} validation, {len(sets.test):,} test",
        **({"split": "by time: training, then validation, then test"} if sets.by_time else {}),
        "pairs across parts": _lost(sets),
        "test queries": _asked(data),
        **choices,
        "noise": f"{100 * noise.share:.0f} % of the items: {', '.join(noise.kinds)}" if noise.share else "none",
        "vision encoder": recipe.encoders.vision,
        "text encoder": recipe.encoders.text,
        "language model": recipe.language.name,
        **(learned if any(model.trains for model in recipe.models) else {}),
        "seeds": len(recipe.seeds),
        "served": _served(recipe, sets),
    }


def _served(recipe: Recipe, sets: PairSets) -> str:
    """Say which model is which: the one whose figures are shown, and the one that is served."""
    if recipe.serve == "train" or not any(model.trains for model in recipe.models):
        return "the models of the first seed, as they are measured"
    return (
        f"models fitted again on all {_count(sets):,} pairs, as validation chose them; the figures are of models that "
        f"were fitted on {len(sets.train):,} pairs and know no test item"
    )


def _asked(data: Dataset) -> str:
    """Say how many of the test queries are asked."""
    asked, there = len(data.queries), len(np.unique(np.concatenate(data.pair_positions("test"))))
    return f"all {there:,}" if asked == there else f"{asked:,} of {there:,}, drawn at random"


def _lost(sets: PairSets) -> str:
    """Say how many pairs the split takes from training, though both of their items are known."""
    share = f"{len(sets.cross):,} of {_count(sets):,} ({100 * len(sets.cross) / _count(sets):.0f} %)"
    return f"{share}, not trained on; the view {NEW_ITEM!r} asks for them" if len(sets.cross) else "none"


def _count(sets: PairSets) -> int:
    return len(sets.train) + len(sets.val) + len(sets.test) + len(sets.cross)


def about(seconds: float) -> str:
    """Say a time in words."""
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes >= 1.5 else "about a minute" if minutes > 0.5 else "under a minute"


def write_tables(folder: Path, results: Sequence[Result], verdict: str) -> None:
    """Write table.md, with the verdict and the paired differences, and table.csv."""
    rows = summarize(results)
    differences = f"\nPaired differences in H@10, points [95 %]:\n\n{differences_markdown(results)}"
    write_text(folder / "table.md", f"{verdict}\n\n{markdown(rows)}{differences}")
    write_text(folder / "table.csv", csv_text(rows))
