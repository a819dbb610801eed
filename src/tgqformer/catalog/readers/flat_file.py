"""Amazon flat files: a seller's inventory template or listing report, tab-separated, with one to five header rows.

Above the row that names the columns a template has its settings (`TemplateType=…`), groups, and names for people.
Source: "Inventory file templates" and "Variation relationships" in the help of Seller Central.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from tgqformer.catalog.offers import availability_of
from tgqformer.catalog.readers.base import FileReader, SourceRow
from tgqformer.catalog.readers.lines import read_lines
from tgqformer.catalog.readers.products import (
    MAPPING,
    NAMES,
    PARENT,
    Fields,
    each,
    families,
    holds_today,
    product,
    related,
    unread_days,
)
from tgqformer.catalog.readers.table import table_rows
from tgqformer.catalog.shape import TableShape, cells_of

_HEADERS = 8
_EXTRA = re.compile(r"\[[^\]]*\]|#\d+|\.(?:value|media_location|value_with_tax)\b")
_IDS = ("item_sku", "contribution_sku", "seller_sku", "sku")
_TITLES = ("item_name", "title", "product_name")
_PARENTS = ("parent_sku", "child_parent_sku_relationship.parent_sku")
_KINDS = ("parent_child", "parentage", "parentage_level")
_PRICES = ("standard_price", "purchasable_offer.our_price.schedule", "price", "item_price", "list_price")
_SALES = ("sale_price", "purchasable_offer.discounted_price.schedule")
_STARTS = ("sale_from_date", "purchasable_offer.discounted_price.schedule.start_at")
_ENDS = ("sale_end_date", "purchasable_offer.discounted_price.schedule.end_at")
_STOCK = ("quantity", "fulfillment_availability.quantity")
_CATEGORY = ("feed_product_type", "product_type", "item_type", "item_type_keyword", "item_type_name")
_PICTURES = re.compile(r"(?:main_|other_)?(?:product_|offer_)?image_(?:url|locator)(?:_?\d+)?")
_OPTIONS = re.compile(
    r"(color|size|material|department|style|pattern|fit|closure|sleeve|neck|theme|scent|flavor|fabric|shape)"
    r"(?:_name|_type|_style)?\d?|target_gender|age_range_description|collar_style|occasion_type"
)
_KNOWN = {*_IDS, *_TITLES, *_PARENTS, *_KINDS, *_PRICES, *_SALES, *_STOCK, "brand_name", "main_image_url", "image_url"}
_BRANDS = ("brand_name", "brand", "manufacturer")


def _flat_file(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream one row a product: parents, which hold variants together, and what is sold."""
    shape = _shape(file, encoding)

    def read() -> Iterator[SourceRow]:
        return map(_row, table_rows(file, encoding, shape=shape))

    return related(families(read))


def _row(row: SourceRow) -> SourceRow:
    if row.fields is None:
        return row
    raw = {name: value.strip() for name, value in row.fields.items() if value.strip()}
    plain: dict[str, str] = {}
    for name, value in raw.items():
        plain.setdefault(_plain(name), value)

    def first(names: Iterable[str]) -> str | None:
        return next((plain[name] for name in names if name in plain), None)

    own, kind, sale, days = first(_IDS), first(_KINDS), first(_SALES), (first(_STARTS), first(_ENDS))
    parent = first(_PARENTS) if plain.get("relationship_type", "variation").lower() != "accessory" else None
    levels = each(value for name in _CATEGORY if (value := plain.get(name)) and not value.isdigit())
    fields: dict[str, Any] = {
        **raw,
        "id": own,
        "title": first(_TITLES),
        "brand": first(_BRANDS),
        "category": levels or None,
        "price": first(_PRICES),
        "sale price": sale if holds_today(*days) else None,
        "currency": plain.get("currency") or plain.get("list_price.currency"),
        "availability": _stock(plain),
        "created": _day(plain.get("open_date")) or plain.get("product_site_launch_date"),
        "group": parent,
        "options": _options(plain),
        "pictures": each(value for name, value in raw.items() if _PICTURES.fullmatch(_plain(name))),
    }
    if parent and (kind or "").lower() != "parent":
        fields[PARENT] = parent
    elif kind and own:  # in the words of the marketplace's language
        fields[NAMES] = (own,)
    gone = (plain.get("update_delete") or plain.get("record_action") or "").lower() in ("delete", "full delete")
    fault = "the file deletes it" if gone else None
    status = plain.get("status", "active").lower()
    fault = fault or (f"its status is {status}" if status in ("inactive", "incomplete") else None)
    return product(row, fields, fault, unread_days(sale, *days))


def _options(plain: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in plain.items():
        if match := _OPTIONS.fullmatch(name):
            found.setdefault(match[1] or name, value)
    return found


def _stock(plain: Fields) -> str | None:
    """Return the stock by the number; Amazon's own warehouses have none in the file."""
    return availability_of(next((plain[name] for name in _STOCK if name in plain), None))[0]


def _day(text: str | None) -> str | None:
    return None if text is None else text[:10]  # 2019-03-14 08:43:12 PDT


@lru_cache(4096)
def _plain(name: str) -> str:
    """Return a name without marketplace, language and number: `item_name[language_tag=en_US]#1.value` is item_name."""
    return _EXTRA.sub("", name.strip().lower()).replace("-", "_").replace(" ", "_")


def _shape(file: Path, encoding: str | None = None) -> TableShape | None:
    """Return where the row stands that names the columns: of those with most known names the last. None: nowhere."""
    lines = [line.text for line in islice(read_lines(file, encoding), _HEADERS) if line.fault is None]
    best: TableShape | None = None
    for place, line in enumerate(lines):
        for delimiter in ("\t", ",", ";"):
            names = cells_of(line, delimiter)
            known = {_plain(name) for name in names} & _KNOWN
            fits = known & set(_IDS) and known & set(_TITLES) and len(known) >= 4
            if fits and (best is None or len(known) >= best.known):
                best = TableShape(delimiter, place, tuple(names), len(known))
    return best


def _is_flat_file(file: Path) -> bool:
    shape = _shape(file)
    if shape is None:
        return False
    plain = {_plain(name) for name in shape.names}
    own = {*_IDS[:3], *_KINDS, "asin1", "external_product_id", "feed_product_type", "child_parent_sku_relationship"}
    return len(plain & own) >= 2


AMAZON_FLAT_FILE = FileReader(
    "amazon-flat-file",
    "a seller's flat file or listing report of Amazon: parents and their variants in one group",
    (".txt", ".tsv", ".csv"),
    _flat_file,
    replace(MAPPING, currency="currency"),
    _is_flat_file,
)
