"""Where queries look before they have learned anything: the grid prior and the agreement bias (both ours)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tgqformer.connectors.base import ConnectorInput


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
    edges = torch.arange(cells + 1, dtype=torch.float64) * tokens / cells
    starts = torch.arange(tokens, dtype=torch.float64)
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
        """Give the bias [1, heads, Q, P]."""
        return (self.scale[:, None, None] * self.prior)[None]


class AgreementBias(nn.Module):
    """`β_h · κ · a[p]`: queries look where the picture agrees with the metadata; β is learned per head.

    With `trust` the bias is weighed by `sigmoid(w · s + b)`: an item whose picture and metadata hardly agree (a wrong
    title) is guided less.

    Args:
        heads: number of heads. start: where β starts. trust: whether the guidance depends on the agreement s.
    """

    def __init__(self, heads: int, start: float = 2.0, *, trust: bool = False) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.full((heads,), start))
        self.trust = nn.Linear(1, 1) if trust else None
        if self.trust is not None:
            nn.init.zeros_(self.trust.weight)
            nn.init.constant_(self.trust.bias, 4.0)  # full trust at the start

    def forward(self, agreement_map: Tensor, agreement: Tensor) -> Tensor:
        """Turn κ·a [B, P] and s [B] into a bias [B, heads, 1, P]; κ·a [B, Q, P], by query, into [B, heads, Q, P]."""
        maps = agreement_map[:, None] if agreement_map.ndim == 2 else agreement_map
        if self.trust is not None:
            maps = maps * torch.sigmoid(self.trust(agreement[:, None]))[..., None]
        return self.beta[None, :, None, None] * maps[:, None]


def agreement_bias(module: AgreementBias, inputs: ConnectorInput, maps: Tensor | None = None) -> Tensor:
    """Bias [B, heads, 1, P] of an item's agreement map; zeros without alignment, so that β still gets a gradient.

    maps (Tensor): [B, Q, P], κ·a of each query where they differ; then the bias is [B, heads, Q, P].
    """
    flat = inputs.visual.new_zeros(inputs.visual.shape[:2])
    known = inputs.agreement_map if maps is None else maps
    known = flat if known is None else known
    agreement = flat[:, 0] if inputs.agreement is None else inputs.agreement
    return module(known, agreement)  # type: ignore[no-any-return]


def shared_bias(inputs: ConnectorInput, prior: GridPrior | None, agreement: AgreementBias | None) -> Tensor | None:
    """What is added to the logits of queries that all items share: [1 or B, heads, Q, P], None for nothing."""
    bias: Tensor | None = None if prior is None else prior()
    if agreement is not None:
        guided = agreement_bias(agreement, inputs)
        bias = guided if bias is None else bias + guided
    return bias
