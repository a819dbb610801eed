"""Product feeds in XML: RSS (`item`), Atom (`entry`), or a list of `product`, `offer` (YML) or `SHOPITEM` (Heureka)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tgqformer.catalog.readers.base import FileReader, SourceRow
from tgqformer.catalog.readers.lines import open_binary

_GOOGLE = "base.google.com/ns"
_ITEMS = ("item", "entry", "product", "offer", "shopitem")
_PAIRS = ("param", "parameter", "attribute", "property", "feature")
_ATTRIBUTES = {"group_id": "item_group_id"}
"""What attributes of an offer in YML are called elsewhere: its variants share a `group_id`."""
_Tree = dict[str, tuple[str | None, str]]
"""The parent and the name of each category, by its id, as YML lists them before the offers."""


def feed_rows(file: Path, encoding: str | None = None) -> Iterator[SourceRow]:
    """Stream one row an item; the number of a row is its place, from 1. A damaged file ends with a row that says so."""
    number, around, known = 0, list[ElementTree.Element](), dict[str, None]()
    depth, tree = 0, _Tree()  # depth of the item around, which may hold offers and items of its own
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
                    yield SourceRow(file.name, number, _fields(element, tree))
                    around[-2].remove(element)
                elif not depth and _name(element) == "category" and (known_as := element.get("id")):
                    tree[known_as] = element.get("parentId"), _text(element)
                elif not number and len(known) < 5:
                    known[_name(element)] = None
                around.pop()
        if not number and _name(element).lower() in _ITEMS:  # a file of one product
            yield SourceRow(file.name, 1, _fields(element, tree))
        elif not number:
            yield SourceRow(file.name, 1, reason=f"none of {', '.join(_ITEMS)} is in it, but {', '.join(known)}")
    except (ElementTree.ParseError, OSError, EOFError, LookupError, ValueError) as error:
        hint = f'; its first element needs xmlns:g="http://{_GOOGLE}/1.0"' if "unbound prefix" in str(error) else ""
        yield SourceRow(file.name, number + 1, reason=f"the file cannot be read from here on: {error}{hint}")


def _fields(element: ElementTree.Element, tree: _Tree) -> dict[str, Any]:
    """Return the fields of an item: the texts of its parts, a list where a name stands several times.

    A part with parts of its own is a dictionary; so are all pairs of a name and a value together. Of a name that
    Google's namespace and another have, Google's counts. A category by its id is a path.
    """
    found: dict[str, list[Any]] = {_ATTRIBUTES.get(name, name): [value] for name, value in element.attrib.items()}
    own, pairs = {_name(part) for part in element if _GOOGLE in str(part.tag)}, dict[str, dict[str, str]]()
    for part in element:
        name = _name(part)
        if name in own and _GOOGLE not in str(part.tag):
            continue
        if (pair := _pair(part)) is not None:
            _add(pairs.setdefault(name, {}), *pair)
            continue
        inner: dict[str, str] = {}
        for one in part:
            _add(inner, *(_pair(one) or (_name(one), _text(one))))
        found.setdefault(name, []).append(inner or _text(part))
    for name, several in pairs.items():
        found.setdefault(name, []).append(several)
    fields = {name: values[0] if len(values) == 1 else values for name, values in found.items()}
    if "category" not in fields and (path := _path(fields.get("categoryId"), tree)):
        fields["category"] = path
    return fields


def _pair(part: ElementTree.Element) -> tuple[str, str] | None:
    """Read `<param name="Weight" unit="kg">3</param>`, or `<PARAM><PARAM_NAME>…</PARAM_NAME><VAL>…</VAL></PARAM>`."""
    if _name(part).lower() not in _PAIRS:
        return None
    inner = {_name(one).lower(): _text(one) for one in part}
    name = part.get("name") or inner.get("param_name") or inner.get("name")
    value = (inner.get("val") or inner.get("value")) if inner else _text(part)
    unit = part.get("unit")
    return (name, f"{value} {unit}" if unit else value) if name and value else None


def _add(inner: dict[str, str], name: str, value: str) -> None:
    inner[name] = f"{inner[name]}; {value}" if inner.get(name) and value else inner.get(name) or value


def _path(category: Any, tree: _Tree) -> list[str]:
    """Return the names from the highest category down; none where it is not listed."""
    path, at = dict[str, str](), category if isinstance(category, str) else None
    while at in tree and at not in path:
        path[at] = tree[at][1]
        at = tree[at][0]
    return list(path.values())[::-1]


def _text(element: ElementTree.Element) -> str:
    return "".join(element.itertext()).strip()


def _name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


FEED = FileReader("feed", "a product feed in XML: RSS, Atom, or a list of products", (".xml", ".rss"), feed_rows)
