"""Batches of pairs: groups of one category, a pure function of seed and step."""

from __future__ import annotations

from copy import copy

import numpy as np
from scipy.sparse import csr_array

from tgqformer.errors import TgqError
from tgqformer.types import Bools, Ints, Positions


class PairSampler:
    """Draws batches of training pairs.

    The batch of a step depends on (seed, step) alone, so that a resumed training sees what an unbroken one would have.

    Args:
        a, b: int64 [M], positions of the two items of each pair.
        category: int64 [N], a code of each item's category; a group of a batch shares that of its first items.
        items: N.
        batch, group: pairs a step, pairs of one category in a row.
        seed: of the draws.
    """

    def __init__(
        self, a: Positions, b: Positions, category: Ints, *, items: int, batch: int, group: int, seed: int
    ) -> None:
        if not len(a):
            raise TgqError("there is no training pair; give more sessions, a lower min_support or a larger train share")
        self.a, self.b, self.batch, self.group, self.seed = a, b, batch, group, seed
        order = np.argsort(category[a], kind="stable")
        codes, starts = np.unique(category[a][order], return_index=True)
        self._groups = dict(zip(codes.tolist(), np.split(order, starts[1:]), strict=True))
        self._category = category[a]
        ones = np.ones(2 * len(a), dtype=bool)
        self._known = csr_array((ones, (np.r_[a, b], np.r_[b, a])), shape=(items, items))

    def batch_at(self, step: int) -> tuple[Positions, Positions]:
        """Return (queries, positives) of a step: int64 [batch] each; which of a pair is the query is drawn too."""
        rng = np.random.default_rng([self.seed, step])
        chosen = np.concatenate([self._draw_group(rng) for _ in range(self.batch // self.group)])
        swap = rng.random(len(chosen)) < 0.5
        a, b = self.a[chosen], self.b[chosen]
        return np.where(swap, b, a), np.where(swap, a, b)

    def sized(self, batch: int) -> PairSampler:
        """Return the same pairs in batches of another size."""
        other = copy(self)
        other.batch = batch
        return other

    def false_negatives(self, queries: Positions, positives: Positions) -> Bools:
        """Tell which positives are no negatives of which queries: the query itself and its known positives.

        Returns:
            bool [B, B].
        """
        known = self._known[queries][:, positives].toarray()
        return np.asarray(known | (queries[:, None] == positives[None, :]))

    def _draw_group(self, rng: np.random.Generator) -> Ints:
        """Draw pairs of the category of a random pair; a category with too few is filled up with pairs of any."""
        members = self._groups[int(self._category[rng.integers(len(self.a))])]
        chosen = rng.choice(members, min(self.group, len(members)), replace=False)
        fill = rng.integers(len(self.a), size=self.group - len(chosen))
        return np.concatenate([chosen, fill])
