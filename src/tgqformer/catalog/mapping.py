"""Which column of a source means what: given by the user, known by the reader, or guessed from usual names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tgqformer.catalog.shape import plain_name
from tgqformer.errors import TgqError, nearest, option


@dataclass(frozen=True)
class ColumnMapping:
    """The columns that make an item. Several category columns make one path, several picture columns one list.
    Of several price columns the first that is filled counts. A field inside objects is named by its path: `name.en`.
    group, availability, sale_price, currency, created: how an item is sold, see `Item`; never read by a model.

    A column of `attributes` that holds a dictionary gives one attribute for each of its keys.
    `missing` are values that mean "not known" in this source (an empty cell always does).
    """

    id: str
    title: str | None = None
    brand: str | None = None
    category: tuple[str, ...] = ()
    price: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    group: str | None = None
    availability: str | None = None
    sale_price: str | None = None
    currency: str | None = None
    created: str | None = None

    def lines(self) -> list[tuple[str, str]]:
        """Return the mapping as (what, columns) for people."""
        described = {name: _words(value) for name, value in asdict(self).items() if name != "missing"}
        if self.missing:
            described["missing values"] = _words(self.missing)
        return list(described.items())

    def columns(self) -> list[str]:
        """Return every column that is used."""
        single = [name for name in (self.id, self.title, self.brand, *self.offer()) if name is not None]
        return [*single, *self.price, *self.category, *self.pictures, *self.attributes]

    def offer(self) -> list[str]:
        """Return the columns that say how an item is sold, besides its price."""
        return [name for name in (getattr(self, field) for field in _OFFER) if name is not None]


_MANY = ("category", "price", "pictures", "attributes", "missing")
_OFFER = ("group", "availability", "sale_price", "currency", "created")
_FIELDS = ("id", "title", "brand", *_OFFER, *_MANY)
_USUAL = {
    "id": "id itemid productid sku articleid parentasin asin goodsid offerid uniqid code productcode articlecode "
    "gtin ean handle variantid item product",
    "title": "title name productname productdisplayname prodname itemname producttitle displayname articlename",
    "brand": "brand brandname maker manufacturer vendor store",
    "price": "price currentprice regularprice variantprice unitprice retailprice listprice originalprice msrp pricevat",
    "sale_price": "saleprice specialprice discountedprice discountprice offerprice reducedprice",
    "group": "itemgroupid itemgroup variantgroup parentsku parentproductid productgroupid configurablesku",
    "availability": "availability stockstatus instock isinstock available stock stockquantity inventoryquantity "
    "variantinventoryqty stocklevel inventory qty quantity",
    "currency": "currency currencycode pricecurrency currencyid",
    "created": "created createdat createddate datecreated dateadded addedat publishedat publicationdate",
    "category": "category categories categorypath categorytree productcategory googleproductcategory producttype "
    "categorytext",
    "levels": "gendercategory mastercategory maincategory category1 category subcategory category2 category3",
    "pictures": "picture pictures image images photo photos img picturepath imagepath imagefile imageurl imageurls "
    "imagesrc imagelink imglink imgurl imagebytes mainimage additionalimagelink imgurlalternative filename file "
    "path",
    "attributes": "attributes details specs specifications properties param params parameters color colour basecolour "
    "basecolor size gender material season year usage style pattern fit agegroup articletype",
}
USUAL_NAMES = frozenset(name for names in _USUAL.values() for name in names.split())
"""All usual names of columns, as `readers.shape.plain_name` gives them."""
_SOLD = frozenset(name for field in ("price", *_OFFER) for name in _USUAL[field].split())
_SOLD_KEYS = _SOLD - {"quantity", "qty", "available"} | {"quantityandstockstatus", "stocklevels"}
"""A quantity may be that of a pack."""


def is_sold(name: str) -> bool:
    """Say whether an attribute says how an item is sold, by its name: no model reads what changes from day to day."""
    return plain_name(name) in _SOLD_KEYS


def plan_mapping(
    columns: Sequence[str],
    known: ColumnMapping | None,
    named: Mapping[str, str | Sequence[str]] | None,
    filled: Mapping[str, float] | None = None,
) -> ColumnMapping:
    """Put together what the user named, what the reader knows (`known`) and what usual names tell, in this order.

    filled: the share of filled cells of every column, and of every path into objects; a column that is mostly empty is
    never preferred to a full one.

    Raise TgqError for a column that is not there (with the nearest names) and where nothing looks like an id.
    """
    given = _given(named or {})
    for name in [column for key, value in given.items() if key != "missing" for column in _as_tuple(value)]:
        if name not in columns and name not in (filled or {}):
            raise _no_column(name, columns)
    base = known if known is not None else _guess(columns, given, filled or {})
    planned = replace(base, **given)
    sold = {*planned.price, *planned.offer()}  # these change from day to day: no model reads them
    return replace(planned, attributes=tuple(name for name in planned.attributes if name not in sold))


def _given(named: Mapping[str, str | Sequence[str]]) -> dict[str, Any]:
    unknown = [name for name in named if name not in _FIELDS]
    if unknown:
        raise TgqError(f"a column mapping has no field {unknown[0]!r}; {nearest(unknown[0], _FIELDS, 'it has')}")
    used = {name: value for name, value in named.items() if value or (name == "pictures" and value is not None)}
    for name, value in used.items():
        if name not in _MANY and not isinstance(value, str):
            raise TgqError(f"{name!r} is one column, not {len(value)}: {_words(tuple(value))}")
    return {name: _as_tuple(value) if name in _MANY else value for name, value in used.items()}


def _guess(columns: Sequence[str], given: Mapping[str, Any], filled: Mapping[str, float]) -> ColumnMapping:
    taken = {c for field, v in given.items() if field != "attributes" for c in _as_tuple(v)}
    asked = {plain_name(name) for name in _as_tuple(given.get("attributes", ()))} - _SOLD
    free = [name for name in columns if name not in taken and plain_name(name) not in asked]
    plain: dict[str, str] = {}
    for name in free:
        plain.setdefault(plain_name(name), name)
    for name in free:  # "Price (EUR)", "title, short"
        plain.setdefault(plain_name(re.split(r"[,(\[]", name)[0]), name)
    found = given.get("id") or _fullest(_all(plain, "id"), filled)
    if found is None:
        raise TgqError(
            f"no column looks like an id; name it with {option('id')}. The columns are: {_words(tuple(columns))}"
        )
    levels = _all(plain, "levels")
    price, reduced = _all(plain, "price"), _all(plain, "sale_price")
    offer: dict[str, Any] = {field: _fullest(_all(plain, field), filled) for field in _OFFER}
    if not price and not given.get("price"):
        price, offer["sale_price"] = reduced, None
    return ColumnMapping(
        id=found,
        title=_fullest(_all(plain, "title"), filled),
        brand=_fullest(_all(plain, "brand"), filled),
        price=_until_full(price, filled),
        category=tuple(levels) if len(levels) > 1 else tuple(_all(plain, "category")[:1] or levels),
        pictures=tuple(_all(plain, "pictures") + _numbered(free)),
        attributes=tuple(_all(plain, "attributes")),
        **offer,
    )


def _fullest(names: Sequence[str], filled: Mapping[str, float]) -> str | None:
    """Return the first name whose column is filled in half of the rows or more, else the one that is filled most."""
    half = next((name for name in names if filled.get(name, 1.0) >= 0.5), None)
    return half or max(names, key=lambda name: filled.get(name, 1.0), default=None)


def _until_full(names: Sequence[str], filled: Mapping[str, float]) -> tuple[str, ...]:
    """Return the names up to the first whose column is filled in nearly all rows."""
    full = next((place for place, name in enumerate(names) if filled.get(name, 1.0) >= 0.95), len(names))
    return tuple(name for name in names[: full + 1] if filled.get(name, 1.0) > 0)


def _all(plain: Mapping[str, str], field: str) -> list[str]:
    return [plain[name] for name in _USUAL[field].split() if name in plain]


def _numbered(columns: Sequence[str]) -> list[str]:
    """Return columns like image1, image_2, photo 3 in their order."""
    return [name for name in columns if re.fullmatch(r"(?i)(image|picture|photo|img)(url|path|link)?[ _-]?\d+", name)]


def _as_tuple(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _no_column(name: str, columns: Sequence[str]) -> TgqError:
    return TgqError(f"the source has no column {name!r}; {nearest(name, columns, 'it has')}")


def _words(value: str | Sequence[str] | None) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    return ", ".join(value) or "-"
