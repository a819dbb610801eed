"""What the readers of shops' exports share: products of several rows, their stock, their prices, their options."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.offers import day_of
from tgqformer.catalog.readers.base import SourceRow

Fields = Mapping[str, Any]
MAPPING = ColumnMapping(
    id="id",
    title="title",
    brand="brand",
    category=("category",),
    price=("price",),
    attributes=("options",),
    pictures=("pictures",),
    group="group",
    availability="availability",
    sale_price="sale price",
    created="created",
)
"""Of the fields that these readers make."""
NAMES, PARENT, VARIANTS = "(names)", "(parent)", "(variants)"
"""Fields for `families` alone: what variants call a parent; what a variant calls its parent; the options of variants
that a parent lists, by their ids."""
_FROM_PARENT = ("title", "brand", "category", "pictures")


def product(
    row: SourceRow, fields: Fields, fault: str | None = None, notes: Iterable[tuple[str, str]] = ()
) -> SourceRow:
    """Return the row of a product; fault: why it is not for sale, if it is not."""
    found = (*row.notes, *notes, *((("inactive", fault),) if fault is not None else ()))
    return SourceRow(row.file, row.line, fields, notes=found)


def fields_of(row: SourceRow) -> Fields:
    """Return the fields of a row that can be read."""
    return row.fields or {}


def each(values: Iterable[Any]) -> list[str]:
    """Return the filled values, each once."""
    return list(dict.fromkeys(text for value in values if (text := str(value or "").strip())))


def best_stock(found: Iterable[str | None]) -> str | None:
    """Return the stock of a product by that of its variants: what one of them has."""
    there = set(found)
    return next((name for name in ("in_stock", "preorder", "backorder", "out_of_stock") if name in there), None)


def today() -> str:
    """Return the day, in UTC, by which sale prices begin and end: `2026-11-28`."""
    return datetime.now(UTC).date().isoformat()


def holds_today(starts: Any, ends: Any) -> bool:
    """Say whether today lies between two days; one that is empty, or no day, sets no limit."""
    day = today()
    return (day_of(starts)[0] or day) <= day <= (day_of(ends)[0] or day)


def unread_days(sale: Any, *days: Any) -> list[tuple[str, str]]:
    """Return what to say of days that limit a sale price and cannot be read."""
    found = [day_of(day)[1] for day in days] if str(sale or "").strip() else []
    return [("offer", f"{wrong}; the sale price counts without it") for wrong in found if wrong is not None]


def families(read: Callable[[], Iterator[SourceRow]]) -> Iterator[tuple[SourceRow, Fields | None, list[Fields]]]:
    """Stream (row, its parent, its variants): wherever they stand, a parent comes once all of its variants came.

    The source is read twice; what is held of it are parents, and variants of those that wait.
    """
    parents, listed, count = _parents(read())
    waiting, came, again = dict[str, SourceRow](), defaultdict[str, list[Fields]](list), list[SourceRow]()
    for row in read():
        fields = fields_of(row)
        name = next(iter(fields.get(NAMES, ())), None)
        parent = listed.get(str(fields.get("id"))) or fields.get(PARENT)
        known = parents.get(parent) if parent else None
        if known is not None and name is None:
            yield row, known, []
            name = known[NAMES][0]
            came[name].append(fields)
        elif name is None or not count[name]:
            yield row, None, []
            continue
        elif name in waiting:
            again.append(row)
            continue
        else:
            waiting[name] = row
        if name in waiting and len(came[name]) >= count[name]:
            yield waiting.pop(name), None, came.pop(name)
    for name, row in waiting.items():  # of some the export does not hold all variants
        yield row, None, came[name]
    yield from ((row, None, []) for row in again)


def _parents(rows: Iterable[SourceRow]) -> tuple[dict[str, Fields], dict[str, str], Counter[str]]:
    """Return parents by their names, the parents of variants that parents list, and how many each parent has."""
    parents, listed, called = dict[str, Fields](), dict[str, str](), Counter[str]()
    for fields in map(fields_of, rows):
        if fields.get(NAMES):
            if fields[NAMES][0] in parents:  # the first of an id counts
                continue
            parents |= dict.fromkeys(fields[NAMES], fields)
            listed |= dict.fromkeys(fields.get(VARIANTS, ()), fields[NAMES][0])
        elif fields.get(PARENT):
            called[fields[PARENT]] += 1
    count = Counter(listed.values())
    for name, number in called.items():
        if name in parents:
            count[parents[name][NAMES][0]] += number
    return parents, listed, count


def related(rows: Iterable[tuple[SourceRow, Fields | None, list[Fields]]]) -> Iterator[SourceRow]:
    """Stream parents and variants as items of one group, each with what it lacks from the other.

    A parent has the price of the first variant with one, the best stock of all, and all values of their options; a
    variant has the parent's title, brand, category, pictures and options where it has none of its own.
    """
    for row, parent, variants in rows:
        fields = dict(fields_of(row))
        if row.fields is None:
            yield row
            continue
        if parent is not None:
            fields["group"] = parent["id"]
            own = parent.get(VARIANTS, {}).get(fields["id"], {})
            fields["options"] = {**parent["options"], **own, **fields["options"]}
            fields |= {name: parent[name] for name in _FROM_PARENT if not fields[name]}
        elif variants:
            fields |= _from_variants(fields, variants)
        yield SourceRow(row.file, row.line, fields, notes=row.notes)


def _from_variants(fields: Fields, variants: list[Fields]) -> dict[str, Any]:
    priced = next((one for one in [fields, *variants] if str(one["price"] or "").strip()), fields)
    names = dict.fromkeys(name for one in [fields, *variants] for name in one["options"])
    values = {name: each(one["options"].get(name) for one in variants) for name in names}
    return {
        "group": fields["id"],
        "price": priced["price"],
        "sale price": priced["sale price"],
        "availability": best_stock(one["availability"] for one in variants) or fields["availability"],
        "options": {name: "; ".join(found) or fields["options"].get(name) for name, found in values.items()},
        "pictures": fields["pictures"] or each(one["pictures"][0] for one in variants if one["pictures"]),
    }
