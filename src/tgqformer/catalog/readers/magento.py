"""The product export of Magento 2 (Adobe Commerce): a row for a product and store view, variants as own products.

Source: "Product attribute reference" and "Complex data" in the user guide of Adobe Commerce.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from tgqformer.catalog.offers import availability_of
from tgqformer.catalog.prices import price_of
from tgqformer.catalog.readers.base import FileReader, SourceRow
from tgqformer.catalog.readers.products import (
    MAPPING,
    NAMES,
    VARIANTS,
    Fields,
    each,
    families,
    fields_of,
    holds_today,
    product,
    related,
    unread_days,
)
from tgqformer.catalog.readers.table import header_of, table_rows

_SET = "attribute set"  # the category of a product that has none, nor has its parent
_EMPTY = ("__EMPTY__VALUE__", "no_selection")
_PAIR = re.compile(r'(?:^|,)\s*"?([A-Za-z][A-Za-z0-9_]*)=')
_LEVELS = re.compile(r"(?<!\\)/")
_PATHS = re.compile(r"(?<!\\),")
_SOLD = (
    *("has_options", "required_options", "quantity_and_stock_status", "price_type", "cost", "msrp", "minimal_price"),
    *("tier_price", "special_price", "special_from_date", "special_to_date", "news_from_date", "news_to_date"),
)
"""Attributes that an export names and that say how a product is sold: no model reads them."""
_SHORT_DAY = re.compile(r"(\d{1,2})([/.-])(\d{1,2})[/.-](\d{4}|\d{2})(?:[,\s].*)?")
_DAYS = ("created_at", "special_price_from_date", "special_price_to_date")
_PICTURES = ("base_image", "additional_images", "small_image", "thumbnail_image")
_WHOLES = ("configurable", "bundle", "grouped")  # what they hold is in stock, or not; they have no number of their own
_BRANDS = ("brand", "manufacturer")


def _magento(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream one row a product; simple products that a configurable one names are its variants."""
    day_first = _is_day_first(islice(table_rows(file, encoding), 1000))
    for row in related(families(lambda: _products(table_rows(file, encoding), day_first))):
        fields = fields_of(row)
        yield replace(row, fields={**fields, "category": fields["category"] or fields[_SET]}) if fields else row


def _products(rows: Iterable[SourceRow], day_first: bool) -> Iterator[SourceRow]:
    for _, views in groupby(rows, lambda row: fields_of(row).get("sku")):
        same = list(views)
        if same[0].fields is None:
            yield from same
        else:
            yield _product(same, day_first)


def _product(rows: list[SourceRow], day_first: bool) -> SourceRow:
    """Return a product by the row of all store views; what is empty there is that of the first view with it."""
    rows = sorted(rows, key=lambda row: bool(fields_of(row).get("store_view_code")))
    found: dict[str, str] = {}
    for row in rows:
        for name, value in fields_of(row).items():
            text = "" if value.strip() in _EMPTY else value.strip()
            found[name] = found.get(name) or text
    if found.get("product_type") in _WHOLES and not float(price_of(found.get("price"))[0] or 0):
        found["price"] = ""  # 0.0000: that of its variants counts
    days = {name: _day(found.get(name, ""), day_first) for name in _DAYS}
    more = _pairs(found.get("additional_attributes", ""))
    fields: dict[str, Any] = {
        "id": found.get("sku"),
        "title": found.get("name"),
        "brand": next((one for name in _BRANDS if (one := found.get(name) or more.pop(name, ""))), None),
        "price": found.get("price"),
        "sale price": found.get("special_price") if holds_today(days[_DAYS[1]], days[_DAYS[2]]) else None,
        "availability": _stock(found),
        "group": None,
        "created": days["created_at"],
        "options": more,
        "pictures": each(name for column in _PICTURES for name in found.get(column, "").split(",")),
    }
    fields["category"], notes = _category(found)
    notes += unread_days(found.get("special_price"), days[_DAYS[1]], days[_DAYS[2]])
    kind = found.get("attribute_set_code", "")
    fields[_SET] = [kind] if kind not in ("", "Default") else None
    if found.get("product_type") == "configurable":
        listed = [dict(one.split("=", 1) for one in _PATHS.split(part) if "=" in one) for part in _variations(found)]
        fields |= {NAMES: (found.get("sku"),), VARIANTS: {one.pop("sku"): one for one in listed if one.get("sku")}}
        names = dict.fromkeys(name for one in listed for name in one)
        fields["options"] |= {name: "; ".join(each(one.get(name) for one in listed)) for name in names}
    return product(rows[0], fields, "it is disabled" if found.get("product_online") in ("0", "2") else None, notes)


def _variations(found: Fields) -> list[str]:
    return [part for part in found.get("configurable_variations", "").split("|") if part.strip()]


def _category(found: Fields) -> tuple[list[str] | None, list[tuple[str, str]]]:
    """Return the levels of the first whole path without its root.

    An export names every level's path: `Default Category/Gear,Default Category/Gear/Bags` is one path.
    """
    paths = _whole_paths(found.get("categories", ""))
    whole = [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]
    if not whole:
        return None, []
    levels = [level.replace("\\/", "/").replace("\\,", ",").strip() for level in _LEVELS.split(whole[0])]
    several = [("category-several", f"{len(whole)} categories: {', '.join(whole)}")] if len(whole) > 1 else []
    return (levels[1:] or levels), several


def _whole_paths(text: str) -> list[str]:
    """Return the paths; a comma before a space belongs to a name, unless the first path's root stands behind it."""
    found = list[str]()
    for part in _PATHS.split(text):
        root = _LEVELS.split(found[0])[0] if found else ""
        if found and part.startswith(" ") and _LEVELS.split(part.strip())[0] != root:
            found[-1] += f",{part}"
        else:
            found.append(part.strip())
    return each(found)


def _pairs(text: str) -> dict[str, str]:
    """Read `color=Red,material=Wool|Silk`; a value may hold commas, and may be quoted, with its name or without."""
    starts = list(_PAIR.finditer(text))
    ends = [*(one.start() for one in starts[1:]), len(text)]
    found = {one[1]: text[one.end() : end].strip() for one, end in zip(starts, ends, strict=False)}
    plain = {name: value.strip('"').replace('""', '"') for name, value in found.items() if name not in _SOLD}
    return {name: "; ".join(each(value.split("|"))) for name, value in plain.items() if value not in ("", *_EMPTY)}


def _stock(found: Fields) -> str | None:
    said, number = availability_of(found.get("is_in_stock"))[0], found.get("qty", "")
    kept = found.get("manage_stock") == "0" and found.get("use_config_manage_stock", "0") == "0"
    if kept or found.get("product_type") in _WHOLES or not number:
        return "in_stock" if kept else said
    later = found.get("allow_backorders", "0") not in ("", "0", "0.0000")
    if said == "out_of_stock" or availability_of(number)[0] != "out_of_stock":
        return said or availability_of(number)[0]
    return "backorder" if later else "out_of_stock"


def _is_day_first(rows: Iterable[SourceRow]) -> bool:
    """Say whether days are written 24/2/19, as another language of the admin does, rather than 2/24/19."""
    cells = [fields_of(row).get(name, "") for row in rows for name in _DAYS]
    found = [one for one in map(_SHORT_DAY.match, cells) if one]
    return any(one[2] == "." or int(one[1]) > 12 for one in found)


def _day(text: str, day_first: bool) -> str:
    found = _SHORT_DAY.fullmatch(text)
    if found is None:
        return text
    one, other, year = int(found[1]), int(found[3]), int(found[4])
    day, month = (one, other) if day_first else (other, one)
    try:
        return date(year + 2000 if year < 100 else year, month, day).isoformat()
    except ValueError:
        return text


def _is_magento(file: Path) -> bool:
    names = set(header_of(file))
    marks = {"attribute_set_code", "additional_attributes", "configurable_variations"}
    return {"sku", "product_type"} <= names and bool(names & marks)


MAGENTO = FileReader(
    "magento",
    "the product export of Magento 2: one item a product, configurable ones and their variants in one group",
    (".csv",),
    _magento,
    MAPPING,
    _is_magento,
)
