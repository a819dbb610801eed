"""Product feeds in XML, as Google Merchant Center takes them: RSS (`item`) or Atom (`entry`), with `g:` names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tgqformer.catalog.readers.base import FileReader, SourceRow
from tgqformer.catalog.readers.lines import open_binary

_ITEMS = ("item", "entry", "product", "offer")


def _rows(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream one row an item; the number of a row is its place, from 1. A damaged file ends with a row that says so."""
    number = 0
    try:
        with open_binary(file) as source:
            parser = ElementTree.XMLParser(encoding=encoding)
            for _, element in ElementTree.iterparse(source, ("end",), parser):
                if _name(element) in _ITEMS:
                    number += 1
                    yield SourceRow(file.name, number, _fields(element))
                    element.clear()
    except (ElementTree.ParseError, OSError, EOFError, LookupError, ValueError) as error:
        yield SourceRow(file.name, number + 1, reason=f"the file cannot be read from here on: {error}")


def _fields(element: ElementTree.Element) -> dict[str, Any]:
    """Return the fields of an item: the texts of its parts, a list where a name stands several times."""
    found: dict[str, list[str]] = {}
    for name, value in element.attrib.items():
        found.setdefault(name, []).append(value)
    for part in element:
        found.setdefault(_name(part), []).append("".join(part.itertext()).strip())
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


FEED = FileReader("feed", "a product feed in XML: RSS or Atom, as for Google Merchant Center", (".xml", ".rss"), _rows)
