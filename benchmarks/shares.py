"""Does training pay where pairs are few? What needs no training, and a model at every share of what it learned.

    python benchmarks/shares.py fashion --data ../shared/data/fashion --to /tmp/shares
    python benchmarks/shares.py grocery --data ../shared/data/grocery --to /tmp/shares --preset gentle --seed 1

fashion: 2,000 products, titles with their colour words, 3,000 of the pairs that simulated shoppers click, across parts
of the split too. grocery: 5,421 photos, 24,000 pairs of one fine class within one part of the published split.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tgqformer.config import parse
from tgqformer.evaluation.metrics import Queries, evaluate
from tgqformer.evaluation.untrained import STEPS, evaluate_sparse, tfidf
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.recipe import Recipe
from tgqformer.experiments.trial import Trial
from tgqformer.files import read_json
from tgqformer.pairs.mining import EVERY_CO_CLICK
from tgqformer.pairs.pairs import Pairs, mine_pairs
from tgqformer.pairs.splits import ItemSplit
from tgqformer.synthetic.shoppers import FASHION, simulate_sessions


def recipe(name: str, data: Path, pairs: Path, preset: str) -> Recipe:
    """Return the recipe of a catalogue."""
    source = {"source": str(data), "items": 2000} if name == "fashion" else {"source": str(data / "items-00.parquet")}
    plain: dict[str, Any] = {
        "name": name,
        "catalog": source,
        "pairs": {"pairs": str(pairs)},
        "noise": {"share": 0.0},
        "prompt": {"fields": ["title", "category"]},
        "evaluation": {"views": ["mixed"]},
        "models": [{"name": "TGQ-Former", "connector": "tgq", "preset": preset}],
    }
    return parse(Recipe, plain, name)


def co_clicks(dataset: Dataset) -> Pairs:
    """Draw 3,000 of the pairs that simulated shoppers click in the whole catalogue."""
    catalog = dataset.catalog
    whole = ItemSplit.by_hash(catalog.ids(), (1.0, 0.0, 0.0))
    mined = mine_pairs(simulate_sessions(catalog, FASHION, whole), EVERY_CO_CLICK).table
    return Pairs(mined.take(np.sort(np.random.default_rng(0).permutation(len(mined))[:3000])))


def of_one_class(photos: Path) -> Pairs:
    """Draw 24,000 pairs of photos of one fine class and one part of the published split."""
    table, rng, pairs = pq.read_table(photos, columns=["id", "fine_class", "split"]), np.random.default_rng(0), set()
    ids, groups = table["id"].to_pylist(), dict[tuple[str, str], list[int]]()
    for place, key in enumerate(zip(table["fine_class"].to_pylist(), table["split"].to_pylist(), strict=True)):
        groups.setdefault(key, []).append(place)
    many = [group for group in groups.values() if len(group) > 1]
    sizes = np.array([len(group) for group in many]) / sum(len(group) for group in many)
    while len(pairs) < 24000:
        a, b = rng.choice(many[rng.choice(len(many), p=sizes)], 2, replace=False)
        pairs.add((min(a, b), max(a, b)))
    left, right = zip(*sorted(pairs), strict=True)
    return Pairs.of([str(ids[a]) for a in left], [str(ids[b]) for b in right])


def main() -> None:
    """Measure, and print a line for each share: H@10 of both views."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["fashion", "grocery"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--preset", choices=["given", "gentle"], default="given")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder, pairs = asked.to / asked.name, asked.to / f"{asked.name}.parquet"
    plan = recipe(asked.name, asked.data, pairs, asked.preset)
    dataset = Dataset(plan, folder)
    drawn = co_clicks(dataset) if asked.name == "fashion" else of_one_class(asked.data / "items-00.parquet")
    drawn.write(pairs)
    views = {"unseen": dataset.queries, "new item": dataset.new_items}
    every, frozen = np.arange(len(dataset.catalog)), dataset.frozen
    for name, part in (("picture", frozen.sharing(0.0)), ("text", frozen.sharing(1.0)), ("sum", frozen)):
        show(f"frozen {name}", dataset.frozen_vectors(part, every), views)
    words = tfidf([dataset.encoders.prompt.metadata(item) for item in dataset.catalog.items(pictures=False)])
    print(
        "TF-IDF",
        {view: percent(evaluate_sparse(words, asked).values["hit@10"]) for view, asked in views.items() if asked},
    )
    trial = Trial(plan, dataset, plan.models[0], asked.seed, folder / f"{asked.preset}-{asked.seed}")
    trial.folder.mkdir(parents=True, exist_ok=True)
    model = trial.fit()
    model.begin_at(frozen, 1.0)  # type: ignore[union-attr]
    learned, begun = trial.embed(model, every, shown=False), dataset.frozen_vectors(frozen, every)
    for share in STEPS:
        mixed = np.concatenate([(1 - share) ** 0.5 * begun, share**0.5 * learned], axis=1)
        show(f"{share:.1f} learned", mixed, views)
    print(read_json(trial.folder / "choice.json"))


def show(name: str, vectors: np.ndarray, views: dict[str, Queries | None]) -> None:
    """Print the H@10 of vectors on every view."""
    found = {view: percent(evaluate(vectors, queries).values["hit@10"]) for view, queries in views.items() if queries}
    print(name, found, flush=True)


def percent(values: np.ndarray) -> float:
    """Return a mean in per cent."""
    return round(100 * float(values.mean()), 1)


if __name__ == "__main__":
    main()
