"""Catalogues that were imported or written before, as sources: items as they are, with their pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import OFFER
from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.readers.base import SourceRow


class CatalogReader:
    """Reads a catalogue of ours."""

    name = "catalogue"
    about = "a catalogue that was imported before, with its pictures"
    mapping: ColumnMapping | None = ColumnMapping(
        id="id",
        title="title",
        brand="brand",
        category=("category",),
        price=("price",),
        pictures=("pictures",),
        attributes=("attributes",),
        group="item_group",
        availability="availability",
        sale_price="sale_price",
        currency="currency",
        created="created",
    )

    def sniff(self, path: Path) -> bool:
        """Say whether the folder is a catalogue."""
        return (path / "catalog.json").is_file()

    def rows(self, path: Path, encoding: str | None = None) -> Iterator[SourceRow]:
        """Stream the items, in order."""
        for number, item in enumerate(Catalog.open(path).items(), 1):
            fields = {
                "id": item.id,
                "title": item.title,
                "brand": item.brand,
                "category": list(item.category),
                "price": item.price,
                "attributes": dict(item.attributes),
                **{name: getattr(item, name) for name in OFFER},
                "pictures": [{"bytes": picture.data, "path": picture.path} for picture in item.pictures],
            }
            yield SourceRow("catalog.json", number, fields)

    def root(self, path: Path) -> Path:
        """Pictures lie where the catalogue says."""
        return Catalog.open(path).root or path
