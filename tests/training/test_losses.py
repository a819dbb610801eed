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


def test_pairs_that_do_not_count_are_negatives_only():
    """Logits [[2, 0], [1.2, 1.6]] again; the second pair has no loss of its own, the first still pushes it away."""
    queries, positives = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
    loss = PairLoss(0.5)
    first = math.log(1 + math.exp(0 - 2)) + math.log(1 + math.exp(1.2 - 2))
    found = loss(queries, positives, NONE, counted=torch.tensor([True, False]))
    assert found.item() == pytest.approx(first / 2, abs=1e-6)
    every = loss(queries, positives, NONE, counted=torch.tensor([True, True]))
    assert every.item() == pytest.approx(loss(queries, positives, NONE).item(), abs=1e-6)
    assert loss(queries, positives, NONE, counted=torch.tensor([False, False])).item() == 0


def test_gradients_of_masked_entries_stay_finite():
    queries = F.normalize(torch.randn(3, 4), dim=-1).requires_grad_()
    masked = torch.ones(3, 3, dtype=torch.bool)
    loss = PairLoss()
    loss(queries, queries.detach(), masked).backward()
    assert torch.isfinite(queries.grad).all() and torch.isfinite(loss.log_temperature.grad)


def test_matryoshka_asks_for_the_loss_of_the_first_dimensions_too():
    torch.manual_seed(0)
    queries, positives = (F.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    free = torch.zeros(5, 5, dtype=torch.bool)
    plain = PairLoss(0.1)
    short = plain(F.normalize(queries[:, :3], dim=-1), F.normalize(positives[:, :3], dim=-1), free)
    both = PairLoss(0.1, widths=[3])(queries, positives, free)
    assert both.item() == pytest.approx((plain(queries, positives, free).item() + short.item()) / 2, abs=1e-6)


def test_the_loss_is_in_float32_where_the_model_is_in_bfloat16():
    torch.manual_seed(0)
    queries, positives = (F.normalize(torch.randn(64, 32), dim=-1) for _ in range(2))
    loss, none = PairLoss(0.05), torch.zeros(64, 64, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(queries, positives, none)
    assert found.dtype == torch.float32 and torch.equal(found, loss(queries, positives, none))
