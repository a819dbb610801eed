"""Item metadata of *Amazon Reviews* 2018 (Ni et al., EMNLP 2019; older names of 2014 too) and 2023 (Hou et al., 2024).

Pictures are addresses there; nothing is fetched. A picture counts where a file of the same name lies in the picture
folder, or one named after the item (`B000123456.jpg`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.readers.base import FileReader, SourceRow, pictures_folder
from tgqformer.catalog.readers.jsonlines import SUFFIXES as JSON_LINES
from tgqformer.catalog.readers.jsonlines import first_object, json_rows
from tgqformer.catalog.readers.parquet import SUFFIXES as PARQUET
from tgqformer.catalog.readers.parquet import columns_of, parquet_rows
from tgqformer.catalog.values import is_deep

_MAPPING = ColumnMapping(
    id="id",
    title="title",
    brand="brand",
    category=("category",),
    price=("price",),
    attributes=("details", "features", "description"),
    pictures=("pictures",),
)
_NAMES_2014 = {"also_bought": "also_buy", "also_viewed": "also_view"}
_NAMES = ("also_buy", "also_bought", "also_view", "also_viewed", "bought_together", "buy_after_viewing")
_RELATIONS = {name: _NAMES_2014.get(name, name) for name in _NAMES}
_TAG = re.compile(r"<[^<>]{0,2000}>")
_SCALED = re.compile(r"\._[^/]*_(?=\.[A-Za-z]+$)")


def _rows_2018(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream the items with their co-purchase lists: JSON, or Python dictionaries, one a line."""
    for row in json_rows(file, encoding):
        yield row if row.fields is None else _row_2018(row, row.fields)


def _rows_2023(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream the items with what was bought together with them."""
    for row in parquet_rows(file) if file.name.lower().endswith(PARQUET) else json_rows(file, encoding):
        yield row if row.fields is None else _row_2023(row, row.fields)


def _row_2018(row: SourceRow, raw: Mapping[str, Any]) -> SourceRow:
    asin = raw.get("asin")
    title, notes = _title(raw.get("title"))
    fields = {
        "id": asin,
        "title": title,
        "brand": raw.get("brand"),
        "category": _path(raw.get("category") or raw.get("categories") or raw.get("main_cat")),
        "price": raw.get("price"),
        "details": _details(raw.get("details")),
        "features": _joined(raw.get("feature")),
        "description": _joined(raw.get("description")),
        "pictures": _pictures(asin, _addresses_2018(raw)),
    }
    lists = {**raw, **raw["related"]} if isinstance(raw.get("related"), dict) else raw
    return replace(row, fields=fields, notes=row.notes + notes, related=_related(lists))


def _row_2023(row: SourceRow, raw: Mapping[str, Any]) -> SourceRow:
    asin = raw.get("parent_asin")
    title, notes = _title(raw.get("title"))
    fields = {
        "id": asin,
        "title": title,
        "brand": raw.get("store"),
        "category": _path(raw.get("categories") or raw.get("main_category")),
        "price": None if raw.get("price") in ("None", "—") else raw.get("price"),
        "details": _details(raw.get("details")),
        "features": _joined(raw.get("features")),
        "description": _joined(raw.get("description")),
        "pictures": _pictures(asin, _addresses_2023(raw.get("images"))),
    }
    return replace(row, fields=fields, notes=row.notes + notes, related=_related(raw))


def _title(value: Any) -> tuple[Any, tuple[tuple[str, str], ...]]:
    """Return a title without HTML; a title that is a page's script (known in the 2018 files) is dropped."""
    if isinstance(value, str) and "getTime()" in value:
        return None, (("no-title", "the title is a page's script, not a title"),)
    return value, ()


def _joined(value: Any) -> str | None:
    if isinstance(value, (list, tuple)):
        return "; ".join(str(part) for part in value if part) or None
    return None if value is None else str(value)


def _path(value: Any) -> list[Any]:
    """Return the category path: the first one where there are several (2014)."""
    if isinstance(value, (list, tuple)):
        if value and isinstance(value[0], (list, tuple)):
            return _path(value[0])
        return list(value)
    return [value] if value else []


def _details(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    if not isinstance(value, dict) or is_deep(value):
        return {}
    return {str(name).strip(" :\n"): detail for name, detail in value.items()}


def _related(raw: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, kind in _RELATIONS.items():
        others = raw.get(name)
        if isinstance(others, (list, tuple)):
            known = tuple(dict.fromkeys(other for other in others if isinstance(other, str) and other))
            found[kind] = tuple(dict.fromkeys((*found.get(kind, ()), *known)))
    return {kind: others for kind, others in found.items() if others}


def _addresses_2018(raw: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return, for each picture, its addresses: the large one first."""
    large, small = (_texts(raw.get(name)) for name in ("imageURLHighRes", "imageURL"))
    small = small or _texts(raw.get("imUrl"))
    longest = max(len(large), len(small))
    return [tuple(some[place] for some in (large, small) if place < len(some)) for place in range(longest)]


def _addresses_2023(images: Any) -> list[tuple[str, ...]]:
    """Return, for each picture, its addresses; both as a list of objects and as an object of lists."""
    sizes = ("hi_res", "large", "thumb")
    if isinstance(images, dict):
        lists = [images[size] if isinstance(images.get(size), list) else [] for size in sizes]
        longest = max((len(some) for some in lists), default=0)
        images = [
            {size: some[place] for size, some in zip(sizes, lists, strict=True) if place < len(some)}
            for place in range(longest)
        ]
    if not isinstance(images, list):
        return []
    found = [
        tuple(one[size] for size in sizes if isinstance(one.get(size), str)) for one in images if isinstance(one, dict)
    ]
    return [addresses for addresses in found if addresses]


def _pictures(asin: Any, addresses: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return, for each picture, the file names under which it may lie in the picture folder."""
    found = []
    for place, same in enumerate(addresses):
        names = [PurePosixPath(unquote(urlsplit(address).path)).name for address in same if _splits(address)]
        names += [_SCALED.sub("", name) for name in names]
        names += [f"{asin}.jpg"] if place == 0 and isinstance(asin, str) else []
        found.append((*dict.fromkeys(name for name in names if name), same[0]))
    return found


def _splits(address: str) -> bool:
    try:
        return bool(urlsplit(address).path)
    except ValueError:
        return False


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    return [part for part in value if isinstance(part, str) and part] if isinstance(value, (list, tuple)) else []


def _is_2018(file: Path) -> bool:
    first = first_object(file)
    return "asin" in first and "parent_asin" not in first


def _is_2023(file: Path) -> bool:
    return "parent_asin" in first_object(file) or {"parent_asin", "title"} <= columns_of(file)


_ABOUT = "item metadata of Amazon Reviews {}; writes related.parquet too"
AMAZON_2018 = FileReader(
    "amazon-2018",
    _ABOUT.format("2018 or 2014 (meta_*.json, also .gz)"),
    JSON_LINES,
    _rows_2018,
    _MAPPING,
    _is_2018,
    pictures_folder,
)
AMAZON_2023 = FileReader(
    "amazon-2023",
    _ABOUT.format("2023 (meta_*.jsonl, also .gz, or Parquet)"),
    (*JSON_LINES, *PARQUET),
    _rows_2023,
    _MAPPING,
    _is_2023,
    pictures_folder,
)
