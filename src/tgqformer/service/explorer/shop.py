"""What the pages ask of a site, as plain data: products, neighbours, explanations, noise trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.pictures import picture_bytes
from tgqformer.files import read_json
from tgqformer.service.errors import ApiError, unknown_item
from tgqformer.service.explorer.browse import Browser
from tgqformer.service.explorer.colors import swatch
from tgqformer.service.explorer.explain import agreeing, facts, look
from tgqformer.service.explorer.noising import Asked, noised
from tgqformer.service.explorer.pictures import Kept, jpeg
from tgqformer.store.base import Filter, Hit

if TYPE_CHECKING:
    from tgqformer.service.served import Served
    from tgqformer.service.site import Site

Vector = NDArray[np.float32]
Data = dict[str, Any]
PICTURE_BYTES = 64 << 20
"""Encoded pictures kept in memory."""
VECTORS = 2048
"""Embeddings of noised pictures kept in memory."""


@dataclass(frozen=True)
class Goods:
    """The catalogue as it is served at one moment: what is browsed, and the same pictures without noise, if known."""

    catalog: Catalog
    browser: Browser
    clean: Catalog | None


class Shop:
    """Answers for the pages. Every method blocks; call them from threads. Raises ApiError for an unknown id."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._goods: Kept[Goods] = Kept(1)
        self._pictures: Kept[bytes] = Kept(PICTURE_BYTES, len)
        self._vectors: Kept[Vector] = Kept(VECTORS)

    # --- products -----------------------------------------------------------------------------------------------------

    def goods(self) -> Goods | None:
        """Give the catalogue that is served now; None where the site has none."""
        catalog = self.site.catalog
        if catalog is None:
            return None
        key = (str(catalog.path), catalog.fingerprint)
        return self._goods.get(key, lambda: Goods(catalog, Browser(catalog), clean_of(catalog)))

    def find(self, words: str, category: tuple[str, ...], brand: str, start: int, count: int) -> Data:
        """Give one page of a search: `total`, and `items` from `start`."""
        goods = self.goods()
        if goods is None:
            return {"total": 0, "items": []}
        found = goods.browser.find(words, category, brand)
        items = goods.catalog.take_positions(found[start : start + count], pictures=False)
        return {"total": len(found), "items": [card_of(item) for item in items]}

    def product(self, item_id: str) -> Data:
        """Give everything that is known of an item; `clean` is the digest of its picture without noise, if another."""
        item = self.item(item_id)
        clean = self._clean_picture(item)
        details = {"attributes": dict(item.attributes), "pictures": len(item.pictures)}
        worn = clean is not None and bool(item.pictures) and clean.digest != item.pictures[0].digest
        return {**card_of(item), **details, "clean": clean.digest if worn and clean is not None else None}

    def item(self, item_id: str) -> Item:
        """Give an item with its pictures; raises ApiError 404 for an unknown one."""
        item = self.site.item(item_id)
        if item is None:
            raise unknown_item(item_id)
        return item

    def items(self, ids: Sequence[str]) -> list[Item | None]:
        """Give items without the bytes of their pictures; None for an unknown one."""
        goods = self.goods()
        places = [goods.browser.position(item_id) if goods else -1 for item_id in ids]
        known = [place for place in places if place >= 0]
        read = iter(goods.catalog.take_positions(known, pictures=False) if goods and known else [])
        return [next(read) if place >= 0 else self.site.item(name) for name, place in zip(ids, places, strict=True)]

    # --- pictures -----------------------------------------------------------------------------------------------------

    def picture(self, item_id: str) -> Image.Image | None:
        """Give an item's picture as the shop shows it; None where it has none."""
        data = self.site.picture(item_id)
        return self.site.stored(data) if data is not None else None

    def clean_picture(self, item: Item) -> Image.Image | None:
        """Give an item's picture without noise, where that is known; else as the shop shows it."""
        goods, clean = self.goods(), self._clean_picture(item)
        if goods is None or goods.clean is None or clean is None:
            return self.picture(item.id)
        [whole] = goods.clean.take([item.id])
        return self.site.stored(picture_bytes(whole.pictures[0], goods.clean.root))

    def encoded(self, item_id: str, size: str) -> bytes | None:
        """Give an item's picture as JPEG; None where it has none."""
        data = self.site.picture(item_id)
        if data is None:
            return None
        return self._pictures.get((Picture.digest_of(data), size), lambda: jpeg(self.site.stored(data), size))

    def encoded_noised(self, item_id: str, asked: Asked, size: str) -> bytes | None:
        """Give an item's picture with noise on it as JPEG; None where it has none."""
        item = self.item(item_id)
        picture = self.noised(item, asked)
        return jpeg(picture, size) if picture is not None else None

    def noised(self, item: Item, asked: Asked) -> Image.Image | None:
        """Draw noise on an item's clean picture."""
        picture, goods = self.clean_picture(item), self.goods()
        if picture is None:
            return None
        return noised((goods.clean or goods.catalog) if goods else None, item, picture, asked)

    def _clean_picture(self, item: Item) -> Picture | None:
        """Give the picture that an item's own was drawn on; None where it has come in over HTTP since."""
        goods = self.goods()
        place = goods.browser.position(item.id) if goods is not None and goods.clean is not None else -1
        if goods is None or goods.clean is None or place < 0:
            return None
        [shown] = goods.catalog.take_positions([place], pictures=False)
        if [one.digest for one in shown.pictures[:1]] != [one.digest for one in item.pictures[:1]]:
            return None
        [clean] = goods.clean.take([item.id], pictures=False)
        return clean.pictures[0] if clean.pictures else None

    # --- neighbours ---------------------------------------------------------------------------------------------------

    def neighbours(self, item_id: str, versions: Sequence[str], k: int, where: Filter | None) -> Data:
        """Give a column of neighbours for each version; `shared_ids` are those in every column."""
        item = self.item(item_id)
        columns = []
        for version in versions:
            served = self.open(version)
            try:
                answer = served.similar(item_id, k, where)
            except ApiError as error:  # not in that version: the other column is still worth seeing
                columns.append(_failed(served, error.error, error.hint))
            else:
                columns.append(self._column(served, item, answer.hits, answer.source))
        return {"columns": columns}

    def trial(self, item_id: str, asked: Asked, versions: Sequence[str], k: int) -> Data:
        """Give, for each version, the neighbours of the noised picture and how many of the clean one's were kept."""
        item, columns = self.item(item_id), []
        for version in versions:
            served = self.open(version)
            if served.embedder is None:
                columns.append(_failed(served, *_NO_MODEL))
                continue
            before = self._found(served, item, Asked(), k)
            after = self._found(served, item, asked, k)
            was = {hit.id: place for place, hit in enumerate(before)}
            kept = sum(hit.id in was for hit in after)
            here = {hit.id for hit in after}
            lost = self._column(served, item, [hit for hit in before if hit.id not in here], "live")["hits"]
            column = self._column(served, item, after, "live")
            columns.append({**column, "kept": kept, "of": len(before), "was": was, "lost": lost})
        return {"columns": columns}

    def search(self, item: Item, picture: Image.Image | None, versions: Sequence[str], k: int) -> Data:
        """Find the neighbours of an item that is not in the shop."""
        columns = []
        for version in versions:
            served = self.open(version)
            if served.embedder is None:
                columns.append(_failed(served, *_NO_MODEL))
                continue
            vector = served.embed_now([item], [picture])[0]
            columns.append(self._column(served, item, served.search(vector, k, None), "live"))
        return {"columns": columns}

    def open(self, version: str) -> Served:
        """Open a version by its name, the served one by default; raises ApiError 404 for one that is not there."""
        return self.site.open_version(version) if version else self.site.served

    def _found(self, served: Served, item: Item, asked: Asked, k: int) -> list[Hit]:
        vector = self._vector(served, item, asked)
        return [hit for hit in served.search(vector, k + 1, None) if hit.id != item.id][:k]

    def _vector(self, served: Served, item: Item, asked: Asked) -> Vector:
        asked = asked if asked.severity else Asked()
        digest = self._clean_picture(item) or (item.pictures[0] if item.pictures else None)
        text = (item.title, item.brand, item.category, tuple(item.attributes.items()))
        key = (served.key, digest.digest if digest else "", text, asked)
        return self._vectors.get(key, lambda: served.embed_now([item], [self.noised(item, asked)])[0])

    def _column(self, served: Served, item: Item, hits: Sequence[Hit], source: str) -> Data:
        found = self.items([hit.id for hit in hits])
        rows = []
        for hit, other in zip(hits, found, strict=True):
            other = other or Item(hit.id, hit.title, hit.brand, hit.category, {}, hit.price)
            shared = agreeing(item, other) if item.id else None
            rows.append({**card_of(other), "score": round(float(hit.score), 4), "shared": shared})
        return {**_named(served), "source": source, "hits": rows}

    # --- why ----------------------------------------------------------------------------------------------------------

    def why(self, item_id: str, other_id: str, version: str, asked: Asked | None) -> Data:
        """Explain one neighbour: facts, and what the model saw in both pictures; `asked`: noise on the first."""
        served, first, second = self.open(version), self.item(item_id), self.item(other_id)
        pictures = [self.picture(first.id) if asked is None else self.noised(first, asked), self.picture(second.id)]
        colors = [swatch(picture) if picture is not None else None for picture in pictures]
        compared = facts(first, second, (colors[0], colors[1]))
        model = served.embedder
        if model is None:
            return {**_named(served), "facts": compared, "colors": colors, "seen": None, "note": "; ".join(_NO_MODEL)}
        sights = look(model, [first, second], pictures)
        fit = getattr(model.encoders.vision, "fit", "pad") if model.encoders else "pad"
        seen = {"grid": list(model.widths.grid), "fit": fit, "items": sights}
        return {**_named(served), "facts": compared, "colors": colors, "seen": seen, "note": None}


_NO_MODEL = ("this version's model is not here, so nothing new can be embedded", "name its folder with --model")


def card_of(item: Item) -> Data:
    """Give what a card shows; `picture` is the digest of the first picture."""
    return {
        "id": item.id, "title": item.title, "brand": item.brand, "category": list(item.category), "price": item.price,
        "picture": item.pictures[0].digest if item.pictures else None,
    }  # fmt: skip


def clean_of(catalog: Catalog) -> Catalog | None:
    """Find the catalogue without noise that a run's `shown/` was drawn from: it says so itself, by fingerprint."""
    made_from, beside = catalog.path / "stage.json", catalog.path.parent / "catalog"
    if not made_from.is_file() or beside == catalog.path or not (beside / "catalog.json").is_file():
        return None
    clean = Catalog.open(beside)
    said = read_json(made_from)
    return clean if isinstance(said, dict) and said.get("catalog") == clean.fingerprint else None


def uploaded(title: str | None) -> Item:
    """Make an item of what a person typed; its id is of no item."""
    return Item(id="", title=" ".join((title or "").split()) or None)


def _named(served: Served) -> Data:
    return {"version": served.version.name, "label": served.label or served.version.name}


def _failed(served: Served, error: str, hint: str) -> Data:
    return {**_named(served), "source": "none", "hits": [], "error": error, "hint": hint}
