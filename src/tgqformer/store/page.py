"""One self-contained page: an item and its neighbours, as pictures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL.Image import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import PictureError, read_picture
from tgqformer.files import write_text
from tgqformer.store.base import Filter, Hit

SIDE = 400  # pixels of the longer side of a picture on the page


@dataclass(frozen=True)
class PageCard:
    """What the page shows of one item; `share` is the score's bar in percent.

    `picture` is a data URI, `backdrop` the colour around it where it does not fill its square.
    """

    id: str
    name: str
    facts: str
    picture: str | None
    backdrop: str
    score: str = ""
    share: int = 0


def write_page(
    path: Path, query_id: str, hits: Sequence[Hit], catalog: Catalog, *, model_version: str, where: Filter | None = None
) -> None:
    """Write the page of an item of `catalog` and its `hits`, pictures within; no script, nothing from outside.

    Raises: TgqError for an item that the catalogue has not. A picture that cannot be read is left out.
    """
    query, *found = catalog.take([query_id, *(hit.id for hit in hits)])
    environment = Environment(
        loader=PackageLoader("tgqformer.store", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    cards = [_card(item, catalog.root, hit.score) for item, hit in zip(found, hits, strict=True)]
    content = environment.get_template("similar.html").render(
        query=_card(query, catalog.root), cards=cards, condition=words_of(where), model_version=model_version
    )
    write_text(path, content)


def price_of(price: float | None) -> str:
    """Write a price as shops do: two decimals, none where it is whole; empty for None."""
    return "" if price is None else f"{price:,.2f}".removesuffix(".00")


def price_now(item: Item | Hit) -> str:
    """Write what an item costs now, and in brackets what it cost before."""
    if item.sale_price is None:
        return price_of(item.price)
    return f"{price_of(item.sale_price)} ({price_of(item.price)})"


def words_of(where: Filter | None) -> str:
    """Say a filter in words; empty for none."""
    if not where:
        return ""
    categories = [*where.category, *map(" › ".join, where.path)]
    parts = ["in " + " or ".join(categories)] if categories else []
    parts += ["by " + " or ".join(where.brand)] if where.brand else []
    parts += [f"from {price_of(where.min_price)}"] if where.min_price is not None else []
    parts += [f"up to {price_of(where.max_price)}"] if where.max_price is not None else []
    parts += [" or ".join(word.replace("_", " ") for word in where.availability)] if where.availability else []
    parts += ["variants of " + " or ".join(where.item_group)] if where.item_group else []
    parts += ["in " + " or ".join(where.currency)] if where.currency else []
    return ", ".join(parts)


def _card(item: Item, root: Path | None, score: float | None = None) -> PageCard:
    facts = " · ".join(filter(None, [item.brand, " › ".join(item.category), price_now(item)]))
    image = _first_picture(item, root)
    picture, backdrop = (None, "") if image is None else (_data_uri(image), _edge_colour(image))
    card = PageCard(item.id, item.title or "(no title)", facts, picture, backdrop)
    if score is None:
        return card
    return replace(card, score=f"{score:.3f}", share=round(100 * min(max(score, 0.0), 1.0)))


def _first_picture(item: Item, root: Path | None) -> Image | None:
    for picture in item.pictures:
        try:
            image = read_picture(picture, root)
        except PictureError:
            continue  # the next picture of the item will do; the page shows "no picture" if none does
        image.thumbnail((SIDE, SIDE))
        return image
    return None


def _data_uri(image: Image) -> str:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode()


def _edge_colour(image: Image) -> str:
    """Return the median colour of the picture's two longer edges, which its backdrop continues."""
    pixels = np.asarray(image)
    edges = pixels[:, [0, -1]] if image.height >= image.width else pixels[[0, -1]]
    red, green, blue = np.median(edges.reshape(-1, 3), axis=0).astype(int)
    return f"rgb({red} {green} {blue})"
