"""What every model of this stage offers: scores of items for users; if it learns, an objective and item vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from tgqformer.collaborative.data import take
from tgqformer.collaborative.training import EpochObjective
from tgqformer.evaluation.metrics import Csr
from tgqformer.types import Ints

Scorer: TypeAlias = Callable[[Ints], Tensor]
"""Users int64 [b] → scores float32 [b, N] of all items, higher is better."""


@dataclass(frozen=True)
class Recommender:
    """A model that is trained, evaluated and embedded.

    scorer: given what is known of each user (Csr of U rows), makes a `Scorer`; call it after training.
    vectors: returns the item vectors float32 [N, d], as the score takes them; None for models that only count pairs.
    score: how two vectors are compared: `dot` (lengths matter) or `cosine` (of unit length already).
    objective: what trains it; None for models that only count.
    """

    scorer: Callable[[Csr], Scorer]
    vectors: Callable[[], Tensor] | None = None
    score: Literal["dot", "cosine"] = "dot"
    objective: EpochObjective | None = None


def profile_scorer(vectors: Callable[[], Tensor]) -> Callable[[Csr], Scorer]:
    """Score items by the mean vector of what a user touched: for models that only know items."""

    def scorer(known: Csr) -> Scorer:
        table = vectors()

        def scores(users: Ints) -> Tensor:
            place, items = (torch.from_numpy(one).to(table.device) for one in take(known, users))
            profile = table.new_zeros(len(users), table.shape[1]).index_add_(0, place, table[items])
            counts = torch.bincount(place, minlength=len(users)).clamp_min(1)
            return (profile / counts[:, None]) @ table.T

        return scores

    return scorer
