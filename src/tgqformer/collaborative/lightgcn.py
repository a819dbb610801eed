"""LightGCN: He, Deng, Wang, Li, Zhang, Wang, "LightGCN: Simplifying and Powering Graph Convolution Network for
Recommendation", SIGIR 2020, arXiv 2002.02126.

A = D^-1/2 R D^-1/2 over users and items; E(k+1) = A E(k); the final vectors are the mean of E(0) … E(K) (equations 3, 4
with α = 1 / (K + 1)); a score is the dot product of user and item. Trained by BPR with L2 on E(0) of the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tgqformer.collaborative.base import Recommender
from tgqformer.collaborative.data import Split
from tgqformer.collaborative.graph import SparseMatrix, bipartite, symmetric_norm
from tgqformer.collaborative.ranking import GraphModel, Loss, ranker
from tgqformer.config import Natural, NaturalFloat, Positive, PositiveFloat, settings
from tgqformer.errors import TgqError
from tgqformer.types import Vectors


@settings
class LightGCNSettings:
    """LightGCN.

    Args:
        dim: width of the vectors. layers: K, how far behaviour spreads.
        spread: standard deviation of the vectors at the start. loss, l2: see `RankingSettings`.
    """

    dim: Positive = 64
    layers: Natural = 3
    l2: NaturalFloat = 1e-4
    spread: PositiveFloat = 0.1
    loss: Loss = "bpr"


class LightGCN(GraphModel):
    """One vector for each user and item, spread over the graph.

    Args:
        adjacency: normalised, [U + N, U + N]. users, items: U, N. dim, layers, spread: see `LightGCNSettings`.
        initial: float32 [N, dim], where the items' vectors start, for example content; None for random ones.
    """

    def __init__(
        self,
        adjacency: SparseMatrix,
        users: int,
        items: int,
        *,
        dim: int,
        layers: int,
        spread: float = 0.1,
        initial: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.adjacency, self.users, self.layers = adjacency, users, layers
        self.table = nn.Parameter(torch.randn(users + items, dim) * spread)
        if initial is not None:
            with torch.no_grad():
                self.table[users:] = initial

    def final(self) -> tuple[Tensor, Tensor]:
        """Return final vectors of users [U, d] and items [N, d]."""
        mean = spread_mean(self.adjacency, self.table, self.layers)
        return mean[: self.users], mean[self.users :]

    def start(self) -> tuple[Tensor, Tensor]:
        """Return E(0), of users [U, dim] and of items [N, dim]."""
        return self.table[: self.users], self.table[self.users :]

    def rows(self, users: Tensor, *items: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return final vectors of users int64 [B] and of items [b] each, and half their start's squared norm over B."""
        nodes = torch.cat([users, *(self.users + some for some in items)])
        unique, place, counts = torch.unique(nodes, return_inverse=True, return_counts=True)
        found: Tensor = _SpreadRows.apply(self.table, self.adjacency, unique, self.layers)  # type: ignore[no-untyped-call]
        squares = (self.table[unique].pow(2).sum(1) * counts).sum() / (2 * len(users))
        return torch.split(found[place], [len(users), *map(len, items)]), squares


def spread_mean(adjacency: SparseMatrix, table: Tensor, layers: int) -> Tensor:
    """Return the mean of A^0 E … A^K E, [n, d], by Horner's rule, so that no layer is kept: E + A (E + A (E + …))."""
    total = table
    for _ in range(layers):
        total = table + adjacency @ total
    return total / (layers + 1)


class _SpreadRows(torch.autograd.Function):
    """Rows of `spread_mean` and their gradient, for a symmetric matrix A.

    The outermost product is needed at the batch's rows only, and so is the innermost one of the gradient, which is the
    same polynomial of A: of the 2 K products of a step two become small. No layer is kept.
    """

    @staticmethod
    def forward(context: Any, table: Tensor, adjacency: SparseMatrix, rows: Tensor, layers: int) -> Tensor:
        few = adjacency.at(rows) if layers else None
        context.adjacency, context.few, context.rows = adjacency, few, rows
        context.layers, context.shape = layers, table.shape
        if few is None:
            return table[rows]
        total = table
        for _ in range(layers - 1):
            total = adjacency.plus(table, total)
        return few.plus(table[rows], total) / (layers + 1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        given = gradients[0] / (context.layers + 1)
        spread = given.new_zeros(context.shape)
        spread[context.rows] = given
        if context.few is None:
            return spread, None, None, None
        total = context.few.transpose().plus(spread, given)
        for _ in range(context.layers - 1):
            total = context.adjacency.plus(spread, total)
        return total, None, None, None


def lightgcn(
    options: LightGCNSettings,
    split: Split,
    *,
    batch: int,
    seed: int,
    device: torch.device,
    features: Vectors | None = None,
) -> Recommender:
    """Put LightGCN on a split; `features` [N, Df], if any, become the items' start, reduced to `dim`."""
    torch.manual_seed(seed)
    adjacency = SparseMatrix.of(symmetric_norm(bipartite(split.train, split.items)), device, symmetric=True)
    dim, spread = options.dim, options.spread
    initial = None if features is None else torch.from_numpy(reduced(features, dim, spread))
    users, items = split.users, split.items
    model = LightGCN(adjacency, users, items, dim=dim, layers=options.layers, spread=spread, initial=initial)
    return ranker(model.to(device), options, split, batch=batch, seed=seed)


def reduced(features: Vectors, dim: int, spread: float) -> Vectors:
    """Reduce content features [N, Df] to [N, dim] by their principal axes, scaled to a standard deviation of `spread`.

    Raises:
        TgqError: where there are fewer columns or items than `dim`.
    """
    if min(features.shape) < dim:
        raise TgqError(
            f"features {list(features.shape)} cannot start vectors of width {dim}; give more, or a lower dim"
        )
    centred = features - features.mean(0, keepdims=True)
    values, axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    scores = centred @ axes[:, np.argsort(values)[::-1][:dim]]
    return np.asarray(scores * (spread / max(float(scores.std()), 1e-12)), dtype=np.float32)
