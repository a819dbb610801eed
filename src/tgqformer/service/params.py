"""What callers may send in the path and the query: checked, with words that tell what to do.

Dependencies are coroutines: FastAPI would call plain functions in a thread, which costs more than an answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.params import Form
from fastapi.routing import APIRoute

from tgqformer.catalog.checks import identify
from tgqformer.catalog.offers import AVAILABILITY
from tgqformer.errors import TgqError, nearest
from tgqformer.service.errors import ApiError, Refused
from tgqformer.store.base import Filter, UnknownValue
from tgqformer.store.rules import Rules

MAX_ID, MAX_COUNT, DEFAULT_COUNT = 512, 500, 10
Word = Annotated[str, Query(max_length=200)]
Words = Annotated[list[Word] | None, Query(max_length=50)]
Price = Annotated[float | None, Query(allow_inf_nan=False)]


def checked_id(quoted: str) -> str:
    """Return the id that a path segment means; it arrives percent-encoded, so that an id may hold a slash.

    Raises: ApiError 422 for what cannot be an id.
    """
    try:
        item_id = unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError as error:
        raise ApiError(422, "the item id is not UTF-8", "percent-encode the UTF-8 bytes of the id") from error
    if not 0 < len(item_id) <= MAX_ID or any(ord(letter) < 32 or ord(letter) == 127 for letter in item_id):
        raise ApiError(
            422, f"an item id has 1 to {MAX_ID} characters and no control characters", "check the id in the path"
        )
    return item_id


def check_new(item_id: str) -> None:
    """Refuse the id of an item that an import would read as another, or as none: clicks on the item would be lost.

    Raises: ApiError 422.
    """
    read, _ = identify(item_id)
    if read != item_id:
        raise ApiError(
            422,
            f"an import reads the id {item_id!r} as {'none' if read is None else repr(read)}",
            "give the item an id that stays as it is, without spaces around it",
        )


async def _item_id(
    item_id: Annotated[str, Path(description="Id of the item, percent-encoded.", examples=["studio-00042"])],
) -> str:
    return checked_id(item_id)


ItemId = Annotated[str, Depends(_item_id)]


async def _where(
    category: Annotated[Words, Query(description="Only items in this category, or below a path A > B; repeat.")] = None,
    brand: Annotated[Words, Query(description="Only items of this brand; repeat for or.")] = None,
    min_price: Annotated[Price, Query(description="Only items that cost at least this.")] = None,
    max_price: Annotated[Price, Query(description="Only items that cost at most this.")] = None,
    availability: Annotated[Words, Query(description=f"Only items of this: {', '.join(AVAILABILITY)}.")] = None,
    item_group: Annotated[Words, Query(description="Only variants of this product; repeat for or.")] = None,
    currency: Annotated[Words, Query(description="Only items with a price in this currency.")] = None,
) -> Filter:
    kinds, brands, stock, groups, money = (
        tuple(words or ()) for words in (category, brand, availability, item_group, currency)
    )
    try:
        return Filter(kinds, brands, min_price, max_price, availability=stock, item_group=groups, currency=money)
    except UnknownValue:
        raise
    except TgqError as error:
        raise Refused(str(error)) from error


RULES = tuple(one.name for one in fields(Rules))


async def _rules(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _declared(name: str, kind: Any) -> inspect.Parameter:
    words = "Rule of the list, in place of the recipe's; see docs/store.md."
    many = name == "exclude"
    asked, default = (list[str] | None if many else kind | None), Query(None, description=words)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=asked)


_HINTS = get_type_hints(Rules, include_extras=True)
_rules.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [_declared(name, _HINTS[name]) for name in RULES]
)
Given = Annotated[dict[str, Any], Depends(_rules)]
"""Rules that a request sets anew, by name."""
Where = Annotated[Filter, Depends(_where)]
Count = Annotated[int, Query(ge=1, le=MAX_COUNT, description="How many items to find.")]
Metadata = Annotated[bool, Query(description="Also give title, brand, category and price of each item.")]
Visitor = Annotated[
    str | None, Query(max_length=200, description="Who asks: in an A/B test, always answered by the same version.")
]


FORMS, JSON = ("multipart/form-data", "application/x-www-form-urlencoded"), ("application/json",)
_HOW = {FORMS: "send a form, as `curl -F 'title=Red shoe'` does", JSON: f"send JSON with Content-Type: {JSON[0]}"}


@dataclass(frozen=True)
class _Takes:
    """What a route takes: names, and whether several values of each; the kinds of body."""

    query: Mapping[str, bool]
    form: Mapping[str, bool]
    kinds: tuple[str, ...]


class Taken:
    """What each route of a router takes: all else in a query or a form is refused, and so is one value given twice.

    So is a body of another kind, which would be passed over.
    """

    def __init__(self) -> None:
        self._of: dict[Callable[..., Any], _Takes] = {}

    def learn(self, router: APIRouter) -> None:
        """Read the declarations of all routes, once they are there."""
        for route in router.routes:
            if isinstance(route, APIRoute) and "health" not in route.tags:  # load balancers add what they like
                query, body = (list(_declared_by(route.dependant, kind)) for kind in ("query_params", "body_params"))
                form = [one for one in body if isinstance(one.field_info, Form)]
                kinds = FORMS if form else JSON if body else ()
                self._of[route.endpoint] = _Takes(_names(query), _names(form), kinds)

    async def check(self, request: Request) -> None:
        """Raise ApiError 422, with the nearest name, for what the route does not take."""
        takes = self._of.get(request.scope["endpoint"])
        if takes is None:
            return
        _check(request.query_params.multi_items(), takes.query, "parameter")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if takes.kinds and kind and kind not in takes.kinds:
            raise ApiError(422, f"a body of {kind[:80]!r} is not read here", _HOW[takes.kinds])
        if takes.form:
            _check((await request.form()).multi_items(), takes.form, "field")


def _declared_by(dependant: Dependant, kind: str) -> Iterator[Any]:
    """Return what a route declares, itself and by its dependencies."""
    yield from getattr(dependant, kind)
    for inner in dependant.dependencies:
        yield from _declared_by(inner, kind)


def _names(declared: Iterable[Any]) -> dict[str, bool]:
    """Return the names of what is declared, and whether it takes several values."""
    return {one.alias: "list[" in str(one.field_info.annotation) for one in declared}


def _check(sent: Iterable[tuple[str, Any]], known: Mapping[str, bool], what: str) -> None:
    names = [name for name, _ in sent]
    for place, name in enumerate(names):
        if name not in known:
            hint = nearest(name, known, "there are") if known else "this route takes none"
            raise ApiError(422, f"there is no {what} {name[:80]!r}", hint)
        if name in names[:place] and not known[name]:
            raise ApiError(422, f"the {what} {name!r} is given twice", "give one value")
