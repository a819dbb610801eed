"""Is the model that is served, fitted on all pairs, better than the one that is measured? By a nested split.

    python benchmarks/nested.py --data ../shared/data/fashion --to FOLDER --items 2000 --pairs 2

A quarter of the items is held out for good. Of the others a split as in any run makes train, validation and test; one
model is trained on train alone, as the one that a run measures, and one on all pairs of these others, as the one that
it serves. Both are asked for the items that are held out: new items in a known shop, any partner counts.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

from curves import draw, recipe, shoppers
from tgqformer.evaluation.intervals import over_queries
from tgqformer.evaluation.metrics import evaluate
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.folds import TEST, TRAIN, VAL, _with_pairs
from tgqformer.experiments.trial import Trial
from tgqformer.pairs.pairs import Pairs, split_pairs
from tgqformer.pairs.splits import ItemSplit, stable_uniform
from tgqformer.types import Doubles


def parted(data: Dataset, whole: bool) -> Dataset:
    """Return the data with all items but those held out in training (`whole`), or the part of them for training."""
    sets, split = data.pairs, data.pairs.split
    every = Pairs.together([sets.train, sets.val, sets.test, sets.cross])
    inner = np.array([stable_uniform("inner", name) for name in split.ids])
    parts = np.where(inner < 0.7, TRAIN, np.where(inner < 0.75, VAL, TEST))
    parts = np.where(split.parts == TEST, TEST, TRAIN if whole else parts).astype(np.int8)
    return _with_pairs(data, split_pairs(every, ItemSplit(split.ids, parts)))


def main() -> None:
    """Train both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--pairs", type=float, default=2.0)
    parser.add_argument("--share", type=float, default=0.5, help="of the cosine that is learned")
    asked = parser.parse_args()
    asked.to.mkdir(parents=True, exist_ok=True)
    pairs = asked.to / f"pairs-{asked.pairs:g}.parquet"
    plan = recipe(asked.data, asked.items, pairs, 0, ["TGQ-Former"])
    section = replace(plan.models[0], share=1.0, preset="given")
    data = Dataset(replace(plan, models=(section,)), asked.to)
    draw(data.catalog, shoppers(asked.pairs, 0, 0, 0), asked.pairs, pairs)
    queries, everything = data.new_items, np.arange(len(data.catalog))
    assert queries is not None
    frozen, found = data.frozen_vectors(data.frozen, everything), dict[tuple[str, float], Doubles]()
    print(f"{len(queries):,} queries")
    print(
        "| model | training pairs | seconds | H@10 of the learned part | with the frozen part |\n|---|--:|--:|--:|--:|"
    )
    for name in ("measured", "served"):
        began, used = perf_counter(), parted(data, name == "served")
        folder = asked.to / "nested" / name
        folder.mkdir(parents=True, exist_ok=True)
        trial = Trial(plan, used, section, 0, folder)
        learned = trial.embed(trial._train(plan.training, folder, 1.0), everything, shown=False)
        for share in (1.0, asked.share):
            vectors = np.concatenate([(1 - share) ** 0.5 * frozen, share**0.5 * learned], axis=1)
            found[name, share] = evaluate(vectors, queries).values["hit@10"]
        cells = " | ".join(f"{100 * found[name, share].mean():.1f}" for share in (1.0, asked.share))
        print(f"| {name} | {len(used.pairs.train):,} | {perf_counter() - began:.0f} | {cells} |", flush=True)
    for share in (1.0, asked.share):
        gain = found["served", share] - found["measured", share]
        print(f"served ahead in points, share {share:g}: {over_queries(100 * gain)}")


if __name__ == "__main__":
    main()
