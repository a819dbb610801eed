"""The log of a study: what all systems train on, and the queries, of items with many clicks, with few and with none.

Interactions are split by time: the first for training, the next for validation, the last for the test. Then a share of
the items is made *new* (every training click is taken away) and a share *few* (one to three are left). Which ones
follows from (seed, id) by a stable hash. No query item of the validation is one of the test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from tgqformer.collaborative.blend import BUCKETS, bucket_of
from tgqformer.collaborative.data import Split, histories
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Csr, Queries
from tgqformer.experiments.study.settings import ProtocolSettings
from tgqformer.pairs.interactions import Interactions
from tgqformer.pairs.mining import EVERY_CO_CLICK
from tgqformer.pairs.pairs import Pairs, mine_pairs
from tgqformer.pairs.splits import stable_uniform
from tgqformer.types import Bools, Doubles, Ints


@dataclass(frozen=True)
class StudyLog:
    """What is trained on, and the queries.

    ids: N items of the catalogue, in its order; all places below are places in it.
    train: Csr of U sessions, in the order of time. clicks: int64 [N], in the training log. bucket: int64 [N], places in
    `BUCKETS`. validation, test: queries with their partners in later sessions. users: names of the sessions.
    """

    ids: list[str] = field(repr=False)
    train: Csr = field(repr=False)
    clicks: Ints = field(repr=False)
    bucket: Ints = field(repr=False)
    validation: Queries = field(repr=False)
    test: Queries = field(repr=False)
    users: list[str] = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of what is trained on and of the queries."""
        digest = blake2b("\0".join(self.ids).encode(), digest_size=8)
        for queries in (self.validation, self.test):
            for part in (queries.query, queries.positives.indptr, queries.positives.indices):
                digest.update(np.ascontiguousarray(part, dtype=np.int64).tobytes())
        for part in (self.train.indptr, self.train.indices):
            digest.update(np.ascontiguousarray(part, dtype=np.int64).tobytes())
        return digest.hexdigest()

    def split(self) -> Split:
        """Return the training log as the models of behaviour read it: all N items, nothing held out by user."""
        nothing = histories(np.zeros(0, np.int64), np.zeros(0, np.int64), len(self.train))
        return Split(self.train, nothing, nothing, self.users, self.ids, self.fingerprint)

    def pairs(self) -> Pairs:
        """Return the pairs of the training log, each co-click of a session."""
        names = np.array(self.ids, dtype=object)
        users = np.array(self.users, dtype=object)
        log = Interactions.of(users[self.train.rows()].tolist(), names[self.train.indices].tolist())
        return mine_pairs(log, EVERY_CO_CLICK)

    def buckets(self, queries: Queries) -> dict[str, Ints]:
        """Return, for each bucket that has any, the places of its queries."""
        code = self.bucket[queries.query]
        found = {name: np.flatnonzero(code == at) for at, name in enumerate(BUCKETS)}
        return {name: places for name, places in found.items() if len(places)}


def make_log(interactions: Interactions, ids: list[str], settings: ProtocolSettings) -> StudyLog:
    """Part a log by time, thin it out, and ask.

    Raises:
        TgqError: where the log and the catalogue share no items, or nothing is left to train or to test on.
    """
    log = interactions.within(ids)
    if not len(log):
        raise TgqError("no interaction is with an item of the catalogue; are both of one shop?")
    when = np.arange(len(log)) if log.times is None else log.times
    early, late = np.quantile(when, [1 - settings.valid - settings.test, 1 - settings.test])
    parts = [log.where(when < early), log.where((when >= early) & (when < late)), log.where(when >= late)]
    places = {name: place for place, name in enumerate(ids)}
    if not len(parts[0]):
        raise TgqError("most interactions have the same, first time, so that none come before others; give exact times")
    train, users = _thinned(parts[0], places, settings)
    clicks = np.bincount(train.indices, minlength=len(ids)).astype(np.int64)
    bucket = bucket_of(clicks, settings.few_clicks)
    luck = _luck("asks for validation", settings.seed, ids)
    asks = luck < settings.validation_items
    validation = _asked(parts[1], places, asks, bucket, settings, "validation")
    test = _asked(parts[2], places, ~asks, bucket, settings, "the test")
    return StudyLog(list(ids), train, clicks, bucket, validation, test, users)


def _thinned(log: Interactions, places: dict[str, int], settings: ProtocolSettings) -> tuple[Csr, list[str]]:
    """Take clicks of new and of few items away; sessions of one click say nothing and go too."""
    users, items = coded(log, places)
    luck = _luck("bucket", settings.seed, list(places))
    rng = np.random.default_rng([settings.seed, 1])
    left = np.where(luck < settings.new, 0, np.iinfo(np.int64).max)
    few = (luck >= settings.new) & (luck < settings.new + settings.few)
    left[few] = rng.integers(1, settings.few_clicks + 1, int(few.sum()))
    order = np.lexsort((rng.random(len(items)), items))
    rank = np.empty(len(items), np.int64)
    rank[order] = np.arange(len(items)) - np.searchsorted(items[order], items[order])
    kept = rank < left[items]
    users, items = users[kept], items[kept]
    several = np.bincount(users, minlength=len(log.session_names))[users] > 1
    users, items = users[several], items[several]
    if not len(users):
        raise TgqError("no session with two clicks is left to train on; give a longer log, or fewer new items")
    known, row = np.unique(users, return_inverse=True)
    names = log.session_names.to_pylist()
    return histories(row.astype(np.int64), items, len(known)), [names[at] for at in known.tolist()]


def coded(log: Interactions, places: dict[str, int]) -> tuple[Ints, Ints]:
    """Return users and items (places in the catalogue) of a log in the order of time, each item once in a session."""
    when = np.arange(len(log)) if log.times is None else log.times
    order = np.lexsort((when, log.sessions))
    table = np.array([places.get(name, -1) for name in log.item_names.to_pylist()], dtype=np.int64)
    users, items = log.sessions[order].astype(np.int64), table[log.items[order]]
    _, first = np.unique(users * len(places) + items, return_index=True)
    kept = np.sort(first)
    return users[kept], items[kept]


def _asked(
    log: Interactions,
    places: dict[str, int],
    asks: Bools,
    bucket: Ints,
    settings: ProtocolSettings,
    what: str,
) -> Queries:
    """Make the items of later sessions queries, at most `queries` of each bucket, drawn by seed."""
    mined = mine_pairs(log, EVERY_CO_CLICK)
    if not len(mined):
        raise TgqError(f"no session of {what} holds two items; hold more out")
    whole = Queries.from_pairs(*mined.positions(list(places)).T)
    rng = np.random.default_rng([settings.seed, 2])
    chosen = []
    for code in range(len(BUCKETS)):
        mine = np.flatnonzero(asks[whole.query] & (bucket[whole.query] == code))
        chosen.append(rng.permutation(mine)[: settings.queries])
    if not sum(map(len, chosen)):
        raise TgqError(f"no item asks in {what}; hold more out")
    return whole.at(np.sort(np.concatenate(chosen)))


def _luck(what: str, seed: int, ids: list[str]) -> Doubles:
    return np.array([stable_uniform(what, seed, name) for name in ids])
