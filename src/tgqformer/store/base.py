"""The seam of the store: rows, filters, hits, and what a back end must offer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tgqformer.errors import TgqError

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One item in the store. `vector` [d] is float32; the store keeps it L2-normalised."""

    id: str
    vector: Vector
    title: str | None = None
    brand: str | None = None
    category: tuple[str, ...] = ()
    price: float | None = None


@dataclass(frozen=True)
class Hit:
    """One search result. `score` is the cosine with what was searched, 1 at most."""

    id: str
    score: float
    title: str | None = None
    brand: str | None = None
    category: tuple[str, ...] = ()
    price: float | None = None


@dataclass(frozen=True)
class Filter:
    """Which rows may be found; all parts that are given must hold.

    category: any level of the item's category path is one of these.
    brand: the item's brand is one of these.
    min_price, max_price: bounds, both included; an item without a price does not pass.
    """

    category: tuple[str, ...] = ()
    brand: tuple[str, ...] = ()
    min_price: float | None = None
    max_price: float | None = None

    def __post_init__(self) -> None:
        low, high = self.min_price, self.max_price
        if any(price is not None and not np.isfinite(price) for price in (low, high)):
            raise TgqError(f"a price to filter by must be a finite number; got {low} to {high}")
        if low is not None and high is not None and low > high:
            raise TgqError(f"no price lies between {low} and {high}; give the lower one as the minimum")

    def __bool__(self) -> bool:
        return bool(self.category or self.brand) or self.min_price is not None or self.max_price is not None


@dataclass(frozen=True)
class Stats:
    """What a store holds. `indexed` rows are found by the index; the others are searched exactly, beside it."""

    backend: str
    rows: int
    dim: int
    model_version: str
    indexed: int


class Store(Protocol):
    """A searchable table of the items of one model version.

    All rows come from one `model_version`: a new model is built as a new table beside the old one and takes its place
    at once (see `build.py`), so that vectors of two models are never compared.
    """

    dim: int
    model_version: str
    catalog: Path | None

    def upsert(self, rows: Iterable[Row], *, model_version: str) -> None:
        """Add rows, or replace those with the same id; all or nothing, durable when it returns.

        Raises: TgqError for another model version or width, a vector that is not finite, an id that stands twice.
        """
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows; ids that are not there are passed over."""
        ...

    def search(self, vector: Vector, k: int, where: Filter | None = None, *, exact: bool = False) -> list[Hit]:
        """Find the `k` rows nearest to `vector` [d] by cosine among those that pass `where`, best first."""
        ...

    def get(self, ids: Sequence[str]) -> list[Row]:
        """Give the rows with these ids, in this order; raises TgqError for an unknown id, naming the nearest known."""
        ...

    def optimize(self) -> None:
        """Bring the index up to date after many writes; searches are right without it, only slower."""
        ...

    def stats(self) -> Stats:
        """Say what the store holds."""
        ...


def similar(store: Store, item_id: str, k: int, where: Filter | None = None, *, exact: bool = False) -> list[Hit]:
    """Find the `k` items of the store most similar to one of its items, itself left out.

    Raises: TgqError for an unknown id or k < 1.
    """
    if k < 1:
        raise TgqError(f"k is the number of items to find, at least 1; got {k}")
    [row] = store.get([item_id])
    hits = store.search(row.vector, k + 1, where, exact=exact)
    return [hit for hit in hits if hit.id != item_id][:k]


def unknown_item(item_id: str, known: Sequence[str], where: Path | str) -> TgqError:
    """Make the error for an id that is not there; it names the known ids nearest in spelling."""
    near = ", ".join(repr(name) for name in get_close_matches(item_id, known[:200_000], n=3, cutoff=0.5))
    hint = f"nearest known ids: {near}" if near else "check the id"
    return TgqError(f"{where} has no item {item_id!r}; {hint}")
