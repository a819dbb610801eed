"""Is a model ever behind what needs no training? Small and large shops, few and many clicks, clean and noisy ones.

    python benchmarks/curves.py --data ../shared/data/fashion --to FOLDER --items 500 2000 --pairs 1 4 --seeds 3
    python benchmarks/curves.py --to FOLDER --show

A point is a part of the fashion catalogue (colours stay in the titles) with the log of its own simulated shoppers: so
many pairs an item, a share of accidental clicks, a share of clicks that go to complements. Each model is trained with
the default settings, as `tgq run` trains it; a seed draws other clicks, test items and weights. Test items are new
items in a known shop: any partner counts. Each point is one file in FOLDER; what is there is not made again.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from tgqformer.catalog.catalog import Catalog
from tgqformer.config import parse
from tgqformer.evaluation.results import Result
from tgqformer.experiments.dataset import NEW_ITEM, Dataset
from tgqformer.experiments.presets import CHOICE
from tgqformer.experiments.recipe import Recipe
from tgqformer.experiments.trial import Trial
from tgqformer.experiments.untrained import untrained_results
from tgqformer.files import read_json, write_json
from tgqformer.pairs.mining import EVERY_CO_CLICK
from tgqformer.pairs.pairs import Pairs, mine_pairs
from tgqformer.pairs.splits import ItemSplit
from tgqformer.synthetic.shoppers import FASHION, Shoppers, simulate_sessions

AXES = ("items", "pairs", "accidental", "complements")
MODELS = {
    "TGQ-Former": "tgq",
    "text-aware Q-Former": "text-qformer",
    "Q-Former": "qformer",
    "MLP": "mlp",
    "text only": "none",
}


def recipe(data: Path, items: int, pairs: Path, seed: int, models: list[str]) -> Recipe:
    """Return the recipe of a point."""
    plain: dict[str, Any] = {
        "name": "curves",
        "catalog": {"source": str(data), "items": items, "seed": seed},
        "pairs": {"pairs": str(pairs), "seed": seed},
        "noise": {"share": 0.0},
        "prompt": {"fields": ["title", "category"]},
        "evaluation": {"views": ["mixed"]},
        "models": [{"name": name, "connector": MODELS[name]} for name in models],
        "seeds": [seed],
    }
    return parse(Recipe, plain, "curves")


def shoppers(per_item: float, accidental: float, complements: float, seed: int) -> Shoppers:
    """Return shoppers whose sessions, of some six pairs each, make about as many pairs an item as asked."""
    return replace(FASHION, sessions_per_item=per_item / 6, accidental=accidental, complements=complements, seed=seed)


def draw(catalog: Catalog, plan: Shoppers, per_item: float, to: Path) -> None:
    """Write the pairs of a log: at most so many an item, drawn at random."""
    whole = ItemSplit.by_hash(catalog.ids(), (1.0, 0.0, 0.0))
    mined = mine_pairs(simulate_sessions(catalog, plan, whole), EVERY_CO_CLICK).table
    count = min(len(mined), round(per_item * len(catalog)))
    Pairs(mined.take(np.sort(np.random.default_rng(plan.seed).permutation(len(mined))[:count]))).write(to)


def measure(data: Path, to: Path, point: dict[str, Any], models: list[str]) -> dict[str, Any]:
    """Train and measure one point; return H@10 of each model, and of what needs no training, in %."""
    pairs = to / "pairs.parquet"
    dataset = Dataset(recipe(data, point["items"], pairs, point["seed"], models), to)
    plan = shoppers(point["pairs"], point["accidental"], point["complements"], point["seed"])
    draw(dataset.catalog, plan, point["pairs"], pairs)
    found = {result.model: hits(result) for result in untrained_results(dataset, to / "untrained")}
    trained, chosen = {}, {}
    for section in dataset.recipe.models:
        trial = Trial(dataset.recipe, dataset, section, point["seed"], to / "models" / section.connector)
        trial.folder.mkdir(parents=True, exist_ok=True)
        trained[section.name] = hits(trial.measure(trial.fit()))
        choice = read_json(trial.folder / CHOICE)
        chosen[section.name] = {key: choice[key] for key in ("preset", "share", "until", "folds")}
    queries = dataset.new_items
    return point | {
        "train": len(dataset.pairs.train),
        "queries": 0 if queries is None else len(queries),
        "untrained": found,
        "trained": trained,
        "chosen": chosen,
    }


def hits(result: Result) -> float:
    """Return H@10 in % for new items in a known shop."""
    return 100 * float(np.mean(result.views[NEW_ITEM].values["hit@10"]))


def show(to: Path) -> None:
    """Print a line for each point and model: means over seeds with 95 %, against what is best untrained on average."""
    by_point = dict[tuple[Any, ...], list[dict[str, Any]]]()
    for path in sorted(to.glob("point-*.json")):
        found = read_json(path)
        by_point.setdefault(tuple(found[key] for key in AXES), []).append(found)
    heads = (*AXES, "seeds", "best untrained", "model", "H@10, %", "lead", "share learned, settings")
    print("|", " | ".join(heads), "|\n" + "|---" * len(heads) + "|")
    for key, runs in sorted(by_point.items()):
        means = {name: np.mean([run["untrained"][name] for run in runs]) for name in runs[0]["untrained"]}
        best = max(means, key=lambda name: means[name])
        for name in runs[0]["trained"]:
            mine = [run for run in runs if name in run["trained"]]
            ours = np.array([run["trained"][name] for run in mine])
            leads = ours - [run["untrained"][best] for run in mine]
            shares = " ".join(f"{run['chosen'][name]['share']:.1f} {run['chosen'][name]['preset']}" for run in mine)
            cells = [*key[:2], *(f"{100 * share:.0f} %" for share in key[2:]), len(mine), f"{best} {means[best]:.1f}"]
            print("|", " | ".join(map(str, [*cells, name, spread(ours), spread(leads, "+"), shares])), "|")


def spread(values: np.ndarray, sign: str = "") -> str:
    """Say a mean, with its 95 % over seeds by Student's t where there are several."""
    mean = f"{values.mean():{sign}.1f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5:.1f}"


def points(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Return the points that were asked for, all of one seed before the next."""
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        for values in itertools.product(asked.items, asked.pairs, asked.accidental, asked.complements):
            yield dict(zip(AXES, values, strict=True)) | {"seed": seed}


def main() -> None:
    """Measure the points that are not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--items", type=int, nargs="+", default=[500, 2000, 8000, 44441])
    parser.add_argument("--pairs", type=float, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--accidental", type=float, nargs="+", default=[0.0, 0.3, 0.6])
    parser.add_argument("--complements", type=float, nargs="+", default=[0.0, 0.3])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--show", action="store_true", help="only print what is there")
    asked = parser.parse_args()
    if not asked.show and asked.data is None:
        parser.error("--data names the folder of the fashion catalogue")
    for point in () if asked.show else points(asked):
        name = "-".join(f"{value:g}" for value in point.values())
        path, work = asked.to / f"point-{name}.json", asked.to / f"work-{name}"
        if path.exists():
            continue
        work.mkdir(parents=True, exist_ok=True)
        write_json(path, measure(asked.data, work, point, asked.models))
        shutil.rmtree(work)
    show(asked.to)


if __name__ == "__main__":
    main()
