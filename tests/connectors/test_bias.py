"""Grid cells, the grid prior and the agreement bias, by cases worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgqformer.connectors import ConnectorInput
from tgqformer.connectors.bias import AgreementBias, GridPrior, grid_cells, grid_prior


@pytest.mark.parametrize(
    ("queries", "grid", "cells"),
    [
        (1, (7, 7), (1, 1)),
        (4, (7, 7), (2, 2)),
        (2, (7, 7), (2, 1)),
        (5, (7, 7), (5, 1)),
        (6, (4, 6), (2, 3)),
        (6, (6, 4), (3, 2)),
        (8, (2, 16), (1, 8)),
        (32, (14, 14), (8, 4)),
    ],
)
def test_cells_are_as_square_as_the_grid_allows(queries: int, grid: tuple[int, int], cells: tuple[int, int]) -> None:
    assert grid_cells(queries, grid) == cells


def test_prior_of_two_rows() -> None:
    inside, outside = 1 / 2.1, 0.05 / 2.1
    expected = torch.tensor([[inside, inside, outside, outside], [outside, outside, inside, inside]])
    torch.testing.assert_close(grid_prior(2, (2, 2)).exp(), expected)


def test_prior_shares_the_token_on_the_border_of_two_cells() -> None:
    expected = torch.tensor([[1, 0.525, 0.05], [0.05, 0.525, 1]]) / 1.575
    torch.testing.assert_close(grid_prior(2, (1, 3)).exp(), expected)


@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_each_row_of_the_prior_is_a_distribution(queries: int, height: int, width: int) -> None:
    rows, columns = grid_cells(queries, (height, width))
    assert rows * columns == queries
    prior = grid_prior(queries, (height, width))
    assert prior.shape == (queries, height * width)
    assert prior.isfinite().all()
    torch.testing.assert_close(prior.exp().sum(-1), torch.ones(queries))


def test_grid_prior_is_scaled_per_head_and_not_saved() -> None:
    bias = GridPrior(2, (2, 2), heads=3)
    bias.scale.data = torch.tensor([1.0, 2.0, 0.0])
    found = bias()
    assert found.shape == (1, 3, 2, 4)
    torch.testing.assert_close(found[0, 1], 2 * grid_prior(2, (2, 2)))
    assert not found[0, 2].any()
    assert set(bias.state_dict()) == {"scale"}


def test_agreement_bias_is_beta_times_agreement() -> None:
    bias = AgreementBias(heads=2, start=2.0)
    bias.beta.data[1] = -1
    none = torch.zeros(1, 0, 1)
    inputs = ConnectorInput(torch.zeros(1, 2, 3), none[..., 0], torch.ones(1).bool(), none, none[..., 0].bool())
    found = bias(replace(inputs, agreement_map=torch.tensor([[0.5, math.pi]])))
    torch.testing.assert_close(found, torch.tensor([[[[1.0, 2 * math.pi]], [[-0.5, -math.pi]]]]))
    assert not bias(inputs).any() and bias(inputs).shape == (1, 2, 1, 2)  # without alignment
