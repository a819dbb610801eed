"""What an item is: the one data type that every stage shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of an item: where it lies, or its encoded bytes, and a digest of its content.

    `path` is as the catalogue names it (absolute, or relative to the catalogue's picture root); `data` holds the
    encoded bytes of a packed picture; `digest` is 32 hex digits of BLAKE2b over the encoded bytes.
    """

    digest: str
    path: str | None = None
    data: bytes | None = None

    @staticmethod
    def digest_of(data: bytes) -> str:
        """Return the digest of encoded picture bytes."""
        return blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Item:
    """One product of a shop. Everything but the id may be missing; an empty string counts as missing (None)."""

    id: str
    title: str | None = None
    brand: str | None = None
    category: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    price: float | None = None
    pictures: tuple[Picture, ...] = ()
