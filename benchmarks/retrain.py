"""Yesterday's weights or a fresh start? And what does it cost to keep new vectors comparable with the old ones?

    python benchmarks/retrain.py --data ../shared/data/fashion --to FOLDER --items 2000 --pairs 2

A model is trained on 70 % of the training pairs (yesterday), then others on all of them (today): afresh, or going on
from yesterday's weights, at several shares of the steps and weights of `training.compatible`. Test items are new ones
in a known shop. H@10 of today's queries among today's vectors, among yesterday's, and where half of the pool is
yesterday's.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

from curves import draw, recipe, shoppers
from tgqformer.evaluation.metrics import evaluate
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.earlier import Earlier
from tgqformer.experiments.folds import _with_pairs
from tgqformer.experiments.trial import Trial
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.pairs.pairs import Pairs
from tgqformer.types import Vectors


def yesterday(data: Dataset, share: float) -> Dataset:
    """Return the data with a share of the training pairs, drawn at random; the split is the same."""
    table = data.pairs.train.table
    kept = np.sort(np.random.default_rng(0).permutation(len(table))[: round(share * len(table))])
    return _with_pairs(data, replace(data.pairs, train=Pairs(table.take(kept))))


def shown(data: Dataset, new: Vectors, old: Vectors) -> str:
    """Return H@10 in % of new queries among new vectors, among old ones, and among half of each."""
    queries = data.new_items
    assert queries is not None
    mixed = np.where(np.random.default_rng(1).random(len(new))[:, None] < 0.5, new, old)
    found = [evaluate(pool, queries, query_vectors=new[queries.query]) for pool in (new, old, mixed)]
    return " | ".join(f"{100 * float(one.values['hit@10'].mean()):.1f}" for one in found)


def main() -> None:
    """Train and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--pairs", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", type=float, nargs="+", default=[1.0, 0.5], help="of the steps of a fresh start")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.3, 1.0, 3.0])
    asked = parser.parse_args()
    asked.to.mkdir(parents=True, exist_ok=True)
    pairs = asked.to / f"pairs-{asked.pairs:g}.parquet"
    plan = recipe(asked.data, asked.items, pairs, 0, ["TGQ-Former"])
    section = replace(plan.models[0], share=1.0, preset="given")
    plan = replace(plan, models=(section,), seeds=(asked.seed,))
    data = Dataset(plan, asked.to)
    draw(data.catalog, shoppers(asked.pairs, 0, 0, 0), asked.pairs, pairs)
    everything, saved = np.arange(len(data.catalog)), asked.to / f"yesterday-{asked.seed}"
    whole = plan.training.resolved(len(data.pairs.train)).steps or 1

    def train(name: str, used: Dataset, part: float, seed: int, earlier: Earlier | None = None) -> Vectors:
        began, folder = perf_counter(), asked.to / "trials" / f"{name}-{part:g}-{seed}".replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        settings = replace(plan.training, steps=max(1, round(part * whole)))
        if earlier is not None:
            settings = replace(settings, from_="run", compatible=earlier.compatible)
        trial = Trial(replace(plan, training=settings), used, section, seed, folder, earlier)
        model = trial.fit()
        vectors = trial.embed(model, everything, shown=False)
        if not saved.exists():
            assert isinstance(model, ItemEmbedder)
            model.save(saved)
        line = shown(data, vectors, old if earlier is not None or used is data else vectors)
        print(f"| {name} | {settings.steps} | {perf_counter() - began:.0f} | {line} |", flush=True)
        return vectors

    print(f"{len(data.pairs.train):,} training pairs, {len(data.new_items or ()):,} queries")
    print("| training | steps | seconds | new → new | new → old | new → half old |\n|---|--:|--:|--:|--:|--:|")
    old = train("yesterday", yesterday(data, 0.7), 0.7, asked.seed)
    for part in asked.parts:
        train("afresh", data, part, asked.seed + 100)
        train("going on", data, part, asked.seed, Earlier(saved, {}, 0.0))
        for weight in asked.weights:
            train(f"going on, compatible {weight:g}", data, part, asked.seed, Earlier(saved, {}, weight))


if __name__ == "__main__":
    main()
