"""How a log is read, and which of its columns holds what: named by the user, or guessed from usual names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from tgqformer.catalog.shape import plain_name
from tgqformer.config import settings
from tgqformer.errors import TgqError, nearest, option

_SESSION = (
    "session sessionid sessionkey visit visitid user userid customer customerid customerno client clientid reviewerid "
    "visitorid visitor anonymousid userpseudoid fullvisitorid cookieid deviceid orderid ordernumber basketid basket "
    "cartid cart transactionid invoiceno queryid member memberid buyerid shopperid"
)
# Amazon 2023 catalogues are keyed by parent_asin, so it goes before asin.
_ITEM = (
    "item itemid articleid parentasin asin productid sku aid itemsku productsku product article itemcode stockcode "
    "variantid goodsid offerid items itemids productids products skus"
)
_TIME = (
    "time timestamp ts tdat unixreviewtime eventtime eventtimestamp eventdate datetime date createdat occurredat "
    "servertime unixtime orderdate purchasedate invoicedate"
)
GUESSES: dict[str, tuple[str, ...]] = {
    "session": tuple(_SESSION.split()),
    "item": tuple(_ITEM.split()),
    "time": tuple(_TIME.split()),
    "weight": ("weight",),
}
"""Column names that are taken for a field when none is given, first match first, as `plain_name` gives them."""
_EVENTS = ("event", "eventtype", "eventname", "gasessionid")
USUAL = frozenset(name for names in GUESSES.values() for name in names) | set(_EVENTS)
_LIST_NAMES = "items itemids productids products skus asins articleids lineitems itemlist productlist"
_LISTS = frozenset(_LIST_NAMES.split())
_WITHIN_A_USER = {"gasessionid": "userpseudoid"}
"""Session numbers that repeat among users, and the column of the user: both make the key."""


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _split(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


def _choices(value: Any) -> Any:
    """Return {column: values} of words like `event=view,add_to_cart`; a mapping may name one value or several."""
    if isinstance(value, Mapping):
        return {key: _several(one) for key, one in value.items()}
    found = {}
    for word in value if isinstance(value, list | tuple) else [value]:
        column, equals, values = str(word).partition("=")
        if not equals or not values:
            raise ValueError(f"write column=value or column=value,value, for example event=view; not {word!r}")
        found[column] = tuple(part.strip() for part in values.split(","))
    return found


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]


@settings
class LogSettings:
    """How a log of interactions is read. A column inside objects or lists is named by its path: `items.item_id`.

    Args:
        session: columns that make the key of a session, user or order. item: the column with the item; `NAME[]` where a
            cell is a list of items. time, weight: their columns. What is not named is guessed from usual names.
        where: column → values; only rows with one of them count. missing: further words for "not known".
        columns: names of all columns, in order, for a file without a header.
        time_format: see `times.TimeReader`. encoding: of a text file, where it is neither UTF-8 nor UTF-16.
    """

    session: Names = ()
    item: str | None = None
    time: str | None = None
    weight: str | None = None
    where: Annotated[dict[str, tuple[str, ...]], BeforeValidator(_choices)] = field(default_factory=dict)
    missing: Names = ()
    columns: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    time_format: str | None = None
    encoding: str | None = None


def choose_columns(path: Path, names: Sequence[str], log: LogSettings) -> LogSettings:
    """Return the settings of a log with all columns named.

    Args:
        path: the file, for errors. names: its columns, with those inside objects and lists as paths.

    Raises:
        TgqError: for a column that is not there (with the nearest), that stands twice, or that cannot be guessed.
    """
    paths: dict[str, Any] = {need: _path(getattr(log, need)) for need in ("item", "time", "weight")}
    where = {_path(name): values for name, values in log.where.items()}
    log = replace(log, session=tuple(map(_path, log.session)), where=where, **paths)
    asked = [*log.session, *(name for name in (log.item, log.time, log.weight) if name is not None), *log.where]
    for name in asked:
        if name.removesuffix("[]") not in names and name not in names:
            raise TgqError(f"{path} has no column {name!r}; {nearest(name, names, 'it has')}")
    session = log.session or _sessions(names)
    item, time, weight = (getattr(log, need) or _guess(names, need) for need in ("item", "time", "weight"))
    for need, found in (("session", session), ("item", item)):
        if not found:
            some = ", ".join(names[:100]) + (", …" if len(names) > 100 else "")
            raise TgqError(f"{path}: no column looks like the {need}; name it with {option(need)}. It has: {some}")
    if log.time_format is not None and time is None:
        raise TgqError(
            f"{path} has no column of times that {option('time_format')} could be of; name it by {option('time')}"
        )
    for column in (*session, item, time, weight):
        if list(names).count(str(column).removesuffix("[]")) > 1:
            raise TgqError(f"{path} has more than one column {column!r}; give them different names")
    return replace(log, session=session, item=item, time=time, weight=weight)


def is_list(name: str, cells: Sequence[str]) -> bool:
    """Say whether the cells of a column are lists of items, by its name, or by brackets around half of them."""
    if name.endswith("[]") or plain_name(name) in _LISTS:
        return True
    return bool(cells) and 2 * sum(cell.startswith("[") and cell.endswith("]") for cell in cells) > len(cells)


def _path(name: Any) -> Any:
    """Return a path without the brackets that mark lists on the way: `items[].item_id`."""
    return name if name is None else name.replace("[].", ".")


def _sessions(names: Sequence[str]) -> tuple[str, ...]:
    by_name = {plain_name(name.rpartition(".")[2]): name for name in reversed(names)}
    for number, user in _WITHIN_A_USER.items():
        if number in by_name and user in by_name:
            return by_name[user], by_name[number]
    found = _guess(names, "session")
    return (found,) if found is not None else ()


def _guess(names: Sequence[str], need: str) -> str | None:
    """Return the column with the most usual name, one that is not inside an object before one that is."""
    for depth in sorted({name.count(".") for name in names}):
        plain = {plain_name(name.rpartition(".")[2]): name for name in reversed(names) if name.count(".") == depth}
        found = next((plain[usual] for usual in GUESSES[need] if usual in plain), None)
        if found is not None:
            return found
    return None
