"""What each rule costs: the share of queries that still find a co-clicked item, and how alike the lists are.

    python benchmarks/rule_costs.py RUN --model RUN/models/NAME/seed-0/model --to FOLDER

RUN is a folder of `tgq run`; its test pairs ask, of items that the model did not see. Three things that a shop has and
a drawn catalogue lacks are added to it, by place in the catalogue, in a catalogue of its own that the model embeds:

- every fifth product is sold in three sizes: two more items of its group, with its pictures and the size in the title;
- every tenth, from the sixth on, is listed twice: a second id, "New: " before the title, the first picture saved anew
  as JPEG of quality 75 at 0.8 times its size, and no group;
- of all items a fifth, drawn at random, is out of stock.

Every list has 10 items, chosen from the 500 nearest. H@10: the share of queries with a co-clicked product in the list,
in any size or listing. Alike: the mean cosine of two items of a list. Again: the share of places that show the
query's own product, or one that stands higher in the list.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.pictures import look_of, picture_bytes, read_picture
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.evaluation.metrics import Queries
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.pairs.pairs import Pairs
from tgqformer.store.embed import embed_catalog
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.lists import columns_of, list_of
from tgqformer.store.neighbours import Neighbours, build_neighbours
from tgqformer.store.rules import LENGTH, PLAIN, Columns, Rules
from tgqformer.types import Ints

SIZES, NEAREST = ("S", "M", "L"), 500
TRIED = {
    "no rule": PLAIN,
    "one_per_group": Rules(),
    "in_stock": replace(PLAIN, in_stock=True),
    "same_category: boost (0.1)": replace(PLAIN, same_category="boost"),
    "same_category: require": replace(PLAIN, same_category="require"),
    "price_from 0.5, price_to 2": replace(PLAIN, price_from=0.5, price_to=2.0),
    "min_score 0.8": replace(PLAIN, min_score=0.8),
    "diversity 0.1": replace(PLAIN, diversity=0.1),
    "diversity 0.3": replace(PLAIN, diversity=0.3),
    "diversity 0.5": replace(PLAIN, diversity=0.5),
    "same_picture_once": replace(PLAIN, same_picture_once=True),
    "one_per_group, same_picture_once, in_stock": Rules(same_picture_once=True, in_stock=True),
}


@dataclass(frozen=True)
class Shop:
    """The catalogue with sizes, doubles and stock: its exact neighbours, what rules read, the product of each item."""

    near: Neighbours
    columns: Columns
    product: Ints


def main() -> None:
    """Find the nearest of all, choose by each rule, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True, help="a folder for catalogue and embeddings; kept")
    given = parser.parse_args()
    shown = given.run / "shown"
    plain = Catalog.open(shown if shown.is_dir() else given.run / "catalog")
    if not (given.to / "catalog").is_dir():
        write_shop(plain, given.to / "catalog")
    catalog = Catalog.open(given.to / "catalog")
    embed_catalog(ItemEmbedder.load(given.model), catalog, given.to / "embeddings")
    pairs = Pairs.read(given.run / "pairs" / "pairs-test.parquet").positions(plain.ids())
    queries, place = Queries.from_pairs(pairs[:, 0], pairs[:, 1]), catalog.positions(plain.ids())
    product = plain.positions([name.partition("/")[0] for name in catalog.ids()])
    with tempfile.TemporaryDirectory() as folder:
        embeddings = Embeddings.open(given.to / "embeddings")
        near = build_neighbours(
            embeddings, Path(folder) / "n", min(NEAREST, len(embeddings) - 1), show_progress_bar=False
        )
        shop = Shop(near, columns_of(catalog, Rules(same_picture_once=True)), product)
        print(f"{len(plain):,} products, {len(catalog):,} items, {len(queries):,} queries\n")
        print("| rule | H@10 | alike | again | full lists |\n|---|--:|--:|--:|--:|")
        for name, rules in TRIED.items():
            print(f"| {name} | {row(shop, queries, place, rules)} |", flush=True)


def write_shop(plain: Catalog, to: Path) -> None:
    """Write the catalogue with sizes, doubles and stock."""
    luck = np.random.default_rng(0)
    with CatalogWriter(to, name="with sizes and doubles", pack=True) as writer:
        for number, item in enumerate(plain.items()):
            for one in listed(item, number, plain.root):
                stock = "out_of_stock" if luck.random() < 0.2 else "in_stock"
                writer.add(replace(one, availability=stock))


def listed(item: Item, number: int, root: Path | None) -> Iterator[Item]:
    """Yield a product as it is listed: alone, in its sizes, or twice."""
    item = replace(item, pictures=tuple(packed(picture_bytes(one, root)) for one in item.pictures))
    sized = number % 5 == 0
    yield replace(item, title=f"{item.title} {SIZES[0]}", item_group=item.id) if sized else item
    if sized:
        for size in SIZES[1:]:
            yield replace(item, id=f"{item.id}/{size}", title=f"{item.title} {size}", item_group=item.id)
    elif number % 10 == 6 and item.pictures:
        copy, image = BytesIO(), read_picture(item.pictures[0], root)
        image.resize([round(0.8 * side) for side in image.size]).save(copy, "JPEG", quality=75)
        yield replace(
            item,
            id=f"{item.id}/new",
            title=f"New: {item.title}",
            pictures=(packed(copy.getvalue()), *item.pictures[1:]),
        )


def packed(data: bytes) -> Picture:
    """Return a picture with its bytes and its look."""
    picture = Picture(Picture.digest_of(data), data=data)
    return replace(picture, look=look_of(data))


def row(shop: Shop, queries: Queries, place: Ints, rules: Rules) -> str:
    """Return the cells of a rule."""
    vectors, hits, alike, again, full = shop.near.vectors, list[bool](), list[float](), list[float](), 0
    assert vectors is not None
    for number, query in enumerate(queries.query.tolist()):
        places = list_of(shop.near, shop.columns, shop.columns.ids[place[query]], LENGTH, rules).places
        products = shop.product[places]
        hits.append(bool(np.isin(products, queries.positives.row(number)).any()))
        full += len(places) == LENGTH
        if len(places):
            again.append(1 - len(set(products.tolist()) - {query}) / len(places))
        if len(places) > 1:
            cosines = vectors[places] @ vectors[places].T
            alike.append(float(cosines[np.triu_indices(len(places), 1)].mean()))
    shares = f"{100 * np.mean(again):.1f} | {100 * full / len(hits):.1f}"
    return f"{100 * np.mean(hits):.1f} | {np.mean(alike):.3f} | {shares}"


if __name__ == "__main__":
    main()
