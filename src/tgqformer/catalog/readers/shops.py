"""Product exports of Shopify and WooCommerce: several rows make one product."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tgqformer.catalog.offers import availability_of
from tgqformer.catalog.prices import price_of
from tgqformer.catalog.readers.base import FileReader, SourceRow
from tgqformer.catalog.readers.products import (
    MAPPING,
    NAMES,
    PARENT,
    Fields,
    best_stock,
    each,
    families,
    fields_of,
    holds_today,
    product,
    unread_days,
)
from tgqformer.catalog.readers.table import header_of, table_rows

_CSV = (".csv",)
_COMMA = re.compile(r"(?<!\\),\s*")
_TYPES = ("Product Category", "Standardized Product Type", "Type", "Custom Product Type")
"""Of Shopify: the tree of all shops, then the shop's own word, each with its name of 2021."""
_ESCAPED = re.compile(r"'(?=[=+\-@\t\r])")
_METAFIELD = re.compile(r"(.+) \(product\.metafields\.[\w.-]+\)")
_RENAMED = {
    "URL handle": "Handle",
    "Product category": "Product Category",
    "SKU": "Variant SKU",
    "Price": "Variant Price",
    "Compare-at price": "Variant Compare At Price",
    "Inventory tracker": "Variant Inventory Tracker",
    "Inventory quantity": "Variant Inventory Qty",
    "Continue selling when out of stock": "Variant Inventory Policy",
    "Published on online store": "Published",
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
        if group and row.fields.get("Handle") != fields_of(group[0]).get("Handle"):
            yield _shopify_product(group)
            group = []
        group.append(row)
    if group:
        yield _shopify_product(group)


def _shopify_product(rows: list[SourceRow]) -> SourceRow:
    """Return a product; its own fields stand in its first row, or in a later one where the table was sorted."""
    all_fields = [fields_of(row) for row in rows]
    first = {name: next((one[name] for one in all_fields if one[name].strip()), "") for name in all_fields[0]}
    names = {place: first.get(f"Option{place} Name", "").strip() for place in (1, 2, 3)}
    options = {
        name: "; ".join(each(fields.get(f"Option{place} Value") for fields in all_fields))
        for place, name in names.items()
        if name and name != "Title"
    }
    told = {found[1]: name for name in first if (found := _METAFIELD.fullmatch(name)) and first[name].strip()}
    options |= {name: first[column] for name, column in told.items() if name not in options}
    fields = {
        "id": first.get("Handle"),
        "title": first.get("Title"),
        "brand": first.get("Vendor"),
        "category": next((first[name] for name in _TYPES if first.get(name)), None),
        **_shopify_prices(all_fields),
        "availability": best_stock(_shopify_stock(fields) for fields in all_fields if _is_variant(fields)),
        "group": first.get("Handle"),
        "options": options,
        "pictures": each(one.get(name) for name in ("Image Src", "Variant Image") for one in all_fields),
    }
    status = first.get("Status", "").strip().lower()
    hidden = "it is not published" if first.get("Published", "").strip().lower() == "false" else None
    return product(rows[0], fields, f"its status is {status}" if status not in ("", "active") else hidden)


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
    found, later = availability_of(left)[0], fields.get("Variant Inventory Policy", "").strip().lower() == "continue"
    if not tracked or found == "in_stock" or (found is None and later):
        return "in_stock"
    return "backorder" if later else found


def _woocommerce(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream one row a product; its variations join it, wherever they stand."""

    def read() -> Iterator[SourceRow]:
        for row in table_rows(file, encoding):
            yield row if row.fields is None else replace(row, fields=_woo_kept(row.fields))

    for row, parent, variations in families(read):
        if row.fields is None:
            yield row
        elif parent is None:
            yield _woo_product(row, variations)


def _woo_kept(fields: Fields) -> Fields:
    """Return the fields that are used, with what calls a product the parent of others."""
    used = {name: value for name, value in fields.items() if not name.startswith(("Meta:", "Desc", "Short desc"))}
    kept = {name: _ESCAPED.sub("", value, count=1) if _ESCAPED.match(value) else value for name, value in used.items()}
    kind = fields.get("Type", "").lower()  # "variation, virtual"
    if "variation" in kind:
        return {**kept, PARENT: kept.get("Parent", "").strip()}
    return {**kept, NAMES: tuple(each([kept.get("SKU"), f"id:{kept.get('ID')}"]))} if "variable" in kind else kept


def _woo_product(row: SourceRow, variations: list[Fields]) -> SourceRow:
    first = fields_of(row)
    both = [first, *variations]
    prices, notes = _woo_prices(both)
    options = {
        first[name].strip(): "; ".join(_woo_several(first.get(name.replace(" name", " value(s)"), "")))
        for name in first
        if re.fullmatch(r"Attribute \d+ name", name) and first[name].strip()
    }
    every, brands = _woo_several(first.get("Categories", "")), _woo_several(first.get("Brands", ""))
    paths = [path for path in every if not any(other.startswith(f"{path} > ") for other in every)]
    fields = {
        "id": first.get("SKU") or first.get("ID"),
        "title": first.get("Name"),
        "brand": brands[0].rpartition(" > ")[2] if brands else None,
        "category": paths[0] if paths else None,
        **prices,
        "availability": best_stock(map(_woo_stock, variations)) or _woo_stock(first),
        "group": (first.get("Parent") or "").removeprefix("id:") or first.get("SKU") or first.get("ID"),
        "options": options,
        "pictures": each(name for one in both for name in _woo_several(one.get("Images", ""))),
    }
    if len(paths) > 1:
        notes.append(("category-several", f"{len(paths)} categories: {', '.join(paths)}"))
    hidden = "it is hidden" if first.get("Visibility in catalog", "").strip().lower() == "hidden" else None
    draft = first.get("Published", "1").strip() not in ("1", "")
    return product(row, fields, "it is not published" if draft else hidden, notes)


def _woo_several(text: str) -> list[str]:
    """Return the values of a cell; a comma of their own stands behind a backslash."""
    return [value.replace("\\,", ",") for value in each(_COMMA.split(text))]


def _woo_prices(rows: list[Fields]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the prices of the first row that has one, the lower only on the days on which it holds, and notes."""
    fields = next((one for one in rows if (one.get("Regular price") or "").strip()), rows[0])
    sale, days = fields.get("Sale price"), [fields.get(f"Date sale price {word}") for word in ("starts", "ends")]
    prices = {"price": fields.get("Regular price"), "sale price": sale if holds_today(*days) else None}
    return prices, unread_days(sale, *days)


def _woo_stock(fields: Fields) -> str | None:
    """Return the stock of a product or variation: `In stock?`, unless the number in `Stock` says that there is none."""
    said, number = availability_of(fields.get("In stock?"))[0], fields.get("Stock", "").strip()
    if number and availability_of(number)[0] == "out_of_stock":
        later = fields.get("Backorders allowed?", "").strip() in ("1", "notify")
        return "backorder" if later else "out_of_stock"
    return said


def _has(*names: str) -> Any:
    return lambda file: set(names) <= set(header_of(file))


_ABOUT = "the product export of {}: one item a product, with all of its variants' pictures"
_OLD, _NEW = _has("Handle", "Title", "Vendor", "Variant Price"), _has("URL handle", "Title", "Vendor", "Price")
_WOO = _has("ID", "Type", "SKU", "Name", "Regular price", "Categories")
SHOPIFY = FileReader(
    "shopify", _ABOUT.format("Shopify"), _CSV, _shopify, MAPPING, lambda file: _OLD(file) or _NEW(file)
)
WOOCOMMERCE = FileReader("woocommerce", _ABOUT.format("WooCommerce"), _CSV, _woocommerce, MAPPING, _WOO)
