"""The seams of the store: versions, rows, filters, hits, and what a store, its tables and a back end must offer.

A *store* holds *versions*: one *table* for each model version, built beside each other. One of them is *served*.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tgqformer.catalog.item import OFFER
from tgqformer.catalog.offers import AVAILABILITY, availability_of
from tgqformer.errors import TgqError, nearest
from tgqformer.store.ledger import Ledger, Version, VersionSpec
from tgqformer.types import Floats


class UnknownItem(TgqError):  # noqa: N818 - a fact, not a fault
    """An id that is not there."""


class UnknownValue(TgqError):  # noqa: N818 - a fact, not a fault
    """A value to filter by that no item has."""


class VersionGone(TgqError):  # noqa: N818
    """The table of a version that was dropped while it was open; refresh the store and ask the served one."""


class Unreachable(TgqError):  # noqa: N818
    """The server of a store does not answer, or cannot do what is asked now."""


class Unwritable(TgqError):  # noqa: N818
    """A store whose disk is full or read-only."""


@dataclass(frozen=True)
class StoreRow:
    """One item in a table. `vector` [d] is float32; the table keeps it L2-normalised, in its own dtype.

    `content` is a digest of what the row was made from (see `content.py`); tables keep it and never look into it.
    `look` is that of the first picture, see `catalog.item.Picture`.
    """

    id: str
    vector: Floats
    title: str | None = None
    brand: str | None = None
    category: tuple[str, ...] = ()
    price: float | None = None
    content: str = ""
    item_group: str | None = None
    availability: str | None = None
    sale_price: float | None = None
    currency: str | None = None
    created: str | None = None
    look: bytes | None = None


@dataclass(frozen=True)
class Hit:
    """One search result. `score` is the cosine with what was searched, 1 at most."""

    id: str
    score: float
    title: str | None = None
    brand: str | None = None
    category: tuple[str, ...] = ()
    price: float | None = None
    item_group: str | None = None
    availability: str | None = None
    sale_price: float | None = None
    currency: str | None = None
    created: str | None = None
    look: bytes | None = field(default=None, compare=False, repr=False)


FACTS = ("title", "brand", "category", "price", *OFFER, "look")
"""What a row says of its item, besides its vector; a hit has the same fields."""


@dataclass(frozen=True)
class Filter:
    """Which rows may be found; all parts that are given must hold.

    category: any level of the item's category path is one of these.
    brand: the item's brand is one of these.
    min_price, max_price: bounds of what is paid now, both included; an item without a price does not pass.
    path: or several levels of the item's category path that follow each other are one of these.
    availability, item_group, currency: the item's is one of these. A stock may be written as a catalogue may write it,
        a currency in small letters.
    in_stock: leave out what is known to be out of stock.

    What a person typed is turned into values that are there by `facets.KnownValues`.
    """

    category: tuple[str, ...] = ()
    brand: tuple[str, ...] = ()
    min_price: float | None = None
    max_price: float | None = None
    path: tuple[tuple[str, ...], ...] = ()
    availability: tuple[str, ...] = ()
    item_group: tuple[str, ...] = ()
    currency: tuple[str, ...] = ()
    in_stock: bool = False

    def __post_init__(self) -> None:
        low, high = self.min_price, self.max_price
        if any(price is not None and not np.isfinite(price) for price in (low, high)):
            raise TgqError(f"a price to filter by must be a finite number; got {low} to {high}")
        if low is not None and high is not None and low > high:
            raise TgqError(f"no price lies between {low} and {high}; give the lower one as the minimum")
        object.__setattr__(self, "availability", tuple(_stock(word) for word in self.availability))
        object.__setattr__(self, "currency", tuple(word.upper() for word in self.currency))

    def __bool__(self) -> bool:
        return self != Filter()


def _stock(word: str) -> str:
    """Return the name of a stock. Raise UnknownValue for what is none."""
    known, _ = availability_of(word)
    if known is None:
        raise UnknownValue(f"there is no availability {word!r}; {nearest(word.lower(), AVAILABILITY)}")
    return known


def fields_of(given: Iterable[str]) -> dict[str, Any]:
    """Read `FIELD=VALUE` words of a command into fields of a `Filter`. Raise TgqError for another field."""
    known, found = ("availability", "item_group", "currency"), dict[str, tuple[str, ...]]()
    for word in given:
        name, equals, value = word.partition("=")
        if name not in known or not value:
            hint = nearest(name, known) if equals else "write FIELD=VALUE, such as availability=in_stock"
            raise TgqError(f"{word!r} is nothing to filter by; {hint}")
        found[name] = (*found.get(name, ()), value)
    return found


@dataclass(frozen=True)
class TableStats:
    """What a table holds. `indexed` rows are found by the index, the others are searched exactly beside it.

    `bytes` is what the vectors, rows and indexes take on disk; None where the back end cannot say.
    `trouble` says why a version cannot be opened; nothing else is known of it then.
    """

    version: Version
    rows: int
    indexed: int
    served: bool = False
    bytes: int | None = None
    trouble: str | None = None


class StoreTable(Protocol):
    """The items of one version. A table stays the table of its version, whatever is served meanwhile.

    All methods may be called from several threads, and while other processes write. Own writes are seen at once,
    those of other processes within about a second. Raises VersionGone once the version was dropped.
    """

    version: Version

    def upsert(self, rows: Iterable[StoreRow], *, model_version: str) -> int:
        """Add rows, or replace those with the same id; all or nothing, durable when it returns. Returns the revision.

        Raises: TgqError for another model version or width, a vector that is not finite, an id that stands twice.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Remove rows, all or nothing, durable when it returns; ids that are not there are passed over."""
        ...

    def get(self, ids: Sequence[str]) -> list[StoreRow]:
        """Return the rows with these ids, in this order; raises UnknownItem for the first that is not there."""
        ...

    def search(self, vector: Floats, k: int, where: Filter | None = None, *, exact: bool = False) -> list[Hit]:
        """Find the `k` rows nearest to `vector` [d] by cosine among those that pass `where`, best first.

        A filter that few rows pass is answered exactly, because an approximate search would lose some of them.
        """
        ...

    def count(self, where: Filter | None = None) -> int:
        """Count the rows that pass."""
        ...

    def values(self) -> tuple[set[tuple[str, ...]], set[str]]:
        """Return the category paths and the brands that its items have; reads two columns of all rows."""
        ...

    def facts(self, ids: Sequence[str] | None = None) -> Iterator[Hit]:
        """Stream what the rows say, without vectors and scores, of all or of those of `ids` that are there."""
        ...

    def rows(self, ids: Sequence[str] | None = None) -> Iterator[StoreRow]:
        """Stream all rows with their vectors, or those of `ids` that are there, in any order."""
        ...

    def contents(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
        """Stream (id, content) of all rows, or of those of `ids` that are there, in any order."""
        ...

    def revision(self) -> int:
        """Return a number that grows whenever rows were written or deleted, by whomever, and perhaps besides; cheap."""
        ...

    def changes(self, since: int) -> list[int]:
        """Return the revisions after `since` that wrote or deleted rows: not those of compacting or indexing.

        Where that is not known any more, they are taken for such.
        """
        ...

    def touched(self, since: int) -> set[str] | None:
        """Return the ids of all rows that were written or deleted after the revision `since`, and perhaps of others.

        It costs what was changed, not what there is. None where that is not known any more, or very much was changed.
        """
        ...

    def optimize(self) -> None:
        """Bring the index up to date after many writes; searches are right without it, only slower."""
        ...

    def stats(self) -> TableStats:
        """Say what the table holds (`served` is left False: the store knows)."""
        ...


class Store(Protocol):
    """Versions of the items' vectors, one of them served.

    What is served is read when the store is opened and by `refresh`; so a reader that opened before a swap goes on
    answering wholly from one version.
    """

    where: str
    backend: str

    @property
    def served(self) -> Version | None:
        """The version that is served; None in a store where nothing was served yet."""
        ...

    def begun(self) -> tuple[str, int]:
        """Say which store this is, and how many versions were ever begun in it; read this moment."""
        ...

    def trouble(self) -> str | None:
        """Say why the store cannot be written: it is gone, or read-only; None where that is not known. Cheap."""
        ...

    def versions(self) -> list[Version]:
        """List the versions that are whole, oldest first."""
        ...

    def unfinished(self) -> list[Version]:
        """List the versions that a job is building, or that a killed one left."""
        ...

    def table(self, version: str | None = None) -> StoreTable:
        """Open the table of a version by its name, by default of the served one; raises TgqError if there is none."""
        ...

    def create(self, spec: VersionSpec, rows: Iterable[StoreRow]) -> Version:
        """Build a version beside the others and index it; it is not served yet. Nothing is left where that fails."""
        ...

    def begin(self, spec: VersionSpec) -> StoreTable:
        """Start a version that no `versions` lists yet, or take up the one that a killed job began with this spec."""
        ...

    def finish(self, name: str) -> Version:
        """Index a version that was begun, and list it."""
        ...

    def admit(self, name: str, model_version: str, model: str | None = None) -> Version:
        """Let a whole version hold vectors of one more model, which is compatible with those before it.

        model: the folder where it lies, if known.
        """
        ...

    def serve(self, name: str) -> Version:
        """Serve a version from now on, at once for all who open or refresh."""
        ...

    def shares(self) -> dict[str, float]:
        """Return the parts of the answers that versions other than the served one give, by name."""
        ...

    def share(self, shares: Mapping[str, float]) -> None:
        """Let whole versions give parts of the answers, the served one the rest, until another one is served.

        Raises: TgqError for a version that is served or not whole, or shares that leave nothing to the served one.
        """
        ...

    def rollback(self) -> Version:
        """Serve the version that was served before this one; raises TgqError where there is none."""
        ...

    def drop(self, name: str) -> None:
        """Remove a version, whole or unfinished, for good; raises TgqError for the served one."""
        ...

    def prune(self, keep: int) -> list[str]:
        """Drop the oldest versions but for `keep`, never the served one nor the one before; give their names."""
        ...

    def refresh(self) -> bool:
        """Look what other processes did; say whether another version is served now. A few milliseconds at most."""
        ...

    def stats(self) -> list[TableStats]:
        """Say what each version holds, oldest first."""
        ...


class Backend(Protocol):
    """What a back end offers to `versions.VersionedStore`: a place for the ledger, and tables by name."""

    name: str
    where: str

    def trouble(self) -> str | None:
        """Say why the store cannot be written; None where that is not known."""
        ...

    def read(self) -> Ledger:
        """Read which versions there are."""
        ...

    def change(self, step: Callable[[Ledger], Ledger]) -> Ledger:
        """Replace the ledger by `step(ledger)`, atomically; `step` is called again where another process came first."""
        ...

    def tables(self) -> set[str]:
        """Name all tables that are there, of whatever became of their versions."""
        ...

    def make(self, version: Version) -> BulkTable:
        """Make an empty table, or open the one that is there."""
        ...

    def open(self, version: Version) -> BulkTable:
        """Open a table; raises VersionGone where there is none."""
        ...

    def drop(self, name: str) -> None:
        """Remove the table of a version, if it is there."""
        ...


class BulkTable(StoreTable, Protocol):
    """A table that takes many new rows at once."""

    def add(self, rows: Iterable[StoreRow]) -> None:
        """Append rows, none of which is there, in large batches."""
        ...


def trouble_of(folder: Path, what: str) -> str | None:
    """Say what is wrong with a folder that is written to; None where it is there and can be written. Microseconds."""
    if not folder.is_dir():
        return f"the folder of {what} is gone"
    return None if os.access(folder, os.W_OK) else f"the folder of {what} is read-only"


def unknown_item(item_id: str, known: Sequence[str], where: Path | str) -> UnknownItem:
    """Make the error for an id that is not there; it names the known id nearest in spelling."""
    hint = nearest(item_id, known[:200_000], "its ids are like", most=3)
    return UnknownItem(f"{where} has no item {item_id!r}; {hint}")
