"""Where queries look before they have learned anything: the grid prior and the agreement bias (both ours)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tgqformer.connectors.base import ConnectorInput

HIDDEN = -1e9
"""Added to the logit of a token that is not seen."""


def grid_cells(queries: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Split a grid into `queries` cells as square as the grid allows: (rows, columns) with rows · columns = queries.

    Of all factorisations the one whose cells are closest to square; a prime count gives strips.
    """
    height, width = grid
    splits = [(rows, queries // rows) for rows in range(1, queries + 1) if queries % rows == 0]
    return min(splits, key=lambda split: (abs(math.log(height / split[0]) - math.log(width / split[1])), -split[0]))


def grid_prior(queries: int, grid: tuple[int, int], floor: float = 0.05) -> Tensor:
    """Log of the weights with which a pooled grid of `queries` cells takes its tokens.

    A token outside a cell keeps `floor` of the weight of one inside, so that a query can drift.

    Returns:
        [Q, P], each row a log-probability over the P = rows · columns tokens.
    """
    rows, columns = grid_cells(queries, grid)
    inside = _overlap(rows, grid[0])[:, None, :, None] * _overlap(columns, grid[1])[None, :, None, :]
    weights = floor + (1 - floor) * inside.reshape(queries, -1)
    return (weights / weights.sum(-1, keepdim=True)).log()


def _overlap(cells: int, tokens: int) -> Tensor:
    """How much of each token each cell of a line covers: [cells, tokens], between 0 and 1."""
    # On the CPU also where a connector is only checked, on the device "meta": there arange loads much of PyTorch.
    edges = torch.arange(cells + 1, dtype=torch.float64, device="cpu") * tokens / cells
    starts = torch.arange(tokens, dtype=torch.float64, device="cpu")
    covered = torch.minimum(edges[1:, None], starts + 1) - torch.maximum(edges[:-1, None], starts)
    return covered.clamp(0, 1).float()


class GridPrior(nn.Module):
    """Additive attention bias: each query starts as one cell of a pooled grid, with a learned scale per head."""

    prior: Tensor

    def __init__(self, queries: int, grid: tuple[int, int], heads: int) -> None:
        super().__init__()
        self.register_buffer("prior", grid_prior(queries, grid), persistent=False)
        self.scale = nn.Parameter(torch.ones(heads))

    def forward(self) -> Tensor:
        """Return the bias [1, heads, Q, P]."""
        return (self.scale[:, None, None] * self.prior)[None]


class AgreementBias(nn.Module):
    """`β_h · κ · a[p]`: queries look where the picture agrees with the metadata; β is learned per head.

    Args:
        heads: number of heads. start: where β starts.
    """

    def __init__(self, heads: int, start: float = 2.0) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.full((heads,), start))

    def forward(self, inputs: ConnectorInput) -> Tensor:
        """Return the bias [B, heads, 1, P] of the items' κ·a; zeros without alignment, so that β gets a gradient."""
        known = inputs.agreement_map
        maps = inputs.visual.new_zeros(inputs.visual.shape[:2]) if known is None else known
        return self.beta[None, :, None, None] * maps[:, None, None]


def shared_bias(inputs: ConnectorInput, prior: GridPrior | None, agreement: AgreementBias | None) -> Tensor | None:
    """Return what is added to the logits of queries that all items share: [1 or B, heads, Q, P], None for nothing."""
    bias: Tensor | None = None if prior is None else prior()
    if agreement is not None:
        guided: Tensor = agreement(inputs)
        bias = guided if bias is None else repeated(bias, guided.shape[-1]) + guided
    return spread(inputs, bias)


def spread(inputs: ConnectorInput, bias: Tensor | None) -> Tensor | None:
    """Spread a bias [.., P] over the tokens of several pictures [.., M·P], and hide those of no picture."""
    if inputs.visual_mask is None:
        return bias
    hidden = torch.where(inputs.visual_mask, 0.0, HIDDEN)[:, None, None]
    if bias is None:
        return hidden
    return repeated(bias, hidden.shape[-1]) + hidden


def repeated(bias: Tensor, places: int) -> Tensor:
    """Repeat a bias [.., P] for each of several pictures: [.., places], a multiple of P."""
    return bias.repeat(1, 1, 1, places // bias.shape[-1])
