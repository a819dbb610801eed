"""How models of users and items learn to rank: the losses of LightGCN and NGCF, and the batches that go with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.collaborative.base import Recommender, Scorer
from tgqformer.collaborative.data import Split
from tgqformer.collaborative.sampling import BprSampler, UserSampler
from tgqformer.collaborative.training import EpochObjective
from tgqformer.types import Floats, Ints

Loss = Literal["bpr", "softmax"]


class RankingSettings(Protocol):
    """What the settings of such a model hold.

    loss: `bpr`, as published, with triples as batches; or `softmax`, with users as batches, in far fewer steps.
    l2: weight of the regulariser, half the squared norm of what takes part: of the rows of a batch (bpr; about 1e-4),
        or of the user and the item of each interaction, before any layer (softmax; about 0.05). The softmax takes an
        array of batch x items.
    """

    @property
    def loss(self) -> Loss: ...  # noqa: D102
    @property
    def l2(self) -> float: ...  # noqa: D102


class GraphModel(nn.Module, ABC):
    """A model that has one final vector for each user and each item."""

    @abstractmethod
    def final(self) -> tuple[Tensor, Tensor]:
        """Return final vectors of users [U, d] and items [N, d]."""

    @abstractmethod
    def rows(self, users: Tensor, *items: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return final vectors of users int64 [B] and of items [b] each, and the L2 term of the batch, a scalar."""

    @abstractmethod
    def start(self) -> tuple[Tensor, Tensor]:
        """Return the vectors before any layer, of users [U, dim] and of items [N, dim]."""


def ranker(
    model: GraphModel, settings: RankingSettings, split: Split, *, batch: int, seed: int, distinct: bool = False
) -> Recommender:
    """Put a model on a split with the loss that its settings name; `distinct`: see `BprSampler`."""

    def by_bpr(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        (of_users, liked, other), squares = model.rows(users, positives, negatives)
        return bpr((of_users * liked).sum(1), (of_users * other).sum(1)) + settings.l2 * squares

    def by_softmax(users: Tensor, place: Tensor, liked: Tensor) -> Tensor:
        of_users, items = model.final()
        squares = sum(share @ side.pow(2).sum(1) / 2 for share, side in zip(shares, model.start(), strict=True))
        return softmax_loss(of_users[users], items, place, liked) + settings.l2 * squares

    device = next(model.parameters()).device
    shares = [torch.from_numpy(share).to(device) for share in _shares(split)]
    if settings.loss == "bpr":
        triples = BprSampler(split.train, split.items, batch=batch, seed=seed, distinct=distinct)
        objective = EpochObjective(model, triples.steps, triples.draw, by_bpr, seed=seed)
    else:
        whole = UserSampler(split.train, batch=batch, seed=seed)
        objective = EpochObjective(model, whole.steps, whole.draw, by_softmax, seed=seed)
    return Recommender(lambda known: dot_scorer(model), lambda: model.final()[1], objective=objective)


def _shares(split: Split) -> tuple[Floats, Floats]:
    """Return the share that each user [U] and each item [N] has in the interactions: float32, the sum of each is 1."""
    train = split.train
    counts = np.diff(train.indptr), np.bincount(train.indices, minlength=split.items)
    users, items = ((count / max(1, len(train.indices))).astype(np.float32) for count in counts)
    return users, items


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Bayesian personalised ranking: the mean of -log sigmoid(positive - negative) of scores [B] (UAI 2009)."""
    return F.softplus(negative - positive).mean()


def softmax_loss(users: Tensor, items: Tensor, place: Tensor, liked: Tensor) -> Tensor:
    """Cross-entropy of each interaction among all items that its user did not touch, in the mean, a scalar.

    The sampled softmax (Wu et al., arXiv 2201.02327) with every item as a sample. A user's items are no negatives of
    one another, as they are in the multinomial likelihood (arXiv 1802.05814), where those of a busy user compete.

    Args:
        users: [B, d]. items: [N, d]. place, liked: int64 [n], row of `users` and item of each interaction, each once.
    """
    loss: Tensor = _SoftmaxLoss.apply(users, items, place, liked)  # type: ignore[no-untyped-call]
    return loss


class _SoftmaxLoss(torch.autograd.Function):
    """The loss and its gradient at once: of [B, N], which is large, there is one array, and it is used in place."""

    @staticmethod
    def forward(context: Any, users: Tensor, items: Tensor, place: Tensor, liked: Tensor) -> Tensor:
        logits = users @ items.T
        flat, entries = logits.view(-1), place * len(items) + liked
        reached = flat[entries]
        flat[entries] = -torch.inf
        highest = logits.amax(1, keepdim=True).clamp_min(torch.finfo(logits.dtype).min / 2)  # of who touched all items
        others = logits.sub_(highest).exp_().sum(1).log() + highest[:, 0]
        total, share = torch.logaddexp(reached, others[place]), 1.0 / len(liked)
        weights = logits.new_zeros(len(users)).index_add_(0, place, share * (highest[place, 0] - total).exp())
        logits.mul_(weights[:, None])
        flat[entries] = share * ((reached - total).exp() - 1)
        context.save_for_backward(logits @ items, logits.T @ users)
        return share * (total - reached).sum()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        of_users, of_items = context.saved_tensors
        return of_users * gradients[0], of_items * gradients[0], None, None


def dot_scorer(model: GraphModel) -> Scorer:
    """Score by the dot products of final vectors."""
    users, items = model.final()

    def scores(chosen: Ints) -> Tensor:
        return torch.mm(users[torch.from_numpy(chosen).to(users.device)], items.T)

    return scores
