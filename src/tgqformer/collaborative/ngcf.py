"""NGCF: Wang, He, Wang, Feng, Chua, "Neural Graph Collaborative Filtering", SIGIR 2019, arXiv 1905.08108.

Layer by layer E(k+1) = LeakyReLU(L E(k) W1 + b1) + LeakyReLU((E(k) ⊙ L E(k)) W2 + b2), as the authors' code has it (the
paper's equation 7 takes one LeakyReLU of the sum), with L = D^-1 (A + I), the code's `norm`. Each layer is dropped out,
L2-normalised, and all layers are laid side by side; a score is the dot product of user and item.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from scipy.sparse import eye_array
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.collaborative.base import Recommender
from tgqformer.collaborative.data import Split
from tgqformer.collaborative.graph import SparseMatrix, bipartite, row_norm
from tgqformer.collaborative.ranking import GraphModel, Loss, ranker
from tgqformer.collaborative.training import Drop
from tgqformer.config import NaturalFloat, Positive, settings


@settings
class NGCFSettings:
    """NGCF.

    Args:
        dim: width of the vectors. widths: of the layers.
        edge_dropout: share of the graph's entries dropped at each step (the authors' `node_dropout`).
        message_dropout: share of each layer's output dropped.
        loss, l2: see `RankingSettings`; l2 is on the final vectors (bpr) or on those before any layer (softmax).
    """

    dim: Positive = 64
    widths: tuple[Positive, ...] = (64, 64, 64)
    l2: NaturalFloat = 1e-5
    edge_dropout: Drop = 0.1
    message_dropout: Drop = 0.1
    loss: Loss = "bpr"


class NGCF(GraphModel):
    """Vectors of users and items, changed layer by layer by their neighbours and by what they share with them.

    Args:
        laplacian: D^-1 (A + I), [U + N, U + N]. users, items: U, N. The others: see `NGCFSettings`.
    """

    def __init__(
        self,
        laplacian: SparseMatrix,
        users: int,
        items: int,
        *,
        dim: int,
        widths: tuple[int, ...],
        edge_dropout: float,
        message_dropout: float,
    ) -> None:
        super().__init__()
        self.laplacian, self.users = laplacian, users
        self.edge_dropout, self.message_dropout = edge_dropout, message_dropout
        self.user_table, self.item_table = (nn.Parameter(torch.empty(n, dim)) for n in (users, items))
        self.sums = nn.ModuleList([nn.Linear(*shape) for shape in pairwise((dim, *widths))])
        self.products = nn.ModuleList([nn.Linear(*shape) for shape in pairwise((dim, *widths))])
        for weight in self.parameters():
            nn.init.xavier_uniform_(weight if weight.ndim > 1 else weight[None])

    def final(self) -> tuple[Tensor, Tensor]:
        """Return final vectors of users [U, d] and items [N, d], d = dim + the sum of widths."""
        drops = self.training and self.edge_dropout > 0
        laplacian = self.laplacian.dropped(self.edge_dropout) if drops else self.laplacian
        layer = torch.cat([self.user_table, self.item_table])
        layers = [layer]
        for of_sum, of_product in zip(self.sums, self.products, strict=True):
            side = laplacian @ layer
            layer = F.leaky_relu(of_sum(side), 0.2) + F.leaky_relu(of_product(layer * side), 0.2)
            layer = F.dropout(layer, self.message_dropout, self.training)
            layers.append(F.normalize(layer, dim=1))
        final = torch.cat(layers, dim=1)
        return final[: self.users], final[self.users :]

    def start(self) -> tuple[Tensor, Tensor]:
        """Return E(0), of users [U, dim] and of items [N, dim]."""
        return self.user_table, self.item_table

    def rows(self, users: Tensor, *items: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return final vectors of users int64 [B] and of items [b] each, and half their squared norm / B."""
        user_table, item_table = self.final()
        found = user_table[users], *(item_table[some] for some in items)
        return found, torch.stack([one.pow(2).sum() for one in found]).sum() / (2 * len(users))


def ngcf(options: NGCFSettings, split: Split, *, batch: int, seed: int, device: torch.device) -> Recommender:
    """Put NGCF on a split."""
    torch.manual_seed(seed)
    adjacency = bipartite(split.train, split.items)
    laplacian = SparseMatrix.of(row_norm(adjacency + eye_array(adjacency.shape[0], format="csr")), device)
    dropped = {"edge_dropout": options.edge_dropout, "message_dropout": options.message_dropout}
    model = NGCF(laplacian, split.users, split.items, dim=options.dim, widths=options.widths, **dropped)
    return ranker(model.to(device), options, split, batch=batch, seed=seed, distinct=True)
