"""Product feeds in XML: RSS (`item`), Atom (`entry`), or a list of `product`, `offer` or `SHOPITEM`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tgqformer.catalog.readers.base import FileReader, SourceRow
from tgqformer.catalog.readers.lines import open_binary

_GOOGLE = "base.google.com/ns"
_ITEMS = ("item", "entry", "product", "offer", "shopitem")


def feed_rows(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream one row an item; the number of a row is its place, from 1. A damaged file ends with a row that says so."""
    number, around, known = 0, list[ElementTree.Element](), dict[str, None]()
    depth = 0  # of the item around, which may hold offers and items of its own
    try:
        with open_binary(file) as source:
            parser = ElementTree.XMLParser(encoding=encoding)
            for event, element in ElementTree.iterparse(source, ("start", "end"), parser):
                if event == "start":
                    around.append(element)
                    if not depth and len(around) > 1 and _name(element).lower() in _ITEMS:
                        depth = len(around)
                    continue
                if len(around) == depth:
                    number, depth = number + 1, 0
                    yield SourceRow(file.name, number, _fields(element))
                    around[-2].remove(element)
                elif not number and len(known) < 5:
                    known[_name(element)] = None
                around.pop()
        if not number and _name(element).lower() in _ITEMS:  # a file of one product
            yield SourceRow(file.name, 1, _fields(element))
        elif not number:
            yield SourceRow(file.name, 1, reason=f"none of {', '.join(_ITEMS)} is in it, but {', '.join(known)}")
    except (ElementTree.ParseError, OSError, EOFError, LookupError, ValueError) as error:
        hint = f'; its first element needs xmlns:g="http://{_GOOGLE}/1.0"' if "unbound prefix" in str(error) else ""
        yield SourceRow(file.name, number + 1, reason=f"the file cannot be read from here on: {error}{hint}")


def _fields(element: ElementTree.Element) -> dict[str, Any]:
    """Return the fields of an item: the texts of its parts, a list where a name stands several times.

    A part with parts of its own is a dictionary. Of a name that Google's namespace and another have, Google's counts.
    """
    found: dict[str, list[Any]] = {name: [value] for name, value in element.attrib.items()}
    own = {_name(part) for part in element if _GOOGLE in str(part.tag)}
    for part in element:
        name = _name(part)
        if name in own and _GOOGLE not in str(part.tag):
            continue
        inner = {_name(one): "".join(one.itertext()).strip() for one in part}
        found.setdefault(name, []).append(inner or "".join(part.itertext()).strip())
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


FEED = FileReader("feed", "a product feed in XML: RSS, Atom, or a list of products", (".xml", ".rss"), feed_rows)
