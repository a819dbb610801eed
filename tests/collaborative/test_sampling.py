from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgqformer.collaborative.data import Split, histories
from tgqformer.collaborative.sampling import BprSampler, Negatives, SequenceSampler, UserSampler, last_items
from tgqformer.errors import TgqError

LISTS = st.lists(st.sets(st.integers(0, 11), max_size=11), min_size=1, max_size=6)


def csr_of(lists: list[set[int]] | list[list[int]]):
    users = [u for u, row in enumerate(lists) for _ in row]
    return histories(np.array(users, np.int64), np.array([i for row in lists for i in row], np.int64), len(lists))


@settings(max_examples=40, deadline=None)
@given(LISTS, st.integers(0, 99))
def test_a_negative_is_never_touched_and_every_other_item_comes(lists: list[set[int]], seed: int) -> None:
    negatives = Negatives(csr_of(lists), 12) if any(lists) else None
    if negatives is None:
        return
    users = np.repeat(np.arange(len(lists))[:, None], 400, axis=1)
    drawn = negatives.draw(users, np.random.default_rng(seed))
    for user, row in enumerate(lists):
        assert set(drawn[user]) == set(range(12)) - row


def test_a_user_of_everything_is_refused() -> None:
    with pytest.raises(TgqError, match="all 3 items"):
        Negatives(csr_of([[0], [0, 1, 2]]), 3)


def test_bpr_draws_touched_and_untouched_items_by_seed_epoch_and_step_alone(split: Split) -> None:
    sampler = BprSampler(split.train, split.items, batch=64, seed=1)
    users, positives, negatives = sampler.draw(2, 5)
    for user, liked, other in zip(users, positives, negatives, strict=True):
        assert liked in split.train.row(user) and other not in split.train.row(user)
    again = BprSampler(split.train, split.items, batch=64, seed=1).draw(2, 5)
    assert all((one == two).all() for one, two in zip((users, positives, negatives), again, strict=True))
    assert not (sampler.draw(2, 6)[0] == users).all() and not (sampler.draw(3, 5)[0] == users).all()
    assert sampler.steps == 1
    assert BprSampler(split.train, split.items, batch=5, seed=1).steps == 4


def test_users_of_a_batch_may_be_distinct(split: Split) -> None:
    users = BprSampler(split.train, split.items, batch=6, seed=1, distinct=True).draw(0, 0)[0]
    assert len(set(users.tolist())) == 6
    assert len(BprSampler(split.train, split.items, batch=20, seed=1, distinct=True).draw(0, 0)[0]) == 20


def test_last_items_are_padded_at_the_left() -> None:
    rows = csr_of([[4, 7, 2], [], [5]])
    assert last_items(rows, np.array([0, 1, 2, 0]), 2).tolist() == [[8, 3], [0, 0], [0, 6], [8, 3]]
    assert last_items(rows, np.array([0]), 4).tolist() == [[0, 5, 8, 3]]


def test_sequences_ask_for_what_came_next() -> None:
    rows = csr_of([[4, 7, 2], [3], [5, 1]])
    sampler = SequenceSampler(rows, 9, batch=40, length=3, seed=0)
    inputs, following, negatives = sampler.draw(0, 0)
    assert {tuple(row) for row in inputs.tolist()} == {(0, 5, 8), (0, 0, 6)}
    for given_, wanted, other in zip(inputs, following, negatives, strict=True):
        assert wanted.tolist() == ([0, 8, 3] if given_[1] else [0, 0, 2])
        touched = {5, 8, 3} if given_[1] else {6, 2}
        assert ((other > 0) == (wanted > 0)).all() and not touched & set(other.tolist())
    assert sampler.steps == 1
    with pytest.raises(TgqError, match="two interactions"):
        SequenceSampler(csr_of([[1], [2]]), 9, batch=2, length=3, seed=0)


def test_users_are_drawn_once_an_epoch_with_all_that_they_touched() -> None:
    rows = csr_of([[3, 1], [], [2], [0, 1, 2]])
    sampler = UserSampler(rows, batch=2, seed=3)
    assert sampler.steps == 2
    drawn = [sampler.draw(1, step) for step in range(2)]
    assert sorted(np.concatenate([users for users, _, _ in drawn])) == [0, 2, 3]
    for users, place, touched in drawn:
        assert [(users[row], item) for row, item in zip(place, touched, strict=True)] == [
            (user, item) for user in users for item in rows.row(user)
        ]
    orders = {tuple(np.concatenate([sampler.draw(epoch, step)[0] for step in range(2)])) for epoch in range(9)}
    assert len(orders) > 1
    for one, other in zip(sampler.draw(1, 0), drawn[0], strict=True):
        np.testing.assert_array_equal(one, other)
