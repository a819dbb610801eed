"""How models of users and items learn to rank: the losses of LightGCN and NGCF, and the batches that go with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.collaborative.base import Recommender, Scorer, Task
from tgqformer.collaborative.data import Ints, Split
from tgqformer.collaborative.sampling import BprSampler, UserSampler

Loss = Literal["bpr", "softmax"]


class RankingSettings(Protocol):
    """What the settings of such a model hold.

    loss: `bpr`, as published, with triples as batches; or `softmax`, with users as batches, in far fewer steps.
    l2: weight of the regulariser: of the rows of a batch (bpr; about 1e-4), or of all users and items (softmax; about
        0.06; a tenth of it learns by heart). The softmax takes an array of batch x items.
    """

    @property
    def loss(self) -> Loss: ...  # noqa: D102
    @property
    def l2(self) -> float: ...  # noqa: D102


class GraphModel(nn.Module, ABC):
    """A model that has one final vector for each user and each item."""

    @abstractmethod
    def final(self) -> tuple[Tensor, Tensor]:
        """Give final vectors of users [U, d] and items [N, d]."""

    @abstractmethod
    def rows(self, users: Tensor, *items: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Give final vectors of users int64 [B] and of items [b] each, and the L2 term of the batch, a scalar."""

    @abstractmethod
    def squares(self) -> Tensor:
        """Give half the squared norm of a learned vector, in the mean over all users and items, a scalar."""


def ranking_task(
    model: GraphModel, settings: RankingSettings, split: Split, *, batch: int, seed: int, distinct: bool = False
) -> Task:
    """Put a model on a split with the loss that its settings name; `distinct`: see `BprSampler`."""

    def by_bpr(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        (of_users, liked, other), squares = model.rows(users, positives, negatives)
        return bpr((of_users * liked).sum(1), (of_users * other).sum(1)) + settings.l2 * squares

    def by_softmax(users: Tensor, place: Tensor, liked: Tensor) -> Tensor:
        of_users, items = model.final()
        return multinomial(of_users[users], items, place, liked) + settings.l2 * model.squares()

    recommender = Recommender(lambda known: dot_scorer(model), lambda: model.final()[1])
    if settings.loss == "bpr":
        triples = BprSampler(split.train, split.items, batch=batch, seed=seed, distinct=distinct)
        return Task(recommender, model, triples.steps, triples.draw, by_bpr)
    whole = UserSampler(split.train, batch=batch, seed=seed)
    return Task(recommender, model, whole.steps, whole.draw, by_softmax)


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Bayesian personalised ranking: the mean of -log sigmoid(positive - negative) of scores [B] (UAI 2009)."""
    return F.softplus(negative - positive).mean()


def multinomial(users: Tensor, items: Tensor, place: Tensor, liked: Tensor) -> Tensor:
    """Cross-entropy of a softmax over all items, in the mean over interactions, a scalar: the multinomial likelihood.

    Liang et al., "Variational autoencoders for collaborative filtering", WWW 2018, arXiv 1802.05814, equation 2.

    Args:
        users: [B, d]. items: [N, d]. place, liked: int64 [n], row of `users` and item of each interaction.
    """
    loss: Tensor = _Multinomial.apply(users, items, place, liked)  # type: ignore[no-untyped-call]
    return loss


class _Multinomial(torch.autograd.Function):
    """The loss and its gradient at once: of [B, N], which is large, there is one array, and it is used in place."""

    @staticmethod
    def forward(context: Any, users: Tensor, items: Tensor, place: Tensor, liked: Tensor) -> Tensor:
        logits = users @ items.T
        flat, entries = logits.view(-1), place * len(items) + liked
        share = 1.0 / len(liked)
        weights = share * torch.bincount(place, minlength=len(users)).to(logits.dtype)
        reached = share * flat[entries].sum()
        highest = logits.amax(1, keepdim=True)
        total = logits.sub_(highest).exp_().sum(1, keepdim=True)
        logits.mul_(weights[:, None] / total)
        flat.index_add_(0, entries, logits.new_full((len(entries),), -share))
        context.save_for_backward(logits @ items, logits.T @ users)
        return (weights * (total.log() + highest)[:, 0]).sum() - reached

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
