"""What the pages ask of a site, as plain data: products, neighbours, explanations, noise trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.pictures import look_of_image, picture_bytes
from tgqformer.service.errors import ApiError, unknown_item
from tgqformer.service.explorer.browse import Browser, Offered
from tgqformer.service.explorer.colors import swatch
from tgqformer.service.explorer.explain import agreeing, explain, facts
from tgqformer.service.explorer.noising import NoiseChoice, noised
from tgqformer.service.explorer.pictures import Recent, jpeg
from tgqformer.service.explorer.ruling import ruled
from tgqformer.service.explorer.wins import RULE, Judgement, WinOrLoss, judge, pairs_of
from tgqformer.service.models import TorchModel
from tgqformer.stages import note_of
from tgqformer.store.base import FACTS, Hit, UnknownItem
from tgqformer.store.content import row_of
from tgqformer.types import Floats

if TYPE_CHECKING:
    from tgqformer.service.served import Served
    from tgqformer.service.site import Site

Data = dict[str, Any]
PICTURE_BYTES = 64 << 20
"""Encoded pictures kept in memory."""
SOLD = ("price", "sale_price", "currency", "availability")
VERDICTS = 8
VECTORS = 2048
"""Embeddings of noised pictures kept in memory."""


@dataclass(frozen=True)
class ShopCatalog:
    """The catalogue as it is served at one moment: what is browsed, and the same pictures without noise, if known."""

    catalog: Catalog
    browser: Browser
    clean: Catalog | None


@dataclass(frozen=True)
class Asked:
    """What the grid asks for."""

    words: str
    category: tuple[str, ...]
    brand: str
    offered: Offered


class Shop:
    """Answers for the pages. Every method blocks; call them from threads. Raises ApiError for an unknown id."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._shop_catalog: Recent[ShopCatalog] = Recent(1)
        self._pictures: Recent[bytes] = Recent(PICTURE_BYTES, len)
        self._vectors: Recent[Floats] = Recent(VECTORS)
        self._verdicts: Recent[Judgement] = Recent(VERDICTS)

    # --- products -----------------------------------------------------------------------------------------------------

    def shown(self) -> ShopCatalog | None:
        """Return the catalogue that is served now; None where the site has none."""
        catalog = self.site.catalog
        if catalog is None:
            return None
        key = (str(catalog.path), catalog.fingerprint)
        return self._shop_catalog.get(key, lambda: ShopCatalog(catalog, Browser(catalog), clean_of(catalog)))

    def find(self, asked: Asked, start: int, count: int) -> Data:
        """Return one page of a search: `total`, `items` from `start`, and `meant`: what was taken for other words."""
        shown = self.shown()
        if shown is None:
            return {"total": 0, "items": [], "meant": {}}
        found = shown.browser.find(asked.words, asked.category, asked.brand, asked.offered)
        items = shown.catalog.take_positions(found[start : start + count], pictures=False)
        meant = shown.browser.meant(asked.words)
        return {"total": len(found), "items": [card_of(item) for item in items], "meant": meant}

    def alike(self, words: str, k: int) -> Data:
        """Return what is nearest to some words by the served model's own text vectors; nothing without a model."""
        served = self.site.served
        if served.embedder is None:
            return {**_named(served), "hits": []}
        item = uploaded(words)
        [vector] = served.embed_now([item], [None])
        hits, _ = served.search(row_of(item, vector, None), k)
        return self._column(served, item, hits, "live")

    def product(self, item_id: str) -> Data:
        """Return all that is known of an item; `clean` is the digest of its picture without noise, if another."""
        item = self.item(item_id)
        clean = self._clean_picture(item)
        details = {"attributes": dict(item.attributes), "item_group": item.item_group, "pictures": len(item.pictures)}
        shown = card_of(item)
        other = clean is not None and shown["picture"] not in (None, clean.digest)
        return {**shown, **details, "clean": clean.digest if clean is not None and other else None}

    def item(self, item_id: str) -> Item:
        """Return an item with its pictures; raises ApiError 404 for an unknown one."""
        item = self.site.item(item_id)
        if item is None:
            raise unknown_item(item_id)
        return item

    def items(self, ids: Sequence[str]) -> list[Item | None]:
        """Return items without the bytes of their pictures; None for an unknown one."""
        shown = self.shown()
        places = shown.browser.positions(ids) if shown else [-1] * len(ids)
        known = [place for place in places if place >= 0]
        read = iter(shown.catalog.take_positions(known, pictures=False) if shown and known else [])
        return [next(read) if place >= 0 else self.site.item(name) for name, place in zip(ids, places, strict=True)]

    # --- pictures -----------------------------------------------------------------------------------------------------

    def picture(self, item_id: str) -> Image.Image | None:
        """Return an item's picture as the shop shows it; None where it has none."""
        data = self.site.picture(item_id)
        return self.site.stored(data) if data is not None else None

    def clean_picture(self, item: Item) -> Image.Image | None:
        """Return an item's picture without noise, where that is known; else as the shop shows it."""
        shown, clean = self.shown(), self._clean_picture(item)
        if shown is None or shown.clean is None or clean is None:
            return self.picture(item.id)
        [whole] = shown.clean.take([item.id])
        return self.site.stored(picture_bytes(whole.pictures[0], shown.clean.root))

    def encoded(self, item_id: str, size: str) -> bytes | None:
        """Return an item's picture as JPEG; None where it has none."""
        data = self.site.picture(item_id)
        if data is None:
            return None
        return self._pictures.get((Picture.digest_of(data), size), lambda: jpeg(self.site.stored(data), size))

    def encoded_noised(self, item_id: str, noise: NoiseChoice, size: str) -> bytes | None:
        """Return an item's picture with noise on it as JPEG; None where it has none."""
        item = self.item(item_id)
        picture = self.noised(item, noise)
        return jpeg(picture, size) if picture is not None else None

    def noised(self, item: Item, noise: NoiseChoice) -> Image.Image | None:
        """Draw noise on an item's clean picture."""
        picture, shown = self.clean_picture(item), self.shown()
        if picture is None:
            return None
        return noised((shown.clean or shown.catalog) if shown else None, item, picture, noise)

    def _clean_picture(self, item: Item) -> Picture | None:
        """Return the picture that an item's own was drawn on; None where it has come in over HTTP since."""
        shown = self.shown()
        [place] = shown.browser.positions([item.id]) if shown is not None and shown.clean is not None else [-1]
        if shown is None or shown.clean is None or place < 0:
            return None
        [known] = shown.catalog.take_positions([place], pictures=False)
        if [one.digest for one in known.pictures[:1]] != [one.digest for one in item.pictures[:1]]:
            return None
        [clean] = shown.clean.take([item.id], pictures=False)
        return clean.pictures[0] if clean.pictures else None

    # --- neighbours ---------------------------------------------------------------------------------------------------

    def neighbours(self, item_id: str, versions: Sequence[str], k: int) -> Data:
        """Return a column of neighbours for each version."""
        item = self.item(item_id)

        def column(served: Served) -> Data:
            answer = served.similar(item_id, k)
            try:
                [row] = served.table.get([item_id])
            except UnknownItem as error:  # deleted between the two
                raise unknown_item(item_id) from error
            done = ruled(served.table, row, k, served.rules)
            whole = self._column(served, item, answer.hits, answer.source)
            for hit in whole["hits"]:
                hit["moved"] = done.moved.get(hit["id"])
            hidden = self._column(served, item, [one.hit for one in done.hidden], "live")["hits"]
            told = [{"place": one.place, "rule": one.why} for one in done.hidden]
            return {**whole, "hidden": [{**card, **why} for card, why in zip(hidden, told, strict=True)]}

        return self._columns(versions, column)

    def trial(self, item_id: str, noise: NoiseChoice, versions: Sequence[str], k: int) -> Data:
        """Return, for each version, the neighbours of the noised picture and how many of the clean one's were kept."""
        item = self.item(item_id)

        def column(served: Served) -> Data:
            _ = served.model
            before, after = (self._found(served, item, one, k) for one in (NoiseChoice(), noise))
            was = {hit.id: place for place, hit in enumerate(before)}
            here = {hit.id for hit in after}
            lost = self._column(served, item, [hit for hit in before if hit.id not in here], "live")["hits"]
            counts = {"kept": len(here & was.keys()), "of": len(before), "was": was, "lost": lost}
            return {**self._column(served, item, after, "live"), **counts}

        return self._columns(versions, column)

    def search(self, item: Item, picture: Image.Image | None, versions: Sequence[str], k: int) -> Data:
        """Return, for each version, the neighbours of an item that is not in the shop."""

        def column(served: Served) -> Data:
            [vector] = served.embed_now([item], [picture])
            look = look_of_image(picture) if picture is not None else None
            hits, _ = served.search(replace(row_of(item, vector, None), look=look), k)
            return self._column(served, item, hits, "live")

        return self._columns(versions, column)

    def wins(self, first: str, second: str) -> Data:
        """Return where one version finds more of a product's partners than another, and where fewer.

        Raises: ApiError 404 where there are no test pairs.
        """
        pairs, two = pairs_of(self.site.places.store), (self.open(first), self.open(second))
        if pairs is None:
            raise ApiError(
                404, "there are no test pairs to judge by", "serve the folder of a run: `tgq serve runs/shop`"
            )
        revisions = tuple((served.key, served.table.revision()) for served in two)
        found = self._verdicts.get(revisions, lambda: judge(pairs, (two[0].table, two[1].table)))

        def told(one: WinOrLoss) -> Data:
            item = self.item(one.id)
            columns = [self._column(*pair, "live") for pair in zip(two, (item, item), one.found, strict=True)]
            for hit in (hit for column in columns for hit in column["hits"]):
                hit["partner"] = hit["id"] in one.partners
            return {"item": card_of(item), "partners": len(one.partners), "columns": columns}

        counts = {name: getattr(found, name) for name in ("asked", "of", "won", "lost")}
        shown = {"wins": [told(one) for one in found.wins], "losses": [told(one) for one in found.losses]}
        return {"rule": RULE, **counts, **shown}

    def _columns(self, versions: Sequence[str], column: Callable[[Served], Data]) -> Data:
        """Return a column for each version; one that has none says why, for the others are still worth seeing."""
        columns = []
        for served in map(self.open, versions):
            try:
                columns.append(column(served))
            except ApiError as error:  # the version has no such item, or no model
                columns.append(
                    {**_named(served), "source": "none", "hits": [], "error": error.error, "hint": error.hint}
                )
        return {"columns": columns}

    def open(self, version: str) -> Served:
        """Open a version by its name, the served one by default; raises ApiError 404 for one that is not there."""
        return self.site.open_version(version) if version else self.site.served

    def _found(self, served: Served, item: Item, noise: NoiseChoice, k: int) -> list[Hit]:
        vector = self._vector(served, item, noise)
        return served.search(row_of(item, vector, None), k)[0]

    def _vector(self, served: Served, item: Item, noise: NoiseChoice) -> Floats:
        noise = noise if noise.severity else NoiseChoice()
        digest = self._clean_picture(item) or (item.pictures[0] if item.pictures else None)
        text = (item.title, item.brand, item.category, tuple(item.attributes.items()))
        key = (served.key, digest.digest if digest else "", text, noise)
        return self._vectors.get(key, lambda: served.embed_now([item], [self.noised(item, noise)])[0])

    def _column(self, served: Served, item: Item, hits: Sequence[Hit], source: str) -> Data:
        """Return a column; prices and stock are those of the store, which may be newer than the catalogue."""
        ids = [hit.id for hit in hits]
        found, now = self.items(ids), {hit.id: hit for hit in served.table.facts(ids)} if ids else {}
        rows = []
        for hit, other in zip(hits, found, strict=True):
            row = now.get(hit.id, hit)
            known = other or Item(hit.id, **{name: getattr(row, name) for name in FACTS if name != "look"})
            offer = _offer(row) if hit.id in now else {}
            shared = agreeing(item, known) if item.id else None
            rows.append({**card_of(known), **offer, "score": round(float(hit.score), 4), "shared": shared})
        return {**_named(served), "source": source, "hits": rows}

    # --- why ----------------------------------------------------------------------------------------------------------

    def why(self, item_id: str, other_id: str, version: str, noise: NoiseChoice | None) -> Data:
        """Explain one neighbour: facts, and what the model saw in both pictures; `noise`: noise on the first.

        Prices are those of the store, as in a column.
        """
        served, first, second = self.open(version), self.item(item_id), self.item(other_id)
        pictures = [self.picture(first.id) if noise is None else self.noised(first, noise), self.picture(second.id)]
        colors = [swatch(picture) if picture is not None else None for picture in pictures]
        now = {hit.id: _offer(hit) for hit in served.table.facts([first.id, second.id])}
        one, other = (replace(item, **now.get(item.id, {})) for item in (first, second))
        compared = facts(one, other, (colors[0], colors[1]))
        if not isinstance(served.embedder, TorchModel):
            note = _NO_MODEL if served.embedder is None else _EXPORTED
            return {**_named(served), "facts": compared, "colors": colors, "seen": None, "note": note}
        model = served.embedder.model
        attended = explain(model, [first, second], pictures)
        fit = model.encoders.vision.fit if model.encoders else "pad"
        seen = {"grid": list(model.widths.grid), "fit": fit, "items": attended}
        return {**_named(served), "facts": compared, "colors": colors, "seen": seen, "note": None}


_EXPORTED = "the model runs in its exported form, which does not say what it looked at; serve the saved model to see it"
_NO_MODEL = "this version's model is not here, so nothing new can be embedded; name its folder with --model"


def _offer(row: Hit) -> Data:
    return {name: getattr(row, name) for name in SOLD}


def card_of(item: Item) -> Data:
    """Return what a card shows; `picture` is the digest of the first picture."""
    known = {name: getattr(item, name) for name in ("id", "title", "brand", "category", *SOLD)}
    return {**known, "picture": item.pictures[0].digest if item.pictures else None}


def clean_of(catalog: Catalog) -> Catalog | None:
    """Find the catalogue without noise that a run's `shown/` was drawn from: it says so itself, by fingerprint."""
    note, beside = note_of(catalog.path), catalog.path.parent / "catalog"
    if note is None or beside == catalog.path or not (beside / "catalog.json").is_file():
        return None
    clean, inputs = Catalog.open(beside), note.get("inputs")
    return clean if isinstance(inputs, dict) and inputs.get("catalog") == clean.fingerprint else None


def uploaded(title: str | None) -> Item:
    """Make an item of what a person typed; its id is of no item."""
    return Item(id="", title=" ".join((title or "").split()) or None)


def _named(served: Served) -> Data:
    return {"version": served.version.name, "label": served.label or served.version.name}
