"""The contrastive loss, against hand-worked cases."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tgqformer.training.losses import FLOOR, PairLoss

torch.set_num_threads(1)
NONE = torch.zeros(2, 2, dtype=torch.bool)


def test_two_pairs_by_hand():
    """Cosines [[1, 0], [0.6, 0.8]] at temperature 0.5: logits [[2, 0], [1.2, 1.6]]."""
    queries, positives = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
    rows = math.log(1 + math.exp(0 - 2)) + math.log(1 + math.exp(1.2 - 1.6))
    columns = math.log(1 + math.exp(1.2 - 2)) + math.log(1 + math.exp(0 - 1.6))
    assert PairLoss(0.5)(queries, positives, NONE).item() == pytest.approx((rows + columns) / 4, abs=1e-6)


def test_a_false_negative_counts_in_neither_direction():
    queries, positives = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
    masked = torch.tensor([[False, False], [True, False]])  # positive 0 is no negative of query 1
    rows = math.log(1 + math.exp(-2)) + 0
    columns = 0 + math.log(1 + math.exp(-1.6))
    assert PairLoss(0.5)(queries, positives, masked).item() == pytest.approx((rows + columns) / 4, abs=1e-6)


def test_the_own_positive_is_never_masked():
    queries = F.normalize(torch.randn(4, 3), dim=-1)
    loss = PairLoss()
    everything, others = torch.ones(4, 4, dtype=torch.bool), ~torch.eye(4, dtype=torch.bool)
    assert loss(queries, queries, everything).item() == loss(queries, queries, others).item() == 0
    assert loss(queries, queries, torch.zeros(4, 4, dtype=torch.bool)) > 0


def test_a_masked_pair_has_no_gradient_from_the_other():
    queries = torch.tensor([[1.0, 0.0], [0.6, 0.8]], requires_grad=True)
    PairLoss(0.5)(queries, torch.eye(2), torch.tensor([[False, True], [True, False]])).backward()
    assert torch.equal(queries.grad, torch.zeros(2, 2))


def test_the_temperature_is_learned_and_stays_above_its_floor():
    loss = PairLoss(0.05)
    assert loss.temperature.item() == pytest.approx(0.05)
    optimizer = torch.optim.SGD(loss.parameters(), lr=50.0)
    easy = torch.eye(4)
    for _ in range(5):
        optimizer.zero_grad()
        loss(easy, easy * 0.3, torch.zeros(4, 4, dtype=torch.bool)).backward()
        optimizer.step()
        loss.keep_above_floor()
    assert loss.temperature.item() == pytest.approx(FLOOR)
    optimizer.zero_grad()
    loss(easy, -easy, torch.zeros(4, 4, dtype=torch.bool)).backward()  # everything is wrong: warmer is better
    optimizer.step()
    assert loss.temperature.item() > FLOOR * 1.01


def test_a_single_pair_teaches_nothing_but_is_finite():
    one = F.normalize(torch.randn(1, 3), dim=-1)
    assert PairLoss()(one, -one, torch.zeros(1, 1, dtype=torch.bool)).item() == 0
