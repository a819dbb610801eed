"""How models of users and items learn to rank: the losses of LightGCN and NGCF, and the batches that go with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.collaborative.base import Recommender, Scorer, Task
from tgqformer.collaborative.data import Ints, Split
from tgqformer.collaborative.sampling import BprSampler, SharedSampler

Loss = Literal["bpr", "softmax"]


class RankingSettings(Protocol):
    """What the settings of such a model hold.

    loss: `bpr`, as published, or `softmax`, which comes to the published figures in far fewer steps.
    l2: weight of the regulariser. temperature, negatives: of the softmax; so many negatives are shared by a batch.
    """

    @property
    def loss(self) -> Loss: ...  # noqa: D102
    @property
    def l2(self) -> float: ...  # noqa: D102
    @property
    def temperature(self) -> float: ...  # noqa: D102
    @property
    def negatives(self) -> int: ...  # noqa: D102


class GraphModel(nn.Module, ABC):
    """A model that has one final vector for each user and each item."""

    @abstractmethod
    def final(self) -> tuple[Tensor, Tensor]:
        """Give final vectors of users [U, d] and items [N, d]."""

    @abstractmethod
    def rows(self, users: Tensor, *items: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Give final vectors of users int64 [B] and of items [b] each, and the L2 term of the batch, a scalar."""


def check_softmax(settings: RankingSettings) -> None:
    """Refuse what no softmax can be made of.

    Raises:
        ValueError: for a temperature that is not above 0, or no negative.
    """
    if not 0 < settings.temperature < float("inf") or settings.negatives < 1:
        raise ValueError(f"the softmax takes temperature > 0 and negatives >= 1; found {settings}")


def ranking_task(
    model: GraphModel, settings: RankingSettings, split: Split, *, batch: int, seed: int, distinct: bool = False
) -> Task:
    """Put a model on a split with the loss that its settings name; `distinct`: see `BprSampler`."""

    def by_bpr(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        (of_users, liked, other), squares = model.rows(users, positives, negatives)
        return bpr((of_users * liked).sum(1), (of_users * other).sum(1)) + settings.l2 * squares

    def by_softmax(users: Tensor, positives: Tensor, negatives: Tensor, wrong: Tensor) -> Tensor:
        (of_users, liked, others), squares = model.rows(users, positives, negatives)
        return sampled_softmax(of_users, liked, others, wrong, settings.temperature) + settings.l2 * squares

    recommender = Recommender(lambda known: dot_scorer(model), lambda: model.final()[1])
    if settings.loss == "bpr":
        triples = BprSampler(split.train, split.items, batch=batch, seed=seed, distinct=distinct)
        return Task(recommender, model, triples.steps, triples.draw, by_bpr)
    shared = SharedSampler(split.train, split.items, batch=batch, negatives=settings.negatives, seed=seed)
    return Task(recommender, model, shared.steps, shared.draw, by_softmax)


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Bayesian personalised ranking: the mean of -log sigmoid(positive - negative) of scores [B] (UAI 2009)."""
    return F.softplus(negative - positive).mean()


def sampled_softmax(users: Tensor, positives: Tensor, negatives: Tensor, wrong: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each user's item among negatives that the batch shares, by cosine / temperature: a scalar.

    Wu et al., "On the effectiveness of sampled softmax loss for item recommendation", TOIS 2024, arXiv 2201.02327.

    Args:
        users, positives: [B, d]. negatives: [M, d]. wrong: int64, places in [B x M] that are no negatives of that user.
    """
    users, positives, negatives = (F.normalize(rows, dim=1) for rows in (users, positives, negatives))
    users = users / temperature
    liked, others = (users * positives).sum(1), users @ negatives.T
    others.view(-1).index_fill_(0, wrong, -torch.inf)  # in place: the greatest array of a step is not copied
    return (torch.logaddexp(others.logsumexp(1), liked) - liked).mean()


def dot_scorer(model: GraphModel) -> Scorer:
    """Score by the dot products of final vectors."""
    users, items = model.final()

    def scores(chosen: Ints) -> Tensor:
        return torch.mm(users[torch.from_numpy(chosen).to(users.device)], items.T)

    return scores
