"""The log of a study: parted by time, thinned out, and asked; nothing leaks from what is asked into what is known."""

from __future__ import annotations

import numpy as np
import pytest

from tgqformer.collaborative.blend import BUCKETS
from tgqformer.errors import TgqError
from tgqformer.experiments.study.log import StudyLog, make_log
from tgqformer.experiments.study.settings import ProtocolSettings
from tgqformer.pairs.interactions import Interactions


def drawn(items: int = 60, sessions: int = 600) -> tuple[Interactions, list[str]]:
    """Sessions of four items of one of six groups, one a minute."""
    rng = np.random.default_rng(0)
    picked = [rng.choice(10, 4, replace=False) * 6 + number % 6 for number in range(sessions)]
    names = [f"i{item}" for four in picked for item in four]
    users = [f"u{number}" for number in range(sessions) for _ in range(4)]
    return Interactions.of(users, names, np.repeat(np.arange(sessions) * 60, 4)), [f"i{at}" for at in range(items)]


@pytest.fixture(scope="module")
def log() -> StudyLog:
    return make_log(*drawn(), ProtocolSettings(few=0.3, new=0.2))


def test_buckets_follow_from_the_clicks_of_training(log: StudyLog) -> None:
    assert (log.clicks == np.bincount(log.train.indices, minlength=60)).all()
    assert (log.bucket == np.where(log.clicks == 0, 2, np.where(log.clicks <= 3, 1, 0))).all()
    assert all((log.bucket == code).sum() >= 5 for code in range(3))
    assert set(log.buckets(log.test)) == set(BUCKETS)


def test_training_is_before_what_is_asked(log: StudyLog) -> None:
    latest = max(int(name[1:]) for name in log.users)
    assert latest < 0.7 * 600 + 1
    assert min(np.diff(log.train.indptr)) > 1


def test_items_ask_in_one_part_only(log: StudyLog) -> None:
    assert not set(log.validation.query.tolist()) & set(log.test.query.tolist())


def test_what_is_new_does_not_hang_on_what_else_is_there() -> None:
    interactions, ids = drawn()
    fewer = make_log(interactions, ids[:50], ProtocolSettings(few=0.3, new=0.2))
    whole = make_log(interactions, ids, ProtocolSettings(few=0.3, new=0.2))
    assert not ((whole.bucket == 2)[:50] & (fewer.bucket[:50] != 2)).any()  # fewer items, fewer whole sessions
    assert fewer.fingerprint != whole.fingerprint
    assert whole.fingerprint == make_log(interactions, ids, ProtocolSettings(few=0.3, new=0.2)).fingerprint


def test_pairs_and_split_are_those_of_training(log: StudyLog) -> None:
    pairs, split = log.pairs(), log.split()
    new = {log.ids[at] for at in np.flatnonzero(log.bucket == 2)}
    assert not new & set(pairs.ids())
    assert split.items == 60 and len(split.train.indices) == log.clicks.sum() and not len(split.test.indices)


def test_logs_that_cannot_be_used_are_refused() -> None:
    interactions, ids = drawn()
    with pytest.raises(TgqError, match="no interaction"):
        make_log(interactions, ["x"], ProtocolSettings())
    with pytest.raises(TgqError, match="train on"):
        make_log(interactions, ids, ProtocolSettings(new=0.99, few=0.0))
    at_once = Interactions.of(["a", "a", "b", "b"], ["i1", "i2", "i1", "i2"], np.full(4, 1_700_000_000))
    with pytest.raises(TgqError, match="the same, first time"):
        make_log(at_once, ids, ProtocolSettings())
    lonely = Interactions.of([f"u{n}" for n in range(100)], [f"i{n % 60}" for n in range(100)])
    with pytest.raises(TgqError):
        make_log(lonely, ids, ProtocolSettings())
