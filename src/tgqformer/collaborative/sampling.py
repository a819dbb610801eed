"""Draws for training, whole batches at a time: no Python loop over users."""

from __future__ import annotations

import numpy as np

from tgqformer.collaborative.data import take
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Csr
from tgqformer.types import Array, Ints


class Negatives:
    """Draws items that a user did not touch.

    Args:
        rows: Csr of U rows, what each user touched. items: N. names: of the users, for the error.

    Raises:
        TgqError: where a user touched every item, so that there is nothing to draw.
    """

    def __init__(self, rows: Csr, items: int) -> None:
        self.items = items
        self._keys = np.unique(rows.rows() * items + rows.indices)
        degree = np.bincount(self._keys // items, minlength=len(rows))
        if len(degree) and degree.max() >= items:
            raise TgqError(
                f"user {int(degree.argmax())} (in order of first appearance) touched all {items} items: there is no"
                " negative to draw; leave such users out"
            )

    def draw(self, users: Ints, rng: np.random.Generator) -> Ints:
        """Draw for each of `users` [any shape] one item it did not touch, uniformly, by rejection."""
        drawn = rng.integers(self.items, size=users.shape)
        wrong = np.flatnonzero(self.touched(users, drawn))
        flat_users, flat = users.reshape(-1), drawn.reshape(-1)
        while len(wrong):
            flat[wrong] = rng.integers(self.items, size=len(wrong))
            wrong = wrong[self.touched(flat_users[wrong], flat[wrong])]
        return drawn

    def touched(self, users: Ints, items: Ints) -> Array:
        """Tell whether each user touched the item beside it: bool of the same shape."""
        keys = users * self.items + items
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.asarray(self._keys[places] == keys)


class BprSampler:
    """Triples (user, touched item, item not touched) for Bayesian personalised ranking (Rendle et al., UAI 2009).

    Users are drawn uniformly, then one of their items, as the authors of LightGCN and NGCF do.

    Args:
        distinct: draw the users of a batch without replacement (NGCF), where there are enough of them.
    """

    def __init__(self, rows: Csr, items: int, *, batch: int, seed: int, distinct: bool = False) -> None:
        self.rows, self.batch, self.seed, self.distinct = rows, batch, seed, distinct
        self.users = np.flatnonzero(np.diff(rows.indptr))
        self.negatives = Negatives(rows, items)

    @property
    def steps(self) -> int:
        """Batches of an epoch: as many triples as there are interactions."""
        return -(-len(self.rows.indices) // self.batch)

    def draw(self, epoch: int, step: int) -> tuple[Ints, Ints, Ints]:
        """Return users, positives and negatives, int64 [batch] each; a function of (seed, epoch, step) alone."""
        rng = np.random.default_rng([self.seed, epoch, step])
        if self.distinct and self.batch <= len(self.users):
            users = rng.choice(self.users, self.batch, replace=False)
        else:
            users = rng.choice(self.users, self.batch)
        return users, one_of(self.rows, users, rng), self.negatives.draw(users, rng)


class UserSampler:
    """Users with all that they touched, each once an epoch, in an order drawn anew; who touched nothing is left out."""

    def __init__(self, rows: Csr, *, batch: int, seed: int) -> None:
        self.rows, self.batch, self.seed = rows, batch, seed
        self.users = np.flatnonzero(np.diff(rows.indptr))

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.users) // self.batch)

    def draw(self, epoch: int, step: int) -> tuple[Ints, Ints, Ints]:
        """Return users int64 [b], b at most `batch`; of each interaction, its place among them and its item, int64 [n].

        All is a function of (seed, epoch, step) alone.
        """
        order = np.random.default_rng([self.seed, epoch]).permutation(self.users)
        users = np.array_split(order, self.steps)[step]
        place, touched = take(self.rows, users)
        return users, place, touched


class SequenceSampler:
    """Sequences with what came next, and a negative for each place, as SASRec is trained on (Kang and McAuley, 2018).

    Items are counted from 1 here; 0 pads at the left. Users with one interaction have nothing to predict.
    """

    def __init__(self, rows: Csr, items: int, *, batch: int, length: int, seed: int) -> None:
        self.rows, self.batch, self.length, self.seed = rows, batch, length, seed
        self.users = np.flatnonzero(np.diff(rows.indptr) > 1)
        if not len(self.users):
            raise TgqError("no user has two interactions to train on; sequences need at least two")
        self.negatives = Negatives(rows, items)

    @property
    def steps(self) -> int:
        """Batches of an epoch: as many sequences as there are users."""
        return -(-len(self.users) // self.batch)

    def draw(self, epoch: int, step: int) -> tuple[Ints, Ints, Ints]:
        """Return inputs, next items and negatives, int64 [batch, length] each, items from 1, 0 where there is none."""
        rng = np.random.default_rng([self.seed, epoch, step])
        users = rng.choice(self.users, self.batch)
        whole = last_items(self.rows, users, self.length + 1)
        inputs, following = whole[:, :-1], whole[:, 1:]
        negatives = self.negatives.draw(np.repeat(users[:, None], self.length, 1), rng) + 1
        # The last item is never an input that predicts nothing, and what pads predicts nothing either.
        real = (inputs > 0) & (following > 0)
        return inputs, np.where(real, following, 0), np.where(real, negatives, 0)


def one_of(rows: Csr, chosen: Ints, rng: np.random.Generator) -> Ints:
    """Draw one entry of each chosen row, uniformly: int64, shape of `chosen`; no row may be empty."""
    start, stop = rows.indptr[chosen], rows.indptr[chosen + 1]
    return np.asarray(rows.indices[start + np.floor(rng.random(chosen.shape) * (stop - start)).astype(np.int64)])


def last_items(rows: Csr, users: Ints, length: int) -> Ints:
    """Return the last items of users, counted from 1, padded by 0 at the left: int64 [users, length]."""
    places = rows.indptr[users + 1][:, None] - length + np.arange(length)
    there = places >= rows.indptr[users][:, None]
    return np.where(there, rows.indices[np.where(there, places, 0)] + 1, 0) if len(rows.indices) else 0 * places
