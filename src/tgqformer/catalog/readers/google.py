"""Product feeds as Google Merchant Center takes them: XML (RSS or Atom) or a table (.txt, .tsv, .csv).

Source: "Product data specification" in the help of Google Merchant Center. Catalogues of Meta have the same columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tgqformer.catalog.readers.base import FileReader, SourceRow
from tgqformer.catalog.readers.feed import feed_rows
from tgqformer.catalog.readers.lines import DAMAGED, bare_name, open_binary
from tgqformer.catalog.readers.products import MAPPING, each, fields_of, holds_today, product, unread_days
from tgqformer.catalog.readers.table import header_of, table_rows
from tgqformer.catalog.shape import plain_name
from tgqformer.errors import TgqError

_XML = (".xml", ".rss")
_TABLES = (".txt", ".tsv", ".csv")
_NEEDED = {"id", "imagelink", "availability"}
_TITLES = {"title", "structuredtitle"}
_COMMA, _COLON = re.compile(r"(?<!\\),"), re.compile(r"(?<!\\):")
_OPTIONS = ("color", "size", "material", "pattern", "gender", "age_group", "size_type", "size_system")


def _feed(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream one row an item."""
    read = feed_rows if bare_name(file).endswith(_XML) else table_rows
    for row in read(file, encoding):
        yield row if row.fields is None else _item(row)


def _item(row: SourceRow) -> SourceRow:
    plain = {plain_name(name): value for name, value in fields_of(row).items() if value not in ("", None)}
    paths = [path for one in _several(plain.get("producttype")) for path in _paths(one)]
    google = str(plain.get("googleproductcategory", ""))
    starts, _, ends = str(plain.get("salepriceeffectivedate", "")).partition("/")
    sale, days = plain.get("saleprice"), (starts.strip(), ends.strip())
    options = {name: plain.get(name.replace("_", "")) for name in _OPTIONS}
    fields: dict[str, Any] = {
        **{name: value for name, value in fields_of(row).items() if value not in ("", None)},
        "id": plain.get("id"),
        "title": plain.get("title") or _structured(plain.get("structuredtitle")),
        "brand": plain.get("brand"),
        "category": paths[0] if paths else None if google.isdigit() else google or None,
        "price": plain.get("price"),
        "sale price": sale if holds_today(*days) else None,
        "availability": plain.get("availability"),
        "group": plain.get("itemgroupid"),
        "created": None,
        "options": {name: value for name, value in options.items() if value} | _details(plain.get("productdetail")),
        "pictures": [*_several(plain.get("imagelink")), *_several(plain.get("additionalimagelink"))],
    }
    several = [("category-several", f"{len(paths)} categories: {', '.join(paths)}")] if len(paths) > 1 else []
    return product(row, fields, None, [*several, *unread_days(sale, *days)])


def _paths(text: str) -> list[str]:
    """Return the product types of a cell: several, where those behind commas begin as the first one does."""
    parts = text.split(",")
    top = parts[0].partition(">")[0].strip()
    later = [part.partition(">")[0].strip() for part in parts[1:]]
    several = ">" in parts[0] and all(one == top for one in later)
    return each(parts) if several else [text]


def _structured(value: Any) -> str | None:
    """Read a title of which it is told who wrote it: `content` in XML, else `trained_algorithmic_media:Title`."""
    if isinstance(value, dict):
        return str(value.get("content") or "") or None
    return str(value).partition(":")[2].strip().strip('"') or None if value else None


def _several(value: Any) -> list[str]:
    return each(value) if isinstance(value, list) else each([value])


def _details(value: Any) -> dict[str, str]:
    """Read product_detail: parts in XML; in a table `Section:Name:Value`, several with commas between them."""
    found: dict[str, str] = {}
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            found[str(one.get("attribute_name", ""))] = str(one.get("attribute_value", ""))
        elif isinstance(one, str):
            found |= _written_details(one)
    return {name: text for name, text in found.items() if name and text}


def _written_details(text: str) -> dict[str, str]:
    """Read `Section:Name:Value, …`; a mark of their own stands behind a backslash, and a comma needs none."""
    found, last = dict[str, str](), ""
    for part in _COMMA.split(text):
        told = [one.strip().replace("\\:", ":").replace("\\,", ",") for one in _COLON.split(part)]
        if len(told) >= 3:
            last = told[1]
            found[last] = ":".join(told[2:])
        elif last:
            found[last] += f", {':'.join(told)}"
    return found


def _is_google(file: Path) -> bool:
    if not bare_name(file).endswith(_XML):
        names = {plain_name(name) for name in header_of(file)}
        return names >= _NEEDED and bool(names & _TITLES)
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
