"""Lists by rules from the table of neighbours: what rules read of the items, kept in memory and as it is now."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tgqformer.errors import TgqError
from tgqformer.store.base import Hit, StoreTable
from tgqformer.store.lists import vectors_of
from tgqformer.store.neighbours import Neighbours
from tgqformer.store.rules import PLAIN, Chosen, Columns, Rules, choose
from tgqformer.types import Bools


class RuledLists:
    """Chooses from the neighbours of each item; answers are for the columns as of the last look.

    rules: those that are asked for by default; near-identical pictures are compared only where they want it. An item
    that was written since the last look is `unsure`: a list in which it may stand is searched. About 40 bytes an item.
    """

    def __init__(self, neighbours: Neighbours, table: StoreTable, rules: Rules) -> None:
        self._neighbours, self._table = neighbours, table
        self._pictured = rules.same_picture_once
        self._vectors = vectors_of(neighbours)
        self._position = {item_id: place for place, item_id in enumerate(neighbours.ids())}
        self._unsure = np.zeros(len(neighbours), bool)
        self._columns = self._read()

    def idle(self, rules: Rules) -> bool:
        """Say whether rules can change no list of these items."""
        return rules == PLAIN or (rules == Rules() and not self._columns.grouped)

    def of(self, item_id: str, k: int, rules: Rules, stale: Bools) -> Chosen | None:
        """Choose the list of an item; None where it must be searched. stale: items [N] that are left out."""
        if (rules.diversity and self._vectors is None) or (rules.same_picture_once and not self._pictured):
            return None
        try:
            at, places, scores = self._neighbours.row(item_id)
        except TgqError:  # removed this moment
            return None
        fresh = ~stale[places]
        places, scores = places[fresh], scores[fresh]
        if self._unsure[at] or self._unsure[places].any():
            return None
        chosen = choose(self._columns, at, places, scores, k, rules, self._vectors)
        return chosen if chosen.enough else None

    def wrote(self, ids: Iterable[str]) -> None:
        """Take in that these items were written; `refresh` looks at them."""
        for item_id in ids:
            if (at := self._position.get(item_id)) is not None:
                self._unsure[at] = True

    def refresh(self, *, everything: bool) -> None:
        """Read the items anew that were written, or all. Blocking."""
        changed = np.flatnonzero(self._unsure)
        if everything:
            self._columns = self._read()
        elif len(changed):
            ids = self._neighbours.ids()
            rows = {hit.id: hit for hit in self._table.facts([ids[place] for place in changed.tolist()])}
            found = [(place, rows[ids[place]]) for place in changed.tolist() if ids[place] in rows]
            self._columns = self._columns.patched(found)
        self._unsure[changed] = False

    def _read(self) -> Columns:
        rows: list[Hit | None] = [None] * len(self._position)
        for hit in self._table.facts():
            if (at := self._position.get(hit.id)) is not None:
                rows[at] = hit
        ids = self._neighbours.ids()
        return Columns.of((row or Hit(ids[at], 0.0) for at, row in enumerate(rows)), pictures=self._pictured)
