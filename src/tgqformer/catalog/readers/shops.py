"""Product exports of Shopify and WooCommerce: several rows make one product."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.readers.base import FileReader, SourceRow
from tgqformer.catalog.readers.table import header_of, table_rows

_MAPPING = ColumnMapping(
    id="id",
    title="title",
    brand="brand",
    category=("category",),
    price=("sale price", "price"),
    attributes=("options",),
    pictures=("pictures",),
)
_CSV = (".csv", ".csv.gz")
_COMMA = re.compile(r"(?<!\\),\s*")
Fields = Mapping[str, Any]


def _shopify(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream one row a handle; the rows of a product stand together."""
    group: list[SourceRow] = []
    for row in table_rows(file, encoding):
        if row.fields is None:
            yield row
            continue
        if group and row.fields["Handle"] != _of(group[0])["Handle"]:
            yield _shopify_product(group)
            group = []
        group.append(row)
    if group:
        yield _shopify_product(group)


def _shopify_product(rows: list[SourceRow]) -> SourceRow:
    first, all_fields = _of(rows[0]), [_of(row) for row in rows]
    names = {place: first.get(f"Option{place} Name", "").strip() for place in (1, 2, 3)}
    options = {
        name: "; ".join(_each(fields.get(f"Option{place} Value") for fields in all_fields))
        for place, name in names.items()
        if name and name != "Title"
    }
    fields = {
        "id": first["Handle"],
        "title": first.get("Title"),
        "brand": first.get("Vendor"),
        "category": first.get("Product Category") or first.get("Type"),
        "price": next(_each(fields.get("Variant Price") for fields in all_fields), None),
        "options": options,
        "pictures": list(_each(one.get(name) for name in ("Image Src", "Variant Image") for one in all_fields)),
    }
    status = first.get("Status", "").strip()
    return _row(rows[0], fields, f"its status is {status}" if status not in ("", "active") else None)


def _woocommerce(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream one row a product; variations that stand behind their parent join it."""
    parent: SourceRow | None = None
    variations: list[Fields] = []
    for row in table_rows(file, encoding):
        fields = row.fields
        if fields is not None and parent is not None and _is_variation(fields, _of(parent)):
            variations.append(fields)
            continue
        if parent is not None:
            yield _woo_product(parent, variations)
        parent, variations = (row if fields is not None else None), []
        if fields is None:
            yield row
    if parent is not None:
        yield _woo_product(parent, variations)


def _is_variation(fields: Fields, parent: Fields) -> bool:
    named = fields.get("Parent", "").strip()
    return fields.get("Type") == "variation" and named in (parent.get("SKU"), f"id:{parent.get('ID')}")


def _woo_product(row: SourceRow, variations: list[Fields]) -> SourceRow:
    first = _of(row)
    both = [first, *variations]
    options = {
        first[name].strip(): "; ".join(_each(_COMMA.split(first.get(name.replace(" name", " value(s)"), ""))))
        for name in first
        if re.fullmatch(r"Attribute \d+ name", name) and first[name].strip()
    }
    paths = list(_each(_COMMA.split(first.get("Categories", ""))))
    fields = {
        "id": first.get("SKU") or first["ID"],
        "title": first.get("Name"),
        "brand": first.get("Brands"),
        "category": paths[0].replace("\\,", ",") if paths else None,
        "sale price": next(_each(one.get("Sale price") for one in both), None),
        "price": next(_each(one.get("Regular price") for one in both), None),
        "options": options,
        "pictures": list(_each(name for one in both for name in _COMMA.split(one.get("Images", "")))),
    }
    notes = (("category-several", f"{len(paths)} categories: {', '.join(paths)}"),) if len(paths) > 1 else ()
    draft = first.get("Published", "1").strip() not in ("1", "")
    return _row(row, fields, "it is not published" if draft else None, notes)


def _row(row: SourceRow, fields: Fields, fault: str | None, notes: tuple[tuple[str, str], ...] = ()) -> SourceRow:
    found = (*row.notes, *notes, *((("inactive", fault),) if fault is not None else ()))
    return SourceRow(row.file, row.line, fields, notes=found)


def _of(row: SourceRow) -> Fields:
    return row.fields or {}


def _each(values: Iterable[Any]) -> Iterator[str]:
    """Return the filled values, each once."""
    return iter(dict.fromkeys(text for value in values if (text := str(value or "").strip())))


def _has(*names: str) -> Any:
    return lambda file: set(names) <= set(header_of(file))


_ABOUT = "the product export of {}: one item a product, with all of its variants' pictures"
_SHOPIFY = _has("Handle", "Title", "Vendor", "Variant Price")
_WOO = _has("ID", "Type", "SKU", "Name", "Regular price", "Categories")
SHOPIFY = FileReader("shopify", _ABOUT.format("Shopify"), _CSV, _shopify, _MAPPING, _SHOPIFY)
WOOCOMMERCE = FileReader("woocommerce", _ABOUT.format("WooCommerce"), _CSV, _woocommerce, _MAPPING, _WOO)
