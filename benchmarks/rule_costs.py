"""What each rule costs: the share of queries that still find a co-clicked item, and how alike the lists are.

    python benchmarks/rule_costs.py RUN --embeddings FOLDER

RUN is a folder of `tgq run`; its test pairs ask, of items that the model did not see. Embed with the measured model:
`tgq embed RUN/shown --model RUN/models/NAME/seed-0/model --to FOLDER`. Every list has 10 items, chosen from all others.
Stock is drawn where the catalogue says none: a fifth is out of it. H@10: the share of queries with a co-clicked item in
the list. Alike: the mean cosine of two items of a list.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tgqformer.catalog.catalog import Catalog
from tgqformer.evaluation.metrics import Queries
from tgqformer.pairs.pairs import Pairs
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.lists import columns_of, list_of
from tgqformer.store.neighbours import Neighbours, build_neighbours
from tgqformer.store.rules import LENGTH, PLAIN, Columns, Rules

TRIED = {
    "no rule": PLAIN,
    "one_per_group": Rules(),
    "in_stock": replace(PLAIN, in_stock=True),
    "same_category: boost (0.1)": replace(PLAIN, same_category="boost"),
    "same_category: require": replace(PLAIN, same_category="require"),
    "price_from 0.5, price_to 2": replace(PLAIN, price_from=0.5, price_to=2.0),
    "min_score 0.5": replace(PLAIN, min_score=0.5),
    "diversity 0.1": replace(PLAIN, diversity=0.1),
    "diversity 0.3": replace(PLAIN, diversity=0.3),
    "diversity 0.5": replace(PLAIN, diversity=0.5),
    "same_picture_once": replace(PLAIN, same_picture_once=True),
}


def main() -> None:
    """Build full lists of neighbours, choose by each rule, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--embeddings", type=Path, required=True)
    given = parser.parse_args()
    embeddings = Embeddings.open(given.embeddings)
    shown = given.run / "shown"
    catalog = Catalog.open(shown if shown.is_dir() else given.run / "catalog")
    pairs = Pairs.read(given.run / "pairs" / "pairs-test.parquet").positions(catalog.ids())
    queries = Queries.from_pairs(pairs[:, 0], pairs[:, 1])
    columns = columns_of(catalog, Rules(same_picture_once=True))
    if columns.available.all():
        columns = replace(columns, available=np.random.default_rng(0).random(len(catalog)) > 0.2)
    with tempfile.TemporaryDirectory() as folder:
        near = build_neighbours(embeddings, Path(folder) / "n", len(embeddings), show_progress_bar=False)
        print(f"{len(catalog):,} items, {len(queries):,} queries\n\n| rule | H@10 | alike | full lists |")
        print("|---|---|---|---|")
        for name, rules in TRIED.items():
            print(f"| {name} | {row(near, columns, queries, rules)} |", flush=True)


def row(near: Neighbours, columns: Columns, queries: Queries, rules: Rules) -> str:
    """Return the cells of a rule."""
    vectors, hits, alike, full = near.vectors, list[bool](), list[float](), 0
    assert vectors is not None
    for number, query in enumerate(queries.query.tolist()):
        places = list_of(near, columns, columns.ids[query], LENGTH, rules).places
        hits.append(bool(np.isin(places, queries.positives.row(number)).any()))
        full += len(places) == LENGTH
        if len(places) > 1:
            products = vectors[places] @ vectors[places].T
            alike.append(float(products[np.triu_indices(len(places), 1)].mean()))
    return f"{100 * np.mean(hits):.1f} | {np.mean(alike):.3f} | {100 * full / len(hits):.1f} %"


if __name__ == "__main__":
    main()
