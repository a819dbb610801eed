"""Product exports of Shopify and WooCommerce: several rows make one product."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.offers import availability_of, day_of
from tgqformer.catalog.prices import price_of
from tgqformer.catalog.readers.base import FileReader, SourceRow
from tgqformer.catalog.readers.table import header_of, table_rows

_MAPPING = ColumnMapping(
    id="id",
    title="title",
    brand="brand",
    category=("category",),
    price=("price",),
    attributes=("options",),
    pictures=("pictures",),
    group="group",
    availability="availability",
    sale_price="sale price",
)
_CSV = (".csv",)
_COMMA = re.compile(r"(?<!\\),\s*")
Fields = Mapping[str, Any]
_RENAMED = {
    "URL handle": "Handle",
    "Product category": "Product Category",
    "SKU": "Variant SKU",
    "Price": "Variant Price",
    "Compare-at price": "Variant Compare At Price",
    "Inventory tracker": "Variant Inventory Tracker",
    "Inventory quantity": "Variant Inventory Qty",
    "Continue selling when out of stock": "Variant Inventory Policy",
    "Product image URL": "Image Src",
    "Variant image URL": "Variant Image",
    **{f"Option{place} {word}": f"Option{place} {word.title()}" for place in (1, 2, 3) for word in ("name", "value")},
}
"""The columns of the newer export, and what they were called before."""


def _shopify(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream one row a handle; the rows of a product stand together."""
    group: list[SourceRow] = []
    for row in table_rows(file, encoding):
        if row.fields is None:
            yield row
            continue
        if "URL handle" in row.fields:
            row = replace(row, fields={_RENAMED.get(name, name): value for name, value in row.fields.items()})
        assert row.fields is not None
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
        **_shopify_prices(all_fields),
        "availability": _best(_shopify_stock(fields) for fields in all_fields if _is_variant(fields)),
        "group": first["Handle"],
        "options": options,
        "pictures": list(_each(one.get(name) for name in ("Image Src", "Variant Image") for one in all_fields)),
    }
    status = first.get("Status", "").strip()
    return _row(rows[0], fields, f"its status is {status}" if status not in ("", "active") else None)


def _is_variant(fields: Fields) -> bool:
    """Say whether a row is a variant: the others carry one more picture."""
    return bool((fields.get("Variant Price") or fields.get("Variant SKU") or "").strip())


def _shopify_prices(rows: list[Fields]) -> dict[str, Any]:
    """Return the prices of the first variant that has one; what it is compared at is the price before."""
    fields = next((one for one in rows if (one.get("Variant Price") or "").strip()), {})
    now, before = fields.get("Variant Price"), (fields.get("Variant Compare At Price") or "").strip()
    lower = (price_of(before)[0] or 0) > (price_of(now)[0] or 0)
    return {"price": before, "sale price": now} if lower else {"price": now}


def _shopify_stock(fields: Fields) -> str | None:
    """Return the stock of a variant: what is not tracked, or goes on selling, can be bought."""
    if "Variant Inventory Qty" not in fields:  # a shop with several places exports its stock by itself
        return None
    tracked, left = fields.get("Variant Inventory Tracker", "").strip(), fields["Variant Inventory Qty"].strip()
    if not tracked or (availability_of(left)[0] or "in_stock") == "in_stock":
        return "in_stock"
    return "backorder" if fields.get("Variant Inventory Policy", "").strip().lower() == "continue" else "out_of_stock"


def _best(found: Iterable[str | None]) -> str | None:
    """Return the stock of a product by that of its variants: what one of them has."""
    there = set(found)
    return next((name for name in ("in_stock", "preorder", "backorder", "out_of_stock") if name in there), None)


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
        **_woo_prices(both),
        "availability": _best(map(_woo_stock, variations)) or _woo_stock(first),
        "group": (first.get("Parent") or "").removeprefix("id:") or first.get("SKU") or first["ID"],
        "options": options,
        "pictures": list(_each(name for one in both for name in _COMMA.split(one.get("Images", "")))),
    }
    notes = (("category-several", f"{len(paths)} categories: {', '.join(paths)}"),) if len(paths) > 1 else ()
    draft = first.get("Published", "1").strip() not in ("1", "")
    return _row(row, fields, "it is not published" if draft else None, notes)


def _woo_prices(rows: list[Fields]) -> dict[str, Any]:
    """Return the prices of the first row that has one, the lower only on the days on which it holds."""
    fields = next((one for one in rows if (one.get("Regular price") or "").strip()), rows[0])
    starts, ends = (day_of(fields.get(f"Date sale price {word}"))[0] for word in ("starts", "ends"))
    today = datetime.now(UTC).date().isoformat()
    holds = (starts or today) <= today <= (ends or today)
    return {"price": fields.get("Regular price"), "sale price": fields.get("Sale price") if holds else None}


def _woo_stock(fields: Fields) -> str | None:
    """Return the stock of a product or variation: `In stock?`, unless the number in `Stock` says that there is none."""
    said, number = availability_of(fields.get("In stock?"))[0], fields.get("Stock", "").strip()
    if number and availability_of(number)[0] == "out_of_stock":
        later = fields.get("Backorders allowed?", "").strip() in ("1", "notify")
        return "backorder" if later else "out_of_stock"
    return said


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
_OLD, _NEW = _has("Handle", "Title", "Vendor", "Variant Price"), _has("URL handle", "Title", "Vendor", "Price")
_WOO = _has("ID", "Type", "SKU", "Name", "Regular price", "Categories")
SHOPIFY = FileReader(
    "shopify", _ABOUT.format("Shopify"), _CSV, _shopify, _MAPPING, lambda file: _OLD(file) or _NEW(file)
)
WOOCOMMERCE = FileReader("woocommerce", _ABOUT.format("WooCommerce"), _CSV, _woocommerce, _MAPPING, _WOO)
