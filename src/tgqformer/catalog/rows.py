"""From a row to an item: columns become fields, picture columns become sources, sources become checked pictures."""

from __future__ import annotations

import ast
import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tgqformer.catalog.checks import (
    LIMITS,
    MAX_ATTRIBUTES,
    MAX_LEVELS,
    MAX_PICTURES,
    Findings,
    clean,
    identify,
    spoilt_id,
)
from tgqformer.catalog.item import Item
from tgqformer.catalog.mapping import ColumnMapping, is_sold
from tgqformer.catalog.nested import value_at
from tgqformer.catalog.offers import availability_of, currency_code, day_of
from tgqformer.catalog.pictures import PictureError
from tgqformer.catalog.prices import price_of
from tgqformer.catalog.readers.base import Block, SourceRow
from tgqformer.catalog.styles import ADDRESS, SourceStyle
from tgqformer.catalog.values import all_known, bare_text, is_deep, is_unknown

_cleaned = lru_cache(1 << 14)(clean)  # brands and attributes come again and again
_PLAIN_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{LIMITS['id']}}}")
_LEVELS = re.compile(r"\s*(?:->|[>|»›→\\]|::)\s*")
_SLASHES = re.compile(r"\s*/\s*")
_SEVERAL = re.compile(r"\s*[|;~\n]\s*")
_SEVERAL_FILES = re.compile(r"\s*,\s*(?=\S+\.\w{3,4}(?:\s*,|$))")
_SEVERAL_ADDRESSES = re.compile(r"[|;,\s]+(?=(?:https?:)?//)")
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_ARRAY = re.compile(r"\[\s*(['\"]).*?\1(?:\s+\1.*?\1)+\s*\]", re.DOTALL)
_SEVERAL_WORDS = re.compile(r"\s+(?=\S+\.(?:jpe?g|png|webp|gif|avif)(?:\s|$))", re.IGNORECASE)
_DATA_ADDRESS = re.compile(r"data:[\w/+.;=-]*,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{128,}={0,2}\s*")


@dataclass(frozen=True, slots=True)
class PictureSource:
    """Where a picture comes from: bytes, or names of which the first that exists is taken; or the fault of its cell.

    parts: what the cell means if there is no file of its whole name (`mug,red.jpg`).
    """

    names: tuple[str, ...] = ()
    data: bytes | None = None
    fault: PictureError | None = None
    parts: tuple[PictureSource, ...] = ()


@dataclass(slots=True)
class DraftItem:
    """An item in the making; `reject` is the (kind, reason) for which its row is refused.

    remote: addresses of pictures that are not on this disk.
    """

    row: SourceRow
    item: Item | None = None
    sources: list[PictureSource] = field(default_factory=list)
    found: Findings = field(default_factory=list)
    reject: tuple[str, str] | None = None
    currency: str | None = None
    named: int = 0
    remote: list[str] = field(default_factory=list)


def draft_item(row: SourceRow, mapping: ColumnMapping, style: SourceStyle = SourceStyle()) -> DraftItem:  # noqa: B008
    """Make the item of a row, its pictures still unread. Never raises: what is wrong is in `found` and `reject`."""
    found: Findings = list(row.notes)
    if row.fields is None:
        return DraftItem(row, found=found, reject=("bad-row", row.reason or "unreadable"))
    value = RowCells(row.fields, frozenset(mapping.missing), style, found)
    name, reject, notes = identified(value.of(mapping.id), mapping.id, style)
    found += notes
    if name is None:
        return DraftItem(row, found=found, reject=reject)
    item = Item(
        id=name,
        title=value.text(mapping.title, "title"),
        brand=value.text(mapping.brand, "brand"),
        category=value.path(mapping.category),
        attributes=value.attributes(mapping.attributes),
        **value.offer(mapping),
    )
    if item.title is None and mapping.title is not None and not any(kind == "no-title" for kind, _ in found):
        found.append(("no-title", "the title is empty"))
    return DraftItem(row, item, value.sources(mapping.pictures), found, currency=value.currency)


def ids_of(rows: SourceRow | Block, mapping: ColumnMapping, style: SourceStyle) -> list[str | None]:
    """Return the id of each row; None where `draft_item` refuses it for its id, or it cannot be read."""
    if isinstance(rows, Block) and mapping.id in rows.names:
        cells = rows.columns()[mapping.id]
        every = zip(cells, plain_ids(cells), strict=True)
        return [cell if plain else identified(cell, mapping.id, style)[0] for cell, plain in every]
    return [
        None
        if row.fields is None
        else identified(RowCells(row.fields, frozenset(), style, []).of(mapping.id), mapping.id, style)[0]
        for row in (rows.rows() if isinstance(rows, Block) else [rows])
    ]


def identified(written: Any, column: str, style: SourceStyle) -> tuple[str | None, tuple[str, str] | None, Findings]:
    """Return the id that a cell means, or None and why its row is refused; and what was found."""
    if isinstance(written, str) and _PLAIN_ID.fullmatch(written) and not is_unknown(written):
        return written, None, []  # as below, and most ids
    name, found = identify(written)
    if name is not None and style.whole_ids:
        name = name.removesuffix(".0")
    if name is None:
        return None, ("no-id", f"the column {column!r} is empty"), found
    if (spoilt := spoilt_id(written, name)) is not None:
        return None, ("spoilt-id", spoilt), found
    if len(name) > LIMITS["id"]:
        return None, ("bad-id", f"an id of {len(name)} characters: {name[:40]}…"), found
    return name, None, found


def plain_ids(written: Sequence[str]) -> list[bool]:
    """Say which texts `identified` surely returns as they are, with nothing found; a third of its time for many."""
    known = all_known(written)
    return [known and match is not None for match in map(_PLAIN_ID.fullmatch, written)]


def cell_at(fields: Mapping[str, Any], column: str) -> Any:
    """Return what stands in a column of a row, or at a path into objects."""
    return fields[column] if column in fields else value_at(fields, column)


class RowCells:
    """The cells of one row, read as fields of an item; what is found on the way is added to `found`.

    currency: of the price that was read last.
    """

    def __init__(self, fields: Mapping[str, Any], missing: frozenset[str], style: SourceStyle, found: Findings) -> None:
        self._fields, self._missing, self._style, self._found = fields, missing, style, found
        self.currency: str | None = None
        self._explicit = False

    def of(self, column: str) -> Any:
        """Return what stands in a column, see `cell_at`."""
        return cell_at(self._fields, column)

    def text(self, column: str | None, what: str) -> str | None:
        """Return a cleaned text, or None."""
        return None if column is None else self._clean(self.of(column), what)

    def offer(self, mapping: ColumnMapping) -> dict[str, Any]:
        """Return how the item is sold: what it costs, and the other fields of an offer."""
        return {
            **self.money(mapping),
            "item_group": self.text(mapping.group, "group"),
            "availability": self.read(mapping.availability, availability_of),
            "created": self.read(mapping.created, day_of),
        }

    def money(self, mapping: ColumnMapping) -> dict[str, Any]:
        """Return price, sale price where it is lower, and currency."""
        reduced = None if mapping.sale_price is None else self.price((mapping.sale_price,))
        currency, self.currency = self.currency, None
        price = self.price(mapping.price)
        self.currency = self.currency or currency
        if price is None:
            price, reduced = reduced, None
        elif reduced is not None and reduced >= price:
            if reduced > price:
                self._found.append(("price", f"the sale price {reduced:g} is above the price {price:g}: left out"))
            reduced = None
        named = self.read(mapping.currency, currency_code)
        if named is not None and self.currency not in (None, named) and self._explicit:
            words = f"the price says {self.currency}, the column {mapping.currency} {named}: taken as {self.currency}"
            self._found.append(("offer", words))
        else:
            self.currency = named or self.currency
        return {
            "price": price,
            "sale_price": reduced,
            "currency": self.currency if price is not None else None,
        }

    def read(self, column: str | None, read: Callable[[Any], tuple[str | None, str | None]]) -> str | None:
        """Return what `read` makes of a cell, or None."""
        if column is None:
            return None
        value = self.of(column)
        if isinstance(value, str) and value.strip() in self._missing:
            return None
        found, wrong = read(value)
        if wrong is not None:
            self._found.append(("offer", f"{column}: {wrong}"))
        return found

    def price(self, columns: tuple[str, ...]) -> float | None:
        """Return the price of the first column that has one, or None."""
        for column in columns:
            value = self.of(column)
            if isinstance(value, str) and (value.strip() in self._missing or is_unknown(value.strip())):
                continue
            number, currency, wrong = price_of(value.strip() if isinstance(value, str) else value, self._style.prices)
            if wrong is not None:
                self._found.append(("price", wrong))
            elif number is not None:
                self.currency = currency
                self._explicit = currency is not None and currency in str(value)  # a sign like $ has several meanings
                return number
        return None

    def path(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Return the category path over all its columns; "A > B" in one cell is two levels, a repeated level one."""
        levels: list[str] = []
        for column in columns:
            for part in self._levels(self.of(column)):
                text = self._clean(part, "category")
                if text is not None and (not levels or levels[-1] != text):
                    levels.append(text)
        return tuple(levels[:MAX_LEVELS])

    def attributes(self, columns: tuple[str, ...]) -> dict[str, str]:
        """Return the attributes; a dictionary in a cell gives one for each key."""
        pairs: list[tuple[Any, Any]] = []
        for column in columns:
            value = _parsed(self.of(column), "{")
            if isinstance(value, dict):
                pairs += value.items()
            elif isinstance(value, list) and value and all(isinstance(p, tuple) and len(p) == 2 for p in value):
                pairs += value  # a map column of Parquet
            else:
                pairs.append((column, value))
        kept: dict[str, str] = {}
        for name, value in pairs[:MAX_ATTRIBUTES]:
            text, name = self._clean(value, "attribute"), self._clean(name, "attribute name")
            if text is None or name is None:
                continue
            if name not in columns and is_sold(name):
                self._found.append(("sold", f"{name}: {text[:60]!r}"))
            else:
                kept[name] = text
        if len(pairs) > MAX_ATTRIBUTES:
            self._found.append(("attributes", f"{len(pairs)} attributes: the first {MAX_ATTRIBUTES} are kept"))
        return kept

    def sources(self, columns: tuple[str, ...]) -> list[PictureSource]:
        """Return where the pictures come from, in order."""
        sources: list[PictureSource] = []
        for column in columns:
            sources += _sources(self.of(column), self._missing)
        if len(sources) > MAX_PICTURES:
            self._found.append(("picture-many", f"{len(sources)} pictures: the first {MAX_PICTURES} are kept"))
        return sources[:MAX_PICTURES]

    def _levels(self, value: Any) -> list[Any]:
        value = _parsed(value, "[")
        if isinstance(value, (list, tuple)):
            inner = (self._levels(one) if isinstance(one, (list, tuple)) else [one] for one in value)
            return [part for parts in inner for part in parts]
        if not isinstance(value, str):
            return [value]
        split = _split if len(value) < 200 else _split.__wrapped__  # what is long does not come again
        return list(split(value, self._style.slashes))

    def _clean(self, value: Any, what: str) -> str | None:
        comes_again = type(value) is str and len(value) < 60 and what != "title"
        text, found = (_cleaned if comes_again else clean)(value, what, self._style.language)
        if text in self._missing:
            return None
        self._found += found
        return text


@lru_cache(1 << 14)
def _split(path: str, slashes: bool) -> tuple[str, ...]:
    """Return the levels of a category path."""
    return tuple((_SLASHES if slashes else _LEVELS).split(bare_text(path)[0]))


def _parsed(value: Any, start: str) -> Any:
    """Read a list or dictionary that stands as JSON or Python text in a cell; anything else stays as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(start) or len(value) > 1 << 20:
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return parsed if isinstance(parsed, (list, tuple, dict)) and not is_deep(parsed) else value
    return value


def _sources(value: Any, missing: frozenset[str]) -> list[PictureSource]:
    """Read a cell of a picture column: none, one or several sources."""
    if value is None or value == "" or (isinstance(value, float) and value != value):
        return []
    if isinstance(value, (bytes, bytearray, memoryview)):
        return [PictureSource(data=bytes(value))]
    if isinstance(value, str):
        return _sources_of_text(value.strip(), missing)
    if isinstance(value, tuple) and all(isinstance(name, str) for name in value):
        return [PictureSource(names=value)]
    if isinstance(value, (list, tuple)):
        return [source for one in value for source in _sources(one, missing)]
    if isinstance(value, dict):
        for key in ("bytes", "data", "path", "file", "filename", "hi_res", "large", "url", "src", "image"):
            if value.get(key):
                return _sources(value[key], missing)
        return [PictureSource(fault=PictureError("missing", f"no bytes, path or url in {str(value)[:80]}"))]
    return [PictureSource(fault=PictureError("unreadable", f"{str(value)[:80]!r} is neither a path nor bytes"))]


def _sources_of_text(text: str, missing: frozenset[str]) -> list[PictureSource]:
    if not text or text in missing:
        return []
    if _DATA_ADDRESS.match(text):
        return [_decoded(text.partition(",")[2])]
    if _ARRAY.fullmatch(text) and "," not in _QUOTED.sub("", text):  # as numpy writes lists, without commas
        return [PictureSource(names=(one or other,)) for one, other in _QUOTED.findall(text) if one or other]
    parsed = _parsed(text, "[")
    if not isinstance(parsed, str):
        return _sources(list(parsed), missing)
    if ADDRESS.match(text):
        return [PictureSource(names=(address.strip(),)) for address in _SEVERAL_ADDRESSES.split(text)]
    if len(text) > 300 and _BASE64.fullmatch(text):
        return [_decoded(text)]
    names = [name for part in _SEVERAL.split(text) for name in _SEVERAL_FILES.split(part)]
    if len(names) == 1:
        names = _SEVERAL_WORDS.split(text)
    parts = tuple(PictureSource(names=(name,)) for name in names if name)
    return [PictureSource(names=(text,), parts=parts)] if len(parts) > 1 else list(parts)


def _decoded(text: str) -> PictureSource:
    try:
        return PictureSource(data=base64.b64decode(text))
    except (binascii.Error, ValueError) as error:
        return PictureSource(fault=PictureError("unreadable", f"not base64: {error}"))
