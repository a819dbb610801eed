"""An item as a version has it: what its row says, with attributes and pictures of the shelf or the catalogue."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import picture_bytes
from tgqformer.errors import TgqError
from tgqformer.service.served import Served
from tgqformer.service.shelf import Shelf
from tgqformer.store.base import FACTS, UnknownItem


class Items:
    """Looks up items by id; pictures are found by item only, never by a name that a caller gives. Thread-safe."""

    def __init__(self, shelf: Shelf, path: Path | None) -> None:
        self._shelf, self._path, self._lock = shelf, path, threading.Lock()
        self._catalog: tuple[Catalog, dict[str, int]] | None = None
        self._stamp: tuple[int, int] | None = None
        self.refresh()

    def follow(self, path: Path | None) -> None:
        """Read the catalogue of a version that was taken into service, where it has one, from the next `refresh` on."""
        if path is not None and path != self._path:
            self._path, self._stamp = path, None

    @property
    def catalog(self) -> Catalog | None:
        """The catalogue as it is on disk now; None where the service has none."""
        return self._catalog[0] if self._catalog else None

    def refresh(self) -> bool:
        """Open the catalogue again if it was replaced; return whether it was. Blocking.

        Raises: TgqError where it is damaged; the one opened before stays.
        """
        if self._path is None or (seen := _stamp(self._path)) == self._stamp:
            return False
        with self._lock:
            catalog = Catalog.open(self._path)
            self._catalog = catalog, {item_id: at for at, item_id in enumerate(catalog.ids())}
            self._stamp = seen
        return True

    def item(self, served: Served, item_id: str, *, pictures: bool = True) -> Item | None:
        """Return an item as this version has it, or None where it has not. Blocking.

        Title, category, price and stock are those of the row, which others may have written.
        """
        try:
            [row] = served.table.get([item_id])
        except UnknownItem:
            return None
        entry = self._shelf.get(item_id)
        kept = None if entry is None else entry.item
        if entry is None or kept is None or entry.content != row.content:
            kept = self._in_catalog(item_id, pictures=pictures) or kept or Item(item_id)
        return replace(kept, **{name: getattr(row, name) for name in FACTS if name != "look"})

    def picture(self, served: Served, item_id: str) -> bytes | None:
        """Return the encoded bytes of an item's first picture; None where it has none. Blocking.

        Raises: PictureError where its file is gone.
        """
        item = self.item(served, item_id)
        if item is None or not item.pictures:
            return None
        catalog = self.catalog
        return picture_bytes(item.pictures[0], catalog.root if catalog else None)

    def _in_catalog(self, item_id: str, *, pictures: bool) -> Item | None:
        if self._catalog is None:
            return None
        catalog, positions = self._catalog
        if (at := positions.get(item_id)) is None:
            return None
        try:
            [found] = catalog.take_positions([at], pictures=pictures)
        except (TgqError, IndexError):
            if not self._replaced():
                raise
            return None
        return found if found.id == item_id else None  # else it was replaced: the next look takes the new one in

    def _replaced(self) -> bool:
        try:
            return self._path is not None and _stamp(self._path) != self._stamp
        except TgqError:
            return True


def _stamp(path: Path) -> tuple[int, int]:
    try:
        seen = (path / "catalog.json").stat()
    except OSError as error:
        raise TgqError(f"{path} is not a catalogue (it has no catalog.json); give one with --catalog") from error
    return seen.st_mtime_ns, seen.st_ino
