"""Where could a title that says where to look still pay? Three kinds of shop, all contenders alike.

    python benchmarks/worlds.py titles --data ../shared/data/fashion --to FOLDER
    python benchmarks/worlds.py places --data ../shared/data/fashion --to FOLDER
    python benchmarks/worlds.py pictures --to FOLDER

titles: 30 % of the fashion items wear a wrong text in training and test alike: a third of them another item's title
and category, a third a title that says nothing, a third the words of four other items after their own.
places: 14 x 14 visual tokens a picture; the fashion catalogue as it is. `--side 7` gives the same with 7 x 7.
pictures: every item of the drawn catalogue has three pictures, noise is on the first alone; all of them are attended.

Each model has the same steps and learning rate; the rows without training stand beside them. The bench's own tables
are printed, and stay in FOLDER; what is done is not done again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.importer import import_catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.config import parse
from tgqformer.experiments.bench.bench import Bench
from tgqformer.experiments.bench.grid import BenchRecipe
from tgqformer.pairs.pairs import Pairs
from tgqformer.synthetic.shoppers import SHOPPERS, prepare_pairs, subset
from tgqformer.synthetic.studio.product import products
from tgqformer.synthetic.studio.write import TRUTH, draw_all, item_of

MODELS = {"TGQ-Former": "tgq", "text-aware Q-Former": "text-qformer", "Q-Former": "qformer", "MLP": "mlp"}
PARTS = {
    "no gates": {"gates": "none"},
    "no agreement bias": {"agreement_bias": False},
    "no value path": {"value_path": False},
}
SPOILT, VIEWS = 0.3, 3
SHARES = (0.6, 0.1, 0.3)


def spoil(item: Item, others: list[Item], rng: np.random.Generator) -> Item:
    """Return an item with another's text, with one that says nothing, or with its own among many foreign words."""
    kind = rng.integers(3)
    if kind == 0:
        return replace(item, title=others[0].title, category=others[0].category)
    if kind == 1:
        return replace(item, title="New arrival best price", category=())
    return replace(item, title=" ".join(filter(None, (one.title for one in (item, *others)))))


def write_fashion(data: Path, to: Path, count: int, spoilt: float) -> None:
    """Write a part of the fashion catalogue, a share of whose items are spoilt, drawn at random."""
    import_catalog(data, to / "whole", show_progress_bar=True)
    whole = Catalog.open(to / "whole")
    kept = set(subset(whole.ids(), count))
    items, rng = [item for item in whole.items() if item.id in kept], np.random.default_rng(0)
    with CatalogWriter(to / "shop", name="shop", pack=False, root=whole.root) as writer:
        for item in items:
            if rng.random() < spoilt:
                item = spoil(item, [items[place] for place in rng.integers(len(items), size=4)], rng)
            writer.add(item)


def draw_views(to: Path, count: int) -> None:
    """Draw a catalogue in which each item has three pictures, and the pairs of its shoppers."""
    truth = []
    with CatalogWriter(to / "shop", name="shop", pack=True) as writer:
        for product in products(count, 0):
            drawn = draw_all(replace(product, views=VIEWS))
            writer.add(item_of(drawn))
            truth.append({name: getattr(drawn.product, name) for name in TRUTH.names[:-1]})
    known = pa.Table.from_pylist(truth, schema=pa.schema(list(TRUTH)[:-1]))
    prepare_pairs(Catalog.open(to / "shop"), SHOPPERS["studio"], to / "pairs", SHARES, 0, truth=known)
    parts = [Pairs.read(to / f"pairs/pairs-{part}.parquet").table for part in ("train", "val", "test")]
    pq.write_table(pa.concat_tables(parts), to / "pairs.parquet")


def plan(asked: argparse.Namespace) -> dict[str, Any]:
    """Return what the bench changes in its base recipe."""
    shares = dict(zip(("train", "val", "test"), SHARES, strict=True))
    changed: dict[str, Any] = {
        "catalog": {"source": str(asked.to / "shop"), "items": 0},
        "pairs": shares,
        "training": {"steps": asked.steps, "visual_steps": asked.steps, "validate_every": asked.steps}
        | ({"visual_batch": asked.visual_batch} if asked.visual_batch else {}),
        "evaluation": {"views": ["mixed", "collage"]},
    }
    if asked.world == "places":
        changed["encoders"] = {"vision_options": {"side": asked.side}}
    if asked.world == "pictures":
        changed["pairs"] = shares | {"pairs": str(asked.to / "pairs.parquet"), "shoppers": None}
        changed["prompt"] = {"pictures": "attend"}
    return changed


def main() -> None:
    """Write the catalogue where it is not there yet, run the bench, print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=["titles", "places", "pictures"])
    parser.add_argument("--data", type=Path, help="the folder of the fashion catalogue")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--items", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=250, help="of the connector alone, and with the language model")
    parser.add_argument("--visual-batch", type=int, help="items that the connector alone learns from at once")
    parser.add_argument("--side", type=int, default=14, help="of the grid of places")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=[*MODELS, *PARTS], default=list(MODELS))
    parser.add_argument("--only", nargs="+", default=[], help="parts of the names of cells; others wait")
    asked = parser.parse_args()
    if asked.world != "pictures" and asked.data is None:
        parser.error("--data names the folder of the fashion catalogue")
    if asked.world == "pictures" and "MLP" in asked.models:
        asked.models.remove("MLP")  # it has a fixed grid and cannot attend to several pictures
    asked.to = asked.to.resolve()
    asked.to.mkdir(parents=True, exist_ok=True)
    if not (asked.to / "shop").exists():
        if asked.world == "pictures":
            draw_views(asked.to, asked.items)
        else:
            write_fashion(asked.data, asked.to, asked.items, SPOILT if asked.world == "titles" else 0.0)
    models = [{"name": name, "connector": MODELS[name]} for name in asked.models if name in MODELS]
    models += [
        {"name": name, "connector": "tgq", "options": PARTS[name], "ablation": True, "tuned_as": "TGQ-Former"}
        for name in asked.models
        if name in PARTS
    ]
    bench = {
        "name": asked.world,
        "base": "demo" if asked.world == "pictures" else "fashion",
        "set": plan(asked),
        "models": models,
        "languages": {"minilm": {"name": "minilm"}},
        "headline": {"model": "TGQ-Former", "language": "minilm"},
        "grids": [{"title": asked.world, "languages": ["minilm"], "seeds": asked.seeds}],
    }
    Bench(parse(BenchRecipe, bench, asked.world), asked.to / "bench", only=asked.only).report()
    print((asked.to / "bench/table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
