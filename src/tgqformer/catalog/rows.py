"""From a row to an item: columns become fields, picture columns become sources, sources become checked pictures."""

from __future__ import annotations

import ast
import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tgqformer.catalog.addresses import fetched_file
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
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.mapping import ColumnMapping, is_sold
from tgqformer.catalog.nested import value_at
from tgqformer.catalog.offers import availability_of, currency_code, day_of
from tgqformer.catalog.pictures import PictureError, check, read_file, resolve
from tgqformer.catalog.prices import price_of
from tgqformer.catalog.readers.base import SourceRow
from tgqformer.catalog.styles import ADDRESS, SourceStyle, names_in
from tgqformer.catalog.values import bare_text, is_unknown

_cleaned = lru_cache(1 << 14)(clean)  # brands and attributes come again and again
_LEVELS = re.compile(r"\s*(?:->|[>|»›→\\]|::)\s*")
_SLASHES = re.compile(r"\s*/\s*")
_SEVERAL = re.compile(r"\s*[|;~\n]\s*")
_SEVERAL_FILES = re.compile(r"\s*,\s*(?=\S+\.\w{3,4}(?:\s*,|$))")
_SEVERAL_ADDRESSES = re.compile(r"[|;,\s]+(?=(?:https?:)?//)")
_SIZE = re.compile(r"_(?:\d+x\d*|x\d+|pico|icon|thumb|small|compact|medium|large|grande|master)(?=\.\w+$)")
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
    value = _Cells(row.fields, frozenset(mapping.missing), style, found)
    written = value.of(mapping.id)
    name, notes = identify(written)
    found += notes
    if name is not None and style.whole_ids:
        name = name.removesuffix(".0")
    if name is None:
        return DraftItem(row, found=found, reject=("no-id", f"the column {mapping.id!r} is empty"))
    if (spoilt := spoilt_id(written, name)) is not None:
        return DraftItem(row, found=found, reject=("spoilt-id", spoilt))
    if len(name) > LIMITS["id"]:
        return DraftItem(row, found=found, reject=("bad-id", f"an id of {len(name)} characters: {name[:40]}…"))
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


def with_pictures(draft: DraftItem, root: Path, *, keep: bool, tail: int = 1) -> DraftItem:
    """Read and check the pictures of a draft; those that cannot be read are dropped and told in `found`.

    Safe to call from several threads. `tail`: see `SourceStyle`.
    With `keep` the pictures keep their bytes; without, only those that have no path.
    """
    item = draft.item
    if item is None:
        return draft
    pictures: dict[str, Picture] = {}
    sources = [part for source in draft.sources for part in _parts(source, root)]
    draft.named = len(sources)
    for source in sources:
        try:
            picture, notes = _inspect(source, root, keep, tail)
        except PictureError as error:
            draft.found.append((f"picture-{error.kind}", error.reason))
            if error.kind in ("remote", "ambiguous"):
                draft.remote += addresses_in([source])
            continue
        if picture.digest in pictures:
            draft.found.append(("picture-repeated", f"{picture.path or 'packed bytes'}: the same picture again"))
            continue
        draft.found += notes
        pictures[picture.digest] = picture
    if pictures:
        draft.item = replace(item, pictures=tuple(pictures.values()))
    if not (pictures or item.title or item.brand or item.category or item.attributes):
        draft.reject = ("empty", "no text and no readable picture")
    return draft


def _parts(source: PictureSource, root: Path) -> tuple[PictureSource, ...]:
    """Return the pictures that a cell means: the file of its whole name, where there is one, else its parts."""
    if not source.parts:
        return (source,)
    try:
        whole = resolve(source.names[0], root).is_file()
    except (PictureError, OSError, ValueError):
        whole = False
    return (replace(source, parts=()),) if whole else source.parts[:MAX_PICTURES]


def _inspect(source: PictureSource, root: Path, keep: bool, tail: int) -> tuple[Picture, Findings]:
    if source.fault is not None:
        raise source.fault
    path, data = (None, source.data) if source.data is not None else _first_file(source.names, root, tail)
    name = path or (source.names[0] if source.names else "packed bytes")
    try:
        seen = check(data)
    except PictureError as error:
        raise PictureError(error.kind, f"{name}: {error.reason}") from error
    if seen.width < 2 or seen.height < 2:
        raise PictureError("tiny", f"{name}: {seen.width} x {seen.height} pixels")
    kept = data if keep or path is None else None
    notes = [(kind, f"{name}: {words}") for kind, words in seen.notes]
    return Picture(Picture.digest_of(data), path, kept, seen.look), notes


def _first_file(names: tuple[str, ...], root: Path, tail: int) -> tuple[str, bytes]:
    """Read the first of the names that is a file. Raise PictureError with the reason of the first local name."""
    first: PictureError | None = None
    for name in _spellings(names, tail, root):
        try:
            path = resolve(name, root)
            data = read_file(path)
        except PictureError as error:
            first = first if first is not None and first.kind != "missing" else error
            continue
        relative = os.path.relpath(path, os.path.abspath(root)).replace(os.sep, "/")  # noqa: PTH100
        if relative.encode("utf-8", "replace").decode() == relative:
            return relative, data
        first = PictureError("missing", f"{relative!r} is not a name in UTF-8; rename the file")
    address = next((name for name in names if ADDRESS.match(name)), None)
    if address is not None and (first is None or first.kind == "missing"):
        last = names_in(address)[-1:]
        if tail > 1 and last and (root / last[0]).is_file():
            raise PictureError("ambiguous", f"{address[:200]}: addresses of several items end in {last[0]!r}")
        raise PictureError("remote", f"{address[:200]} is not on this disk")
    raise first or PictureError("missing", "no file name")


def addresses_in(sources: Iterable[PictureSource]) -> list[str]:
    """Return the address of each picture that has one."""
    every = (next(filter(ADDRESS.match, part.names), None) for one in sources for part in (one.parts or (one,)))
    return [address for address in every if address is not None]


def _spellings(names: tuple[str, ...], tail: int, root: Path) -> Iterable[str]:
    """Return the local names to try, most of a path first.

    An address has the file that it was fetched to; else at least `tail` names from its end must fit. A path from
    Windows is tried with slashes; one that begins with a slash below the folder; a name with a question (`?v=1`) or a
    size (`_1024x1024`) also without it.
    """
    for name in names:
        if ADDRESS.match(name):
            if (fetched := fetched_file(name, root)) is not None:
                yield fetched
            yield from _ends(names_in(name), tail)
            continue
        yield name
        plain = name.replace("\\", "/").partition("?")[0]
        if plain.startswith("/"):
            yield from _ends(tuple(part for part in plain.split("/") if part not in ("", ".", "..")), 1)
        elif plain != name:
            yield plain


def _ends(parts: tuple[str, ...], tail: int) -> Iterable[str]:
    for start in range(max(len(parts) - tail + 1, 0)):
        name = "/".join(parts[start:])
        yield name
        if (unsized := _SIZE.sub("", name)) != name:
            yield unsized


class _Cells:
    """The cells of one row, read as fields of an item; what is found on the way is added to `found`."""

    def __init__(self, fields: Mapping[str, Any], missing: frozenset[str], style: SourceStyle, found: Findings) -> None:
        self._fields, self._missing, self._style, self._found = fields, missing, style, found
        self.currency: str | None = None
        self._explicit = False

    def of(self, column: str) -> Any:
        """Return what stands in a column, or at a path into objects."""
        return self._fields[column] if column in self._fields else value_at(self._fields, column)

    def text(self, column: str | None, what: str) -> str | None:
        """Return a cleaned text, or None."""
        return None if column is None else self._clean(self.of(column), what)

    def offer(self, mapping: ColumnMapping) -> dict[str, Any]:
        """Return how the item is sold: price, sale price where it is lower, and the other fields of an offer."""
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
        named = self._read(mapping.currency, currency_code)
        if named is not None and self.currency not in (None, named) and self._explicit:
            words = f"the price says {self.currency}, the column {mapping.currency} {named}: taken as {self.currency}"
            self._found.append(("offer", words))
        else:
            self.currency = named or self.currency
        return {
            "price": price,
            "sale_price": reduced,
            "currency": self.currency if price is not None else None,
            "item_group": self.text(mapping.group, "group"),
            "availability": self._read(mapping.availability, availability_of),
            "created": self._read(mapping.created, day_of),
        }

    def _read(self, column: str | None, read: Callable[[Any], tuple[str | None, str | None]]) -> str | None:
        value = None if column is None else self.of(column)
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
        value, _ = bare_text(value)
        return (_SLASHES if self._style.slashes else _LEVELS).split(value)

    def _clean(self, value: Any, what: str) -> str | None:
        comes_again = type(value) is str and len(value) < 60 and what != "title"
        text, found = (_cleaned if comes_again else clean)(value, what, self._style.language)
        if text in self._missing:
            return None
        self._found += found
        return text


def _parsed(value: Any, start: str) -> Any:
    """Read a list or dictionary that stands as JSON or Python text in a cell; anything else stays as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(start) or len(value) > 1 << 20:
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return parsed if isinstance(parsed, (list, tuple, dict)) else value
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
