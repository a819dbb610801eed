"""Lists by rules from the table of neighbours: what rules read of the items, kept in memory and as it is now."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import monotonic, sleep

import numpy as np

from tgqformer.errors import TgqError
from tgqformer.store.base import Hit, StoreTable
from tgqformer.store.lists import vectors_of
from tgqformer.store.neighbours import Neighbours
from tgqformer.store.rules import LENGTH, PLAIN, Chosen, Columns, Rules, choose
from tgqformer.types import Bools, Floats, Ints

Whole = Callable[[str], list[tuple[str, float]] | None]
SLICE, PAUSE = 8, 0.001  # lists that are worked out at once, and seconds asleep after them


class RuledLists:
    """Chooses from the neighbours of each item; answers are for the columns as of the last look.

    rules: those that are asked for by default; near-identical pictures are compared only where they want it. An item
    that was written since the last look is `unsure`: a list in which it may stand is searched. The lists of the default
    length by the default rules are worked out beforehand, by `fill`. Looks are counted: a list that was made at an
    earlier look than the last change of an item in it is not right any more, and is made anew when it is asked for. So
    a change costs what was changed, however many lists there are. About 120 bytes an item.
    """

    def __init__(self, neighbours: Neighbours, table: StoreTable, rules: Rules) -> None:
        self._neighbours, self._table = neighbours, table
        self._rules, self._pictured = rules, rules.same_picture_once
        self._vectors = vectors_of(neighbours)
        self._position = {item_id: place for place, item_id in enumerate(neighbours.ids())}
        self._unsure, self._sure = np.zeros(len(neighbours), bool), True
        self._look, self._latest = 1, 0  # number of this look, and of the last that saw a change
        self._changed = np.zeros(len(neighbours), np.int32)  # at which look each item was
        self._made = np.zeros(len(neighbours), np.int32)  # at which look each list was; negative: not full; 0: never
        self._wide = np.zeros(len(neighbours), bool)  # lists of all items: a change of any item may change them
        self._whole = False  # whether such lists can be had
        self._again = deque[int]()  # lists that were asked for and are not right any more
        self._lists = np.empty((len(neighbours), LENGTH), np.int32), np.empty((len(neighbours), LENGTH), np.float32)
        self._columns = self._read()

    def idle(self, rules: Rules) -> bool:
        """Say whether rules can change no list of these items."""
        return rules == PLAIN or (rules == Rules() and not self._columns.grouped)

    @property
    def ready(self) -> float:
        """The share of lists that were looked at beforehand; 1 where they need not be."""
        return 1.0 if self.idle(self._rules) or not len(self._made) else float((self._made != 0).mean())

    def found(self, item_id: str, k: int, rules: Rules) -> tuple[Ints, Floats] | None:
        """Return the places and cosines of a list that is worked out; None where it is not, or not sure any more."""
        at = self._position[item_id]
        if k != LENGTH or rules != self._rules or not (made := self._made[at]):
            return None
        if not self._sure or abs(made) < self._latest:
            places = np.append(self._neighbours.row(item_id)[1], at)
            if self._unsure[places].any() or (self._wide[at] and not self._sure):
                return None
            if self._wide[at] or self._changed[places].max() > abs(made):
                self._made[at] = 0
                self._again.append(at)
                return None
        if made < 0:
            return None
        length = int((self._lists[0][at] >= 0).sum())
        return self._lists[0][at, :length].astype(np.int64), self._lists[1][at, :length]

    def fill(self, stale: Callable[[], Bools], seconds: float, whole: Whole | None = None) -> None:
        """Work out lists for about so long, a few at a time, so that nobody waits for long. Blocking.

        whole: gives lists of all items (id, cosine), for those of whose neighbours too few pass; None where it cannot.
        Call it from the thread that calls `refresh`.
        """
        until = monotonic() + seconds
        if whole is not None and not self._whole:
            self._made[self._made < 0], self._whole = 0, True
        for number, at in enumerate(self._left()):
            if self._whole and not self._sure:
                return
            look, gone = self._look, stale()
            chosen = self.of(self._neighbours.ids()[at], LENGTH, self._rules, gone)
            if chosen is not None and len(chosen.places) == LENGTH:
                self._keep(at, chosen.places, chosen.scores, wide=False)
                self._made[at] = look
            else:
                kept = whole is not None and not gone[at] and self._kept_whole(at, whole)
                self._made[at] = look if kept else -look
            if number % SLICE == SLICE - 1:
                sleep(PAUSE)
                if monotonic() > until:
                    return

    def _kept_whole(self, at: int, whole: Whole) -> bool:
        """Keep the list of an item of all items; say whether that is possible."""
        found = whole(self._neighbours.ids()[at])
        if found is None or any(name not in self._position for name, _ in found):
            return False
        places = np.array([self._position[name] for name, _ in found], np.int64)
        self._keep(at, places, np.array([score for _, score in found], np.float32), wide=True)
        return True

    def _keep(self, at: int, places: Ints, scores: Floats, *, wide: bool) -> None:
        self._lists[0][at] = -1
        self._lists[0][at, : len(places)], self._lists[1][at, : len(places)] = places, scores
        self._wide[at] = wide

    def _left(self) -> Iterator[int]:
        """Yield the places of the lists that are to be worked out: those that were asked for first."""
        if self.idle(self._rules):
            return
        never = iter(np.flatnonzero(self._made == 0).tolist())
        while True:
            if self._again:
                yield self._again.popleft()
            elif (at := next(never, None)) is not None:
                if not self._made[at]:
                    yield at
            else:
                return

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
                self._unsure[at], self._sure = True, False

    def refresh(self, *, everything: bool) -> None:
        """Read the items anew that were written, or all. Blocking."""
        changed = np.flatnonzero(self._unsure)
        if everything or len(changed):
            self._look += 1
        if everything:
            self._columns = self._read()
            self._again.clear()
            self._made[:] = 0
        elif len(changed):
            ids = self._neighbours.ids()
            rows = {hit.id: hit for hit in self._table.facts([ids[place] for place in changed.tolist()])}
            found = [(place, rows[ids[place]]) for place in changed.tolist() if ids[place] in rows]
            self._columns = self._columns.patched(found)
            self._changed[changed], self._latest = self._look, self._look
        self._unsure[changed] = False
        self._sure = not self._unsure.any()  # some may have been written meanwhile

    def _read(self) -> Columns:
        rows: list[Hit | None] = [None] * len(self._position)
        for hit in self._table.facts():
            if (at := self._position.get(hit.id)) is not None:
                rows[at] = hit
        ids = self._neighbours.ids()
        return Columns.of((row or Hit(ids[at], 0.0) for at, row in enumerate(rows)), pictures=self._pictured)
