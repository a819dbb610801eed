"""What the map's page asks of a version: its points, what is at them, where words lead, names and colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tgqformer.service.errors import ApiError
from tgqformer.service.explorer.atlas import Atlas, Map
from tgqformer.service.explorer.overlay import COLOURS, By, Coloured, by_version, labelled
from tgqformer.service.explorer.pictures import Recent
from tgqformer.service.explorer.shop import Data, Shop, card_of
from tgqformer.store.base import Hit, StoreTable

LISTED = 60
"""So many points are listed at once."""
COLOURINGS, FACTS = 12, 2


class Maps:
    """The maps of a shop's versions. Every method blocks; call them from threads."""

    def __init__(self, shop: Shop, atlas: Atlas) -> None:
        self._shop, self._atlas = shop, atlas
        self._coloured: Recent[Data] = Recent(COLOURINGS)
        self._facts: Recent[list[Hit | None]] = Recent(FACTS)

    def state(self, version: str) -> Data:
        """Return how far the map of a version is; where it is ready, the names of its clusters too."""
        table = self._table(version)
        state = self._atlas.state(table)
        if state["state"] != "ready":
            return state
        made = self._atlas.map(table, state["tag"])
        return {**state, **self._coloured.get((made.tag, "labels"), lambda: self._labels(table, made))}

    def of(self, version: str, tag: str) -> Map:
        """Return a version's map; raises Refused while it is not ready, or gone."""
        return self._atlas.map(self._table(version), tag)

    def at(self, version: str, tag: str, places: Sequence[int]) -> Data:
        """Return the items at some points."""
        made = self.of(version, tag)
        if max(places) >= len(made.ids):
            raise ApiError(404, f"the map has {len(made.ids)} points", "load the page again")
        ids = [made.ids[place] for place in places]
        found = self._shop.items(ids)
        return {"items": [card_of(item) for item in found if item is not None]}

    def find(self, version: str, tag: str, words: str) -> Data:
        """Return the points of the items that a search finds, the best first."""
        made, shown = self.of(version, tag), self._shop.shown()
        if shown is None:
            raise ApiError(404, "without a catalogue nothing can be searched", "name one with --catalog")
        ids = shown.browser.ids.take(shown.browser.find(words)).to_pylist()
        return {"places": [made.position[item_id] for item_id in ids if item_id in made.position]}

    def coloured(self, version: str, tag: str, by: By, other: str) -> Data:
        """Return a group for every point, and the names and sizes of the groups."""
        table = self._table(version)
        made = self._atlas.map(table, tag)
        beside = self._table(other) if by == "version" else None
        key = (made.tag, by, beside.version.name if beside is not None else "")
        return self._coloured.get(key, lambda: self._groups(made, by, table, beside))

    def _groups(self, made: Map, by: By, table: StoreTable, beside: StoreTable | None) -> Data:
        if by == "category":
            return _told(Coloured(made.names, made.group.astype(np.int64)))
        if beside is not None:
            return _told(by_version(made.ids, table, beside))
        return _told(COLOURS[by](self._rows(table, made)))

    def _labels(self, table: StoreTable, made: Map) -> Data:
        paths = [() if row is None else tuple(row.category) for row in self._rows(table, made)]
        return {"labels": labelled(made.places, paths)}

    def _rows(self, table: StoreTable, made: Map) -> list[Hit | None]:
        def read() -> list[Hit | None]:
            rows: list[Hit | None] = [None] * len(made.ids)
            for hit in table.facts():
                if (place := made.position.get(hit.id)) is not None:
                    rows[place] = hit
            return rows

        return self._facts.get(made.tag, read)

    def _table(self, version: str) -> StoreTable:
        return self._shop.open(version).table


def _told(found: Coloured) -> dict[str, Any]:
    counts = np.bincount(found.group, minlength=len(found.names)).tolist()
    groups = [{"name": name, "count": count} for name, count in zip(found.names, counts, strict=True)]
    return {"groups": groups, "group": found.group.tolist()}
