"""Best-first lists that are kept right while the pool changes: entries go, better ones come between.

A list [W] is known down to its `bound`, the score of its last entry: whatever it does not hold scores at most that, and
where it scores the same it stands later in the pool. So what is left of a list without some entries, and with all new
ones that score above the bound, is again the best of its pool, only shorter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tgqformer.types import Array, Bools, Floats, Ints


@dataclass(frozen=True)
class KeptLists:
    """n lists, best first: positions and scores [n, W] of which `alive` count; `bound` [n], -inf where all are held."""

    positions: Ints
    scores: Floats
    alive: Bools
    bound: Floats


@dataclass(frozen=True)
class Entries:
    """New entries: the list that each belongs to, its position in the pool and its score [m]; no pair twice."""

    row: Ints
    position: Ints
    score: Floats


def kept_of(positions: Array, scores: Floats, moved: Ints, others: int, *, ordered: bool) -> KeptLists:
    """Take out of lists what is gone; `positions` [n, W] of the old pool, -1 past the end of a list.

    moved: of each old position the new one, -1 for what is gone. others: how many a list of all others has. ordered:
    whether what stays stands in the same order; where it does not, entries that tie with the last one are left out.
    """
    there = positions >= 0
    count = there.sum(1)
    last = np.take_along_axis(scores, np.maximum(count - 1, 0)[:, None], 1)[:, 0] if scores.shape[1] else count
    bound = np.where((count == 0) | (count >= others), -np.inf, last).astype(np.float32)
    places = np.where(there, moved[positions] if len(moved) else -1, -1)
    alive = places >= 0
    if not ordered:
        alive &= scores > bound[:, None]
        value = np.where(alive, scores, -np.inf)
        order = np.lexsort((places, -value), axis=1)
        places, scores, alive = (np.take_along_axis(one, order, 1) for one in (places, scores, alive))
    return KeptLists(places, scores, alive, bound)


def merged(lists: KeptLists, new: Entries, width: int) -> tuple[Ints, Floats, Ints]:
    """Put new entries into lists; return positions and scores [n, width], -1 and -inf past the end, and the lengths.

    Entries that score below the bound are passed over. One that scores just as the bound may stand before entries that
    the list does not hold: all entries of that score are left out then.
    """
    tied = np.zeros(len(lists.bound), bool)
    tied[new.row[np.isfinite(new.score) & (new.score == lists.bound[new.row])]] = True
    alive = lists.alive & ~(tied[:, None] & (lists.scores == lists.bound[:, None]))
    above = np.flatnonzero(new.score > lists.bound[new.row])
    above = above[np.lexsort((new.position[above], -new.score[above], new.row[above]))]
    row, position, score = new.row[above], new.position[above], new.score[above]
    number = np.arange(len(row)) - np.searchsorted(row, row)  # among the new ones of its list
    few = number < width
    row, position, score, number = row[few], position[few], score[few], number[few]
    mine, at = lists.scores[row], score[:, None]
    later = alive[row] & ((mine < at) | ((mine == at) & (lists.positions[row] > position[:, None])))
    place = np.cumsum(alive, 1, dtype=np.int32) - 1
    if len(row):
        first = np.flatnonzero(number == 0)
        place[row[first]] += np.add.reduceat(later, first, axis=0, dtype=np.int32)
    own = number + alive.sum(1)[row] - later.sum(1)
    positions, scores = np.full((len(alive), width), -1), np.full((len(alive), width), -np.inf, np.float32)
    held, column = np.nonzero(alive & (place < width))
    fits = own < width
    positions[held, place[held, column]] = lists.positions[held, column]
    scores[held, place[held, column]] = lists.scores[held, column]
    positions[row[fits], own[fits]], scores[row[fits], own[fits]] = position[fits], score[fits]
    return positions, scores, (positions >= 0).sum(1)
