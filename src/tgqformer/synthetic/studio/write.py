"""Draw a whole shop: the studio catalogue, and the truth about it beside it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.errors import TgqError
from tgqformer.parallel import cores
from tgqformer.progress import track
from tgqformer.synthetic.studio.draw import draw_product
from tgqformer.synthetic.studio.kinds import KINDS
from tgqformer.synthetic.studio.product import Product, products

ALONE = 200
"""Fewer items than this are drawn without starting further processes."""
STUDIO_VERSION = 1
"""Changes whenever the same seed gives another catalogue."""
TRUTH = pa.schema(
    [(name, pa.string()) for name in ("id", "kind", "colour", "pattern", "material", "variant", "brand")]
    + [("mask", pa.binary())]
)
"""Columns of `truth.parquet`; `mask` is a 1-bit PNG of the product in its first picture."""


@dataclass(frozen=True)
class Drawn:
    """A product with its pictures (JPEG bytes) and the mask of the first (PNG bytes)."""

    product: Product
    pictures: tuple[bytes, ...]
    mask: bytes


def draw_studio(
    to: Path,
    *,
    items: int = 2000,
    seed: int = 0,
    shown: bool = True,
    workers: int | None = None,
    overwrite: bool = False,
) -> Catalog:
    """Draw the studio catalogue into the folder `to`; the same seed gives the same bytes.

    Beside the catalogue's own files stands `truth.parquet` (see `TRUTH`): what the pictures show and no text says.

    Args:
        to: folder of the catalogue. overwrite: replace a catalogue there. items: how many products.
        seed: of everything. shown: show a progress bar.
        workers: processes that draw (None: one for each core, when there is enough to draw). They are spawned: a script
            that calls this needs the usual `if __name__ == "__main__":`, or `workers=1`, which draws in this process.

    Raises:
        TgqError: for a number of items below one, or if the package that draws SVG is not installed.
    """
    if items < 1:
        raise TgqError(f"a catalogue of {items} items cannot be drawn; ask for one at least")
    if seed < 0:
        raise TgqError(f"the seed {seed} is negative; give 0 or more")
    truth: list[dict[str, object]] = []
    about = {"studio": {"version": STUDIO_VERSION, "seed": seed, "items": items}}
    with CatalogWriter(to, name="studio", pack=True, about=about, overwrite=overwrite) as writer:
        for drawn in track(_drawn(items, seed, workers), "drawing the studio", items, shown=shown):
            writer.add(item_of(drawn))
            truth.append(_truth_of(drawn))
        pq.write_table(pa.Table.from_pylist(truth, schema=TRUTH), writer.folder / "truth.parquet")
    return Catalog.open(to)


def draw_all(product: Product) -> Drawn:
    """Draw every view of a product."""
    views = [draw_product(product, view) for view in range(product.views)]
    return Drawn(
        product, tuple(_encoded(picture, "JPEG") for picture, _ in views), _encoded(Image.fromarray(views[0][1]), "PNG")
    )


def item_of(drawn: Drawn) -> Item:
    """Return the item that the shop shows: no kind, colour, pattern or variant but what title and category say."""
    product = drawn.product
    return Item(
        id=product.id,
        title=product.title,
        brand=product.brand,
        category=KINDS[product.kind].category,
        attributes={"material": product.material},
        price=product.price,
        pictures=tuple(Picture(Picture.digest_of(data), None, data) for data in drawn.pictures),
    )


def _truth_of(drawn: Drawn) -> dict[str, object]:
    return {**{name: getattr(drawn.product, name) for name in TRUTH.names[:-1]}, "mask": drawn.mask}


def _drawn(items: int, seed: int, workers: int | None) -> Iterator[Drawn]:
    """Draw in order."""
    if workers is None:
        workers = min(cores(), 16) if items >= ALONE else 1
    if workers < 2:
        yield from map(draw_all, products(items, seed))
        return
    # SVG is drawn under Python's global lock: threads would wait for each other.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(draw_all, products(items, seed), chunksize=16)
        except BrokenProcessPool as error:
            raise TgqError(
                "the processes that draw ended early: out of memory, or a script without "
                '`if __name__ == "__main__":` around this call; mend that, or draw with workers=1'
            ) from error


def _encoded(picture: Image.Image, kind: str) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return file.getvalue()
