"""Product feeds as Google Merchant Center takes them: XML (RSS or Atom) or a table (.txt, .tsv, .csv).

Source: "Product data specification" in the help of Google Merchant Center. Catalogues of Meta have the same columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tgqformer.catalog.readers.base import FileReader, SourceRow
from tgqformer.catalog.readers.feed import feed_rows
from tgqformer.catalog.readers.lines import DAMAGED, bare_name, open_binary
from tgqformer.catalog.readers.products import MAPPING, each, fields_of, holds_today, product
from tgqformer.catalog.readers.table import header_of, table_rows
from tgqformer.catalog.shape import plain_name
from tgqformer.errors import TgqError

_XML = (".xml", ".rss")
_TABLES = (".txt", ".tsv", ".csv")
_NEEDED = {"id", "title", "imagelink", "availability"}
_OPTIONS = ("color", "size", "material", "pattern", "gender", "age_group", "size_type", "size_system")


def _feed(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream one row an item."""
    read = feed_rows if bare_name(file).endswith(_XML) else table_rows
    for row in read(file, encoding):
        yield row if row.fields is None else _item(row)


def _item(row: SourceRow) -> SourceRow:
    plain = {plain_name(name): value for name, value in fields_of(row).items() if value not in ("", None)}
    paths = [one for one in _several(plain.get("producttype")) if one]
    google = str(plain.get("googleproductcategory", ""))
    starts, _, ends = str(plain.get("salepriceeffectivedate", "")).partition("/")
    options = {name: plain.get(name.replace("_", "")) for name in _OPTIONS}
    fields: dict[str, Any] = {
        **{name: value for name, value in fields_of(row).items() if value not in ("", None)},
        "id": plain.get("id"),
        "title": plain.get("title"),
        "brand": plain.get("brand"),
        "category": paths[0] if paths else None if google.isdigit() else google or None,
        "price": plain.get("price"),
        "sale price": plain.get("saleprice") if holds_today(starts.strip(), ends.strip()) else None,
        "availability": plain.get("availability"),
        "group": plain.get("itemgroupid"),
        "created": None,
        "options": {name: value for name, value in options.items() if value} | _details(plain.get("productdetail")),
        "pictures": [*_several(plain.get("imagelink")), *_several(plain.get("additionalimagelink"))],
    }
    several = (("category-several", f"{len(paths)} categories: {', '.join(paths)}"),) if len(paths) > 1 else ()
    return product(row, fields, None, several)


def _several(value: Any) -> list[str]:
    return each(value) if isinstance(value, list) else each([value])


def _details(value: Any) -> dict[str, str]:
    """Read product_detail: parts in XML; in a table `Section:Name:Value`, several with commas between them."""
    found: dict[str, str] = {}
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            found[str(one.get("attribute_name", ""))] = str(one.get("attribute_value", ""))
        elif isinstance(one, str):
            parts = [part.split(":") for part in one.split(",")]
            found |= {part[1].strip(): part[2].strip() for part in parts if len(part) == 3}
    return {name: text for name, text in found.items() if name and text}


def _is_google(file: Path) -> bool:
    if not bare_name(file).endswith(_XML):
        return {plain_name(name) for name in header_of(file)} >= _NEEDED
    try:
        with open_binary(file) as source:
            start = source.read(1 << 14)
    except (*DAMAGED, TgqError):
        return False
    return b"base.google.com/ns" in start or b"base.google.com/ns".decode().encode("utf-16-le") in start


GOOGLE_MERCHANT = FileReader(
    "google-merchant",
    "a product feed as for Google Merchant Center: XML (RSS or Atom), or a table in .txt, .tsv or .csv",
    (*_XML, *_TABLES),
    _feed,
    MAPPING,
    _is_google,
)
