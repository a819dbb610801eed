"""What an item is: the one data type that every stage shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of an item: where it lies, or its encoded bytes, and a digest of its content.

    `path` is as the catalogue names it (absolute, or relative to the catalogue's picture root); `data` holds the
    encoded bytes of a packed picture; `digest` is 32 hex digits of BLAKE2b over the encoded bytes. `look`, where it is
    known, is the picture at 8 x 8 pixels, 192 bytes of RGB: near-identical pictures have nearly the same.
    """

    digest: str
    path: str | None = None
    data: bytes | None = None
    look: bytes | None = field(default=None, compare=False, repr=False)

    @staticmethod
    def digest_of(data: bytes) -> str:
        """Return the digest of encoded picture bytes."""
        return blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Item:
    """One product of a shop. Everything but the id may be missing; an empty string counts as missing (None).

    A model may read title, brand, category, attributes and the first picture. The rest is stored and filtered by, and
    never read by a model: `price` (the regular one), `sale_price` (only where it is lower), `currency` (ISO 4217),
    `availability` (one of `offers.AVAILABILITY`), `item_group` (variants of one product share it), `created` (a day,
    2024-02-29).

    `picture` is one more picture, put before `pictures`: a file, the bytes of one, or a Pillow image. Raise TgqError
    where there is no such file.
    """

    id: str = ""
    title: str | None = None
    brand: str | None = None
    category: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    price: float | None = None
    pictures: tuple[Picture, ...] = ()
    item_group: str | None = None
    availability: str | None = None
    sale_price: float | None = None
    currency: str | None = None
    created: str | None = None
    picture: InitVar[str | Path | bytes | Image | None] = None

    def __post_init__(self, picture: str | Path | bytes | Image | None) -> None:
        if picture is not None:
            from tgqformer.catalog.pictures import picture_of

            object.__setattr__(self, "pictures", (picture_of(picture), *self.pictures))


OFFER = ("item_group", "availability", "sale_price", "currency", "created")
"""The fields of an item that say how it is sold, besides its price."""
