"""An item as callers send it: a form with text fields and at most one picture, never a URL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import orjson
from fastapi import Depends, File, Form, UploadFile

from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.offers import AVAILABILITY, availability_of, currency_code, day_of
from tgqformer.service.errors import ApiError

MAX_TITLE, MAX_WORD, MAX_LEVELS, MAX_ATTRIBUTES = 2000, 500, 16, 100


@dataclass(frozen=True)
class ItemForm:
    """The parts of an item that a request holds. `item(id)` gives it; `picture` is the upload, not yet read."""

    title: str | None
    brand: str | None
    category: tuple[str, ...]
    attributes: dict[str, str]
    price: float | None
    picture: UploadFile | None
    offer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = (value for value in self.offer.values() if isinstance(value, str))
        for words in (self.title, self.brand, *self.category, *self.attributes, *self.attributes.values(), *texts):
            _check_text(words)

    @property
    def has_text(self) -> bool:
        """Whether there is any metadata that a model may read."""
        return bool(self.title or self.brand or self.category or self.attributes)

    @property
    def has_picture(self) -> bool:
        """Whether a picture was sent; browsers send an empty one where none was chosen."""
        return self.picture is not None and bool(self.picture.size)

    def item(self, item_id: str) -> Item:
        """Return the item without its picture."""
        return Item(item_id, self.title, self.brand, self.category, self.attributes, self.price, **self.offer)

    def require_content(self) -> None:
        """Raise ApiError 422 where there is neither a picture nor text to embed."""
        if not (self.has_text or self.has_picture):
            raise ApiError(422, "there is nothing to embed", "send a picture, or title, brand, category or attributes")

    async def read(self) -> bytes | None:
        """Read the upload; the guard has limited its size."""
        return await self.picture.read() if self.picture is not None and self.has_picture else None


async def _offer(
    item_group: Annotated[str | None, Form(max_length=256, description="Variants share it.", examples=["TEE"])] = None,
    availability: Annotated[str | None, Form(max_length=40, description=", ".join(AVAILABILITY))] = None,
    sale_price: Annotated[float | None, Form(description="Less than the price.", examples=[14.9])] = None,
    currency: Annotated[str | None, Form(max_length=3, description="Of ISO 4217.", examples=["EUR"])] = None,
    created: Annotated[str | None, Form(max_length=40, examples=["2024-02-29"])] = None,
) -> dict[str, Any]:
    offer: dict[str, Any] = {"item_group": item_group or None, "sale_price": _price(sale_price)}
    for name, read, sent in (
        ("availability", availability_of, availability),
        ("currency", currency_code, currency),
        ("created", day_of, created),
    ):
        offer[name], wrong = read(sent)
        if wrong is not None:
            raise ApiError(422, f"{name}: {wrong}", f"check the field {name}")
    return offer


async def _item_form(
    offer: Annotated[dict[str, Any], Depends(_offer)],
    title: Annotated[str | None, Form(max_length=MAX_TITLE, examples=["Red canvas shoe"])] = None,
    brand: Annotated[str | None, Form(max_length=MAX_WORD, examples=["Acme"])] = None,
    category: Annotated[
        list[str] | None,
        Form(description="Category path from the top; repeat the field for each level, or write `A > B`."),
    ] = None,
    attributes: Annotated[
        str | None, Form(max_length=20_000, description="A JSON object of strings.", examples=['{"color": "red"}'])
    ] = None,
    price: Annotated[float | None, Form(description="0 or more.", examples=[19.9])] = None,
    picture: Annotated[
        UploadFile | None, File(description="A picture: JPEG, PNG, WebP, AVIF or GIF. URLs are never fetched.")
    ] = None,
) -> ItemForm:
    price, sale_price = _price(price), offer["sale_price"]
    if sale_price is not None and (price is None or sale_price >= price):
        raise ApiError(422, "a sale price is less than the price", "send both, or the price alone")
    return ItemForm(
        title or None, brand or None, _levels(category or []), _attributes(attributes), price, picture, offer
    )


ItemFields = Annotated[ItemForm, Depends(_item_form)]


def with_picture(item: Item, data: bytes | None, look: bytes | None = None) -> Item:
    """Return the item with its packed picture, and the look of it where that is known."""
    return item if data is None else replace(item, pictures=(Picture(Picture.digest_of(data), None, data, look),))


def _levels(sent: Sequence[str]) -> tuple[str, ...]:
    levels = [level.strip() for one in sent for level in one.split(" > ")]
    kept = tuple(level for level in levels if level)
    if len(kept) > MAX_LEVELS or any(len(level) > MAX_WORD for level in kept):
        raise ApiError(422, f"a category path has at most {MAX_LEVELS} levels of {MAX_WORD} characters", "shorten it")
    return kept


def _attributes(sent: str | None) -> dict[str, str]:
    if not sent:
        return {}
    hint = 'send a JSON object of strings: {"color": "red"}'
    try:
        found = orjson.loads(sent)
    except ValueError as error:
        raise ApiError(422, f"attributes is no JSON ({error})", hint) from error
    if not isinstance(found, dict) or not all(isinstance(value, str | int | float) for value in found.values()):
        raise ApiError(422, "attributes is no JSON object of strings", hint)
    if len(found) > MAX_ATTRIBUTES or any(len(f"{key}{value}") > MAX_WORD for key, value in found.items()):
        raise ApiError(422, f"there are at most {MAX_ATTRIBUTES} attributes of {MAX_WORD} characters", "send fewer")
    return {key: str(value) for key, value in found.items() if key and str(value)}


def _price(sent: float | None) -> float | None:
    if sent is not None and not (math.isfinite(sent) and sent >= 0):
        raise ApiError(422, "a price is a finite number, 0 or more", "check the field price")
    return sent


def _check_text(words: str | None) -> None:
    if words is not None and ("\0" in words or any("\ud800" <= letter <= "\udfff" for letter in words)):
        raise ApiError(422, "a text field holds characters that are no text", "send UTF-8 without NUL characters")
